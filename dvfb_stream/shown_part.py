"""The part of a detector that a view shows: what a mask leaves, without the masked margins around it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Geometry
from dvfb_stream.remarks import LEAST_VIEW_SHARE

LEAST_WITHIN_REACH = 0.5
"""Share of the valid pixels that must lie no farther from the beam than the part is long, where the disk of the basis
ends. Of a window far from the beam too few would be left to be estimated, and the whole detector is shown."""


@dataclass(frozen=True, slots=True)
class ShownPart:
    """Neighbouring rows and columns of a detector."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return those of (rows, columns) pixels that are in it, not copied."""
        return pixels[self.rows, self.columns]

    def geometry(self, whole: Geometry) -> Geometry:
        """Return the geometry of a detector that has these pixels alone; the same one where these are all."""
        if self.shape == whole.shape:
            return whole
        mask = None if whole.mask is None else self.of(whole.mask)
        return replace(
            whole,
            shape=self.shape,
            center_x=whole.center_x - self.columns.start,
            center_y=whole.center_y - self.rows.start,
            mask=None if mask is None or mask.all() else mask,
            masked=None,
        )


def shown_part(geometry: Geometry) -> ShownPart:
    """Return what a view shows of the detector.

    It is what `without_margins` returns; or all of the detector, where most of that lies far from the beam.
    """
    part = without_margins(geometry)
    if part.shape == geometry.shape or _within_reach(part.geometry(geometry)):
        return part
    return _all_of(geometry)


def without_margins(geometry: Geometry) -> ShownPart:
    """Return the smallest part that has all valid pixels, whatever the beam centre.

    What would fill less than `LEAST_VIEW_SHARE` of a view of the whole detector is not cut out: no label is accepted
    of it, as small as it is; most likely the mask was given the wrong way round.
    """
    if geometry.mask is None:
        return _all_of(geometry)
    rows, columns = (np.flatnonzero(geometry.mask.any(axis=axis)) for axis in (1, 0))
    part = ShownPart(slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    height, width = part.shape
    whole = longer_side(geometry.shape, geometry.pixel_aspect)
    if height * geometry.pixel_aspect * width < LEAST_VIEW_SHARE * whole**2:
        return _all_of(geometry)
    return part


def longer_side(shape: tuple[int, int], pixel_aspect: float) -> float:
    """Return the longer side of (rows, columns) pixels, in widths of a pixel."""
    return max(shape[0] * pixel_aspect, shape[1])


def _all_of(geometry: Geometry) -> ShownPart:
    rows, columns = geometry.shape
    return ShownPart(slice(0, rows), slice(0, columns))


def _within_reach(part: Geometry) -> bool:
    y = (np.arange(part.shape[0])[:, None] - part.center_y) * part.pixel_aspect
    x = np.arange(part.shape[1]) - part.center_x
    reach = longer_side(part.shape, part.pixel_aspect) ** 2
    y *= y
    x *= x
    if y.max() + x.max() <= reach:
        return True
    within = y + x <= reach
    if part.mask is None:
        return float(within.mean()) >= LEAST_WITHIN_REACH
    valid = int(np.count_nonzero(part.mask))
    return int(np.count_nonzero(within & part.mask)) >= LEAST_WITHIN_REACH * valid


def span(shape: tuple[int, int], pixel_aspect: float, mask: NDArray[np.bool_] | None) -> float:
    """Return how long a detector is, in widths of a pixel, however it is turned.

    It is the side of a rectangle whose pixels lie as far apart on average, by their second moment along the direction
    in which that is greatest: the longer side of a rectangle, 0.87 diameters of a disk. Unlike `longer_side` it is
    the same when the detector, or an image of it, is turned by any angle.

    Parameters
    ----------
    shape
        (rows, columns).
    pixel_aspect
        Height over width of a pixel.
    mask
        (rows, columns), True = valid, at least one; None: all are.
    """
    if mask is None:
        return longer_side(shape, pixel_aspect)
    in_rows, in_columns = (mask.sum(axis=axis, dtype=float) for axis in (1, 0))
    y, x = np.arange(shape[0]) * pixel_aspect, np.arange(shape[1], dtype=float)
    number = in_rows.sum()
    y -= in_rows @ y / number
    x -= in_columns @ x / number
    # A pixel's own extent besides the distances between pixels.
    yy = in_rows @ y**2 / number + pixel_aspect**2 / 12
    xx = in_columns @ x**2 / number + 1 / 12
    xy = y.astype(np.float32) @ (mask @ x.astype(np.float32)) / number
    greatest = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[-1]
    return math.sqrt(12 * float(greatest))
