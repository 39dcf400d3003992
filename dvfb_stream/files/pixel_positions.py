"""Where a point of pyFAI's detector plane lies in its image: the inverse of pyFAI's map from pixels to positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS_AT_A_TIME = 512
"""Of which positions are computed; all those of 16 megapixels take 400 MB."""

INSIDE = 0.25
"""Pixels from a pixel's centre to where its slope is taken: still inside, be it at the image's edge or a module's."""

REACH = 0.7
"""Pixels from its centre that a pixel may reach: hexagonal ones have their corners 0.67 rows away."""

PROBES = 64
"""Rows and columns at which pixels are looked at; modules are larger than a 64th of a detector."""

SLACK = 0.05
"""Pixels: rounding of positions in single precision, over 4000 pixels."""


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """A point of a detector in its image."""

    row: float
    """Pixel centres at integers."""
    column: float
    downward: int
    """1 where pyFAI's first coordinate grows with the row, -1 where it shrinks: where the detector is turned."""
    rightward: int
    """The same of its second coordinate and the column."""


def pixel_at(detector: Any, position1: float, position2: float) -> PixelPlace:
    """Return where a point of a flat detector of pyFAI lies in its image.

    pyFAI has two maps of a few turned detectors (XPAD, Jungfrau; orientation 1, 2 or 4) that contradict each other.
    This is the one from pixel indices, ``calc_cartesian_positions(d1, d2)``: calibrations are fitted by it, and
    pyFAI's arrays of scattering angles are computed by it. Off the image pixels go on in the detector's pitch. A
    point in a gap that has no pixels is at the edge of the nearest one.

    Parameters
    ----------
    detector
        pyFAI's detector, with pixel sizes; without a shape it counts as unturned.
    position1, position2
        Metres down and to the right of the detector's corner, as Poni1 and Poni2 are.
    """
    if detector.shape is None:
        return PixelPlace(position1 / detector.pixel1 - 0.5, position2 / detector.pixel2 - 0.5, 1, 1)
    shape = np.array(detector.shape[:2], dtype=int)
    point = np.array([position1, position2])
    pitch = np.array([detector.pixel1, detector.pixel2], dtype=float)
    pixel = _nearest_of_grid(detector, point, pitch)
    if pixel is None:
        pixel = _nearest(detector, point)
    offset, slopes = _within(detector, pixel, point)
    for step in np.diag(np.sign(offset) * (np.abs(offset) > 0.5)).astype(int):
        # The nearest centre may be that of a smaller pixel beside the one that the point lies in.
        neighbour = (pixel + step).clip(0, shape - 1)
        there, slopes_there = _within(detector, neighbour, point)
        if np.abs(there).max() < np.abs(offset).max():
            pixel, offset, slopes = neighbour, there, slopes_there
    inside = offset.clip(-REACH, REACH)
    # What lies beyond the last pixel is counted in pixels of the usual size.
    beyond = (offset - inside) * np.abs(np.diag(slopes)) / pitch
    outward = np.where(beyond < 0, pixel == 0, pixel == shape - 1)
    row, column = pixel + inside + np.where(outward, beyond, 0.0)
    downward, rightward = np.sign(np.diag(slopes)).astype(int)
    return PixelPlace(float(row), float(column), int(downward), int(rightward))


def displacement(detector: Any, place: PixelPlace) -> float:
    """Return how far pixels lie at most from where equal steps from `place` would put them, in pixels.

    That is 0 but for detectors with gaps that have no pixels, larger pixels between chips, or distortion.
    """
    if detector.shape is None or detector.uniform_pixel:
        return 0.0
    ends = [np.unique(np.linspace(0, length - 1, PROBES).astype(int)) for length in detector.shape[:2]]
    rows, columns = (probes.astype(float) for probes in np.meshgrid(*ends, indexing="ij"))
    pitch = np.array([detector.pixel1, detector.pixel2])
    at = _positions(detector, rows, columns) / pitch
    there = _positions(detector, np.array([np.rint(place.row)]), np.array([np.rint(place.column)]))[0] / pitch
    steps = np.stack([rows - np.rint(place.row), columns - np.rint(place.column)], axis=-1)
    return float(np.abs(at - there - steps * (place.downward, place.rightward)).max())


def _within(detector: Any, pixel: Any, point: Any) -> tuple[Any, Any]:
    """Return where a point lies from the centre of a pixel, in that pixel's own sides, and the sides in metres."""
    at = _positions(detector, pixel[0] + np.array([0, INSIDE, 0]), pixel[1] + np.array([0, 0, INSIDE]))
    slopes = (at[1:] - at[0]).T / INSIDE
    return np.linalg.solve(slopes, point - at[0]), slopes


def _positions(detector: Any, rows: Any, columns: Any) -> Any:
    """Return (n, 2): metres down and to the right of pixels, given by their indices."""
    at = detector.calc_cartesian_positions(np.asarray(rows, float), np.asarray(columns, float))
    return np.stack([np.asarray(at[0], float), np.asarray(at[1], float)], axis=-1)


def _nearest_of_grid(detector: Any, point: Any, pitch: Any) -> Any | None:
    """Return (row, column) of the pixel nearest to a point; None where pixels do not lie in equal steps."""
    shape = np.array(detector.shape[:2], dtype=int)
    ends = _positions(detector, np.array([0.0, shape[0] - 1]), np.array([0.0, shape[1] - 1]))
    steps = np.where(ends[1] < ends[0], -pitch, pitch)
    # Some say that their pixels are uniform, and have gaps.
    if not detector.uniform_pixel or (np.abs(ends[1] - ends[0] - steps * (shape - 1)) > SLACK * pitch).any():
        return None
    return np.rint((point - ends[0]) / steps).clip(0, shape - 1).astype(int)


def _nearest(detector: Any, point: Any) -> Any:
    """Return (row, column) of the pixel nearest to a point, wherever pixels lie."""
    rows, columns = (int(length) for length in detector.shape[:2])
    least, found = np.inf, (0, 0)
    for first in range(0, rows, ROWS_AT_A_TIME):
        block = np.indices((min(ROWS_AT_A_TIME, rows - first), columns), dtype=float)
        at = _positions(detector, block[0] + first, block[1])
        distances = np.hypot(at[..., 0] - point[0], at[..., 1] - point[1])
        place = int(np.nanargmin(distances))
        if distances.flat[place] < least:
            least = float(distances.flat[place])
            row, column = divmod(place, columns)
            found = (first + row, column)
    return np.array(found)
