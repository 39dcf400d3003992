"""Stray light on one side of the beam: flares from the edges of slits and beamstops, arcs that pipes reflect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.draws import Draws
from dvfb_stream.simulation.settings import SimulationSettings

MOST_STRAY = 3
FLARE, ARC = "flare", "arc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """One flare or arc; lengths in view pixels, angles in radians."""

    kind: str
    """``flare``: a streak from the beam to one side; ``arc``: a part of a ring around another point than the beam."""
    direction: float
    """From the beam to where it is brightest."""
    length: float
    """Of a flare, until it has fallen to a half; distance of an arc from the beam."""
    width: float
    """Standard deviation across."""
    opening: float
    """By how much a flare widens outwards; half the angle that an arc spans."""
    bulge: float
    """Radius of an arc over its distance from the beam: 1 is a ring around the beam."""
    height: float
    """In units of a typical structure."""

    def at(self, x: Tensor, y: Tensor) -> Tensor:
        """Return its intensity at points (x, y) from the beam."""
        cosine, sine = math.cos(self.direction), math.sin(self.direction)
        along, across = x * cosine + y * sine, y * cosine - x * sine
        if self.kind == FLARE:
            forward = along.clamp(min=0.0)
            spread = self.width + self.opening * forward
            fall = (self.width / spread) / (1.0 + (along / self.length) ** 2)
            return self.height * torch.where(along > 0, torch.exp(-0.5 * (across / spread) ** 2) * fall, 0.0)
        radius = self.bulge * self.length
        forward = along - (self.length - radius)
        off = torch.hypot(forward, across) - radius
        angle = torch.atan2(across, forward)
        return self.height * torch.exp(-0.5 * ((off / self.width) ** 2 + (angle / self.opening) ** 2))

    def described(self) -> dict[str, Any]:
        """Return what it is, JSON-ready."""
        return asdict(self)


def stray_light(stray: Sequence[Stray], x: Tensor, y: Tensor) -> Tensor | None:
    """Return what an experiment's stray light gives at points (x, y), in units of a typical structure; None: nothing.

    It is the same in all its frames, but for the exposure.
    """
    if not stray:
        return None
    total = torch.zeros_like(x)
    for one in stray:
        total += one.at(x, y)
    return total


def draw_stray(draws: Draws, settings: SimulationSettings) -> tuple[Stray, ...]:
    """Draw the stray light of one experiment. Takes the same draws in any case."""
    there = bool(draws.happens(settings.stray)[0])
    count = 1 + int(draws.choice((0.6, 0.3, 0.1))[0])
    drawn = []
    for _ in range(MOST_STRAY):
        kind = FLARE if draws.happens(0.5)[0] else ARC
        direction = float(draws.uniform(0.0, 2.0 * np.pi)[0])
        near, far = float(draws.log_uniform(5.0, 60.0)[0]), float(draws.log_uniform(12.0, 110.0)[0])
        width, opening = float(draws.log_uniform(0.7, 4.0)[0]), float(draws.uniform(0.0, 0.12)[0])
        span, bulge = float(draws.uniform(0.15, 1.0)[0]), float(draws.log_uniform(0.4, 3.0)[0])
        height = 10.0 ** float(draws.uniform(-1.3, 1.0)[0])
        flare = kind == FLARE
        drawn.append(
            Stray(
                kind=kind,
                direction=direction,
                length=near if flare else far,
                width=width,
                opening=opening if flare else span,
                bulge=1.0 if flare else bulge,
                height=height * (5.0 if flare else 1.0),
            )
        )
    return tuple(drawn[:count]) if there else ()
