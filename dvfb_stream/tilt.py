"""A detector that does not stand across the beam: where its pixels would lie on one that does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import GeometryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tilt:
    """How a flat detector is tilted about the point where the direct beam hits it.

    Lengths are in widths of a pixel.

    Raises
    ------
    GeometryError
        When the distance is not positive, or the two others are not components of a direction.

    Notes
    -----
    With n = (right, down) and p = (x, y) a point of the detector's plane, counted from the beam, the point lies
    distance + n·p along the beam and √(p² - (n·p)²) beside it. On a detector across the beam at the same distance D
    its ray hits D M p / (D + n·p), where M = 1 - (1 - √(1 - n²)) n nᵀ / n² is the symmetric root of 1 - n nᵀ.
    """

    distance: float
    """From the sample to where the direct beam hits the detector."""
    right: float
    """How much farther along the beam a point is for each length to the right in the detector's plane."""
    down: float
    """The same for each length down."""

    def __post_init__(self) -> None:
        try:
            numbers = tuple(float(value) for value in (self.distance, self.right, self.down))
        except (TypeError, ValueError, OverflowError):
            numbers = (math.nan,) * 3
        if not (0 < numbers[0] < math.inf and math.hypot(*numbers[1:]) < 1):
            raise GeometryError(
                "a tilt is a positive distance, and right and down with right² + down² < 1, not "
                f"{self.distance!r}, {self.right!r} and {self.down!r}"
            )
        for name, value in zip(("distance", "right", "down"), numbers, strict=True):
            object.__setattr__(self, name, value)

    @property
    def angle(self) -> float:
        """Between the beam and the detector's normal, radians."""
        return math.asin(math.hypot(self.right, self.down))

    def departure(self, radius: float) -> float:
        """Return about how far from a circle a ring of that radius is on the detector.

        It is moved away from the beam by radius² sin(angle) / distance, and is an ellipse whose axes are as
        1 : cos(angle).
        """
        return radius**2 * math.sin(self.angle) / self.distance + radius * (1 / math.cos(self.angle) - 1) / 2

    def straightened(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return where points of the detector would lie on one across the beam, counted from the beam.

        Not a number for those that lie beside or behind the sample.
        """
        farther = self.right * x + self.down * y
        scale = np.where(self.distance + farther > 0, self.distance / (self.distance + farther), np.nan)
        u, v = self._narrowed(x, y, math.cos(self.angle))
        return u * scale, v * scale

    def tilted(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return where points of a detector across the beam lie on this one: the inverse of `straightened`.

        Not a number where it has none.
        """
        u, v = self._narrowed(x, y, 1 / math.cos(self.angle))
        nearer = 1 - (self.right * u + self.down * v) / self.distance
        scale = np.where(nearer > 0, 1 / np.where(nearer > 0, nearer, 1), np.nan)
        return u * scale, v * scale

    def _narrowed(self, x: NDArray[Any], y: NDArray[Any], by: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return points with what they have along the direction of the tilt multiplied."""
        square = self.right**2 + self.down**2
        if not square:
            return x, y
        along = (self.right * x + self.down * y) * (by - 1) / square
        return x + along * self.right, y + along * self.down
