"""What of a detector sees anything: a round phosphor, or a rectangle whose corners and sides something cuts off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dvfb_stream.simulation.draws import Draws

SIDES = 8
"""Directions from which a detector may be cut, 45° apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A convex outline; lengths in units of half the detector's shorter side, from its middle."""

    declared: bool
    """Whether the pixels beyond are declared invalid; else they are dark."""
    radius: float = 0.0
    """Of a round detector; 0: cut straight."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Middle of the circle, to the right and down."""
    cuts: tuple[tuple[float, float], ...] = ()
    """Straight cuts: direction of the outward normal, radians, and distance from the middle."""

    def inside(self, x: Tensor, y: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return which pixels lie within, bool.

        Parameters
        ----------
        x, y
            Indices of detector pixels, of one shape.
        shape
            Rows and columns of the detector.
        """
        half = 0.5 * min(shape)
        right, down = (x - 0.5 * (shape[1] - 1)) / half, (y - 0.5 * (shape[0] - 1)) / half
        if self.radius:
            return (right - self.shift[0]) ** 2 + (down - self.shift[1]) ** 2 <= self.radius**2
        within = right == right
        for direction, distance in self.cuts:
            within &= right * math.cos(direction) + down * math.sin(direction) <= distance
        return within

    def described(self) -> dict[str, Any]:
        """Return what it is, JSON-ready."""
        form = (
            {"radius": self.radius, "shift": list(self.shift)}
            if self.radius
            else {"cuts": [*map(list, self.cuts)]}
        )
        return {"declared": self.declared, **form}


def draw_outline(
    draws: Draws, *, round_share: float, cropped_share: float, declared_share: float
) -> Outline | None:
    """Draw the outline of one experiment's detector; None: all of it sees. Takes the same draws in any case."""
    kind = float(draws.uniform()[0])
    declared = bool(draws.happens(declared_share)[0])
    # Tapers are as wide as the chip or a little wider: then only its corners are dark.
    radius = float(draws.uniform(0.9, 1.2)[0])
    shift = draws.normal(0.0, 0.03, count=2)[0]
    there = draws.happens(0.6, count=SIDES)[0]
    depth = draws.uniform(count=SIDES)[0]
    turn = float(draws.normal(0.0, 0.06)[0])
    if kind < round_share:
        return Outline(declared=declared, radius=radius, shift=(float(shift[0]), float(shift[1])))
    if kind >= round_share + cropped_share:
        return None
    cuts = []
    for side in range(SIDES):
        # Even sides are edges of the chip, at 1 on its shorter side; odd ones its corners, at 1.41 of a square.
        low, high = (0.85, 1.3) if side % 2 == 0 else (0.95, 1.4)
        if there[side] or side == 1:
            cuts.append((side * 0.25 * math.pi + turn, low + (high - low) * float(depth[side])))
    return Outline(declared=declared, cuts=tuple(cuts))
