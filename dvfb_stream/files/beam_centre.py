"""A beam centre as beamlines write it down: in pixels or lengths, counted from wherever they count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dvfb_stream.errors import GeometryError

HALF_A_PIXEL = 0.5
"""Between the first pixel's outer corner, where lengths are counted from, and its centre, which is 0 here."""


class CentreUnit(StrEnum):
    """What the two numbers of a beam centre count, and from where."""

    PIXEL = "pixel"
    """Pixels from the centre of the first pixel."""
    MM = "mm"
    """Millimetres from the outer corner of the first pixel: as pyFAI's Poni1 and Poni2, NeXus's lengths."""
    M = "m"
    """Metres from there."""

    @property
    def mm(self) -> float:
        """Millimetres in one; not a number for pixels."""
        return {CentreUnit.PIXEL: math.nan, CentreUnit.MM: 1.0, CentreUnit.M: 1000.0}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSize:
    """How large a pixel is, millimetres."""

    height: float
    width: float

    def __post_init__(self) -> None:
        if not (0 < self.height < math.inf and 0 < self.width < math.inf):
            raise GeometryError(
                f"a pixel's height and width must be positive millimetres, not {self.height} and {self.width}"
            )

    @property
    def aspect(self) -> float:
        """Height divided by width; exactly 1 where they differ by rounding alone."""
        ratio = self.height / self.width
        return 1.0 if math.isclose(ratio, 1.0, rel_tol=1e-6) else ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamCentre:
    """Where somebody says the direct beam hits the detector."""

    x: float
    """To the right."""
    y: float
    """Down."""
    unit: CentreUnit = CentreUnit.PIXEL
    source: str = ""
    """Who says so, for people."""

    def in_pixels(self, size: PixelSize | None) -> tuple[float, float]:
        """Return (x, y) in pixels from the centre of the first pixel.

        Raises
        ------
        GeometryError
            When it is a length and the size of a pixel is not known.
        """
        if self.unit is CentreUnit.PIXEL:
            return self.x, self.y
        if size is None:
            raise GeometryError(
                f"the beam centre is given in {self.unit}, but the size of a pixel is not known; give pixel_mm, a "
                "detector or a poni file, or the centre in pixels"
            )
        x, y = self.x * self.unit.mm / size.width, self.y * self.unit.mm / size.height
        return x - HALF_A_PIXEL, y - HALF_A_PIXEL
