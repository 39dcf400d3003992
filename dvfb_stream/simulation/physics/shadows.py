"""Shadows of real beamlines: a beamstop's disk on a thin arm, straight or bent, and things that stand at one side."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A disk on the beam, on an arm that may bend; lengths in view pixels, angles in radians."""

    radius: float
    """Of the disk."""
    direction: float
    """In which the arm leaves the disk."""
    bend: float
    """By which it turns, `bend_at` from the beam."""
    bend_at: float
    half_width: float
    """Of the arm; 0: none is seen."""
    leak: float
    """What the disk lets through."""
    arm_leak: float
    """What the arm lets through."""
    edge: float
    """Width over which edges are blurred."""
    declared: bool
    """Whether the pixels under the disk are declared invalid."""
    arm_declared: bool
    """Whether those under the arm are, too."""

    def through(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what passes at points (x, y) from the beam, 0 to 1."""
        disk = self._covered(torch.hypot(x, y) - self.radius)
        result = 1.0 - disk * (1.0 - self.leak)
        if self.half_width:
            result = torch.minimum(result, 1.0 - self._covered(self._to_arm(x, y)) * (1.0 - self.arm_leak))
        return result

    def invalid(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which points are declared invalid, bool."""
        if not self.declared:
            return torch.zeros_like(x, dtype=torch.bool)
        hidden = self._covered(torch.hypot(x, y) - self.radius) >= 0.05
        if self.half_width and self.arm_declared:
            hidden |= self._covered(self._to_arm(x, y)) >= 0.05
        return hidden

    def _covered(self, distance: Tensor) -> Tensor:
        return torch.sigmoid(-distance / self.edge)

    def _to_arm(self, x: Tensor, y: Tensor) -> Tensor:
        """Return signed distances to the arm: a segment as far as the bend, and a ray from there on."""
        first = self.bend_at if self.bend else math.inf
        distance = _to_segment(x, y, direction=self.direction, length=first)
        if self.bend:
            knee_x, knee_y = first * math.cos(self.direction), first * math.sin(self.direction)
            beyond = _to_segment(
                x - knee_x, y - knee_y, direction=self.direction + self.bend, length=math.inf
            )
            distance = torch.minimum(distance, beyond)
        return distance - self.half_width

    def described(self) -> dict[str, Any]:
        """Return what it is, JSON-ready."""
        return {"stop": "arm", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What holds back a part of what arrives at one side; lengths in view pixels, angles in radians."""

    direction: float
    """From the beam to it."""
    distance: float
    """From the beam to its edge, or to the middle of a round one."""
    radius: float
    """Of a round one; 0: a straight edge, with all beyond in its shadow."""
    through: float
    """What passes, 0 to 1."""
    edge: float
    """Width over which its edge is blurred."""

    def at(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what passes at points (x, y) from the beam, 0 to 1."""
        cosine, sine = math.cos(self.direction), math.sin(self.direction)
        if self.radius:
            distance = torch.hypot(x - self.distance * cosine, y - self.distance * sine) - self.radius
        else:
            distance = self.distance - (x * cosine + y * sine)
        return 1.0 - (1.0 - self.through) * torch.sigmoid(-distance / self.edge)

    def described(self) -> dict[str, float]:
        """Return what it is, JSON-ready."""
        return asdict(self)


def _to_segment(x: Tensor, y: Tensor, *, direction: float, length: float) -> Tensor:
    """Return distances to a segment that begins at 0."""
    cosine, sine = math.cos(direction), math.sin(direction)
    along = (x * cosine + y * sine).clamp(min=0.0, max=length)
    return torch.hypot(x - along * cosine, y - along * sine)
