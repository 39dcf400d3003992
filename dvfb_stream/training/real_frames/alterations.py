"""Frames changed in ways that change no label: mounted, exposed, masked, binned or read out otherwise.

All need square pixels. What marks a pixel as invalid by its value becomes part of the mask first, so that no change
of counts or type makes such a value a count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame, Geometry, InvalidValues
from dvfb_stream.invalid_pixels import invalid_pixels
from dvfb_stream.training.real_frames.weighted_scores import ratio
from dvfb_stream.view.count_scale import count_scale

BEAMSTOP_SHARE = 0.125
"""Of the detector's longer side: a beamstop's shadow ends within this radius."""
IN_THE_MASK = InvalidValues(above=2.0**62)
"""All that is invalid: no greatest value of an altered frame says with how many bits it was taken."""
NEAR = 30
"""Pixels around the beam: where at least half of them are masked, the mask has the beamstop."""


def settled(frame: Frame) -> Frame:
    """Return a frame with all that is invalid in its mask, those pixels 0, and all else in counts.

    `dvfb_stream.invalid_pixels` says which values are no counts, `dvfb_stream.view.count_scale` what one count is.
    Counts get a type with room for ten times as many.
    """
    pixels, geometry = np.asarray(frame.pixels), frame.geometry
    rules = invalid_pixels(pixels.dtype, geometry.invalid_values)
    valid = _valid(frame) & rules.valid(pixels)
    known = np.where(valid, pixels, 0)
    again = rules.reconsidered(known.min(), known.max())
    if again is not None:
        valid = _valid(frame) & again.valid(pixels)
        known = np.where(valid, pixels, 0)
    kind = np.float64 if pixels.dtype.kind == "f" else np.int64
    counts = known.astype(kind)
    if geometry.counts_per_unit is not None:
        unit = 1 / geometry.counts_per_unit
    else:
        unit = count_scale(pixels, valid, rules, least=float(known.min()), greatest=float(known.max())).unit
    return _frame(counts if unit == 1 else counts / unit, valid, geometry)


def turned(frame: Frame, quarters: int, *, mirrored: bool) -> Frame:
    """Return a frame mirrored left to right or not, then turned by quarters of a circle; exact."""
    geometry = frame.geometry
    pixels, mask, x, y = frame.pixels, _valid(frame), geometry.center_x, geometry.center_y
    if mirrored:
        pixels, mask, x = pixels[:, ::-1], mask[:, ::-1], geometry.shape[1] - 1 - x
    for _ in range(quarters):
        x, y = y, pixels.shape[1] - 1 - x
        pixels, mask = np.rot90(pixels), np.rot90(mask)
    return _moved(np.ascontiguousarray(pixels), np.ascontiguousarray(mask), x, y)


def rotated(frame: Frame, degrees: float) -> Frame:
    """Return a frame turned about its middle, on a detector that holds all of it; the rest of that is masked.

    Each pixel takes the counts of the one under its middle, so that counting noise stays what it is.
    """
    rows, columns = frame.geometry.shape
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    height = int(np.ceil(abs(rows * cos) + abs(columns * sin)))
    width = int(np.ceil(abs(rows * sin) + abs(columns * cos)))
    middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2
    new_x, new_y = (width - 1) / 2, (height - 1) / 2
    y, x = np.indices((height, width), sparse=True)
    from_x = np.rint(middle_x + cos * (x - new_x) + sin * (y - new_y)).astype(int)
    from_y = np.rint(middle_y - sin * (x - new_x) + cos * (y - new_y)).astype(int)
    inside = (from_x >= 0) & (from_x < columns) & (from_y >= 0) & (from_y < rows)
    from_x, from_y = np.where(inside, from_x, 0), np.where(inside, from_y, 0)
    valid = inside & _valid(frame)[from_y, from_x]
    off_x, off_y = frame.geometry.center_x - middle_x, frame.geometry.center_y - middle_y
    return _moved(
        np.where(valid, frame.pixels[from_y, from_x], 0),
        valid,
        new_x + cos * off_x - sin * off_y,
        new_y + sin * off_x + cos * off_y,
    )


def with_centre_off(frame: Frame, x: float, y: float) -> Frame:
    """Return a frame of which the beam centre is stated wrongly by so many pixels."""
    geometry = frame.geometry
    return _moved(frame.pixels, _valid(frame), geometry.center_x + x, geometry.center_y + y)


def exposed(frame: Frame, factor: float, random: np.random.Generator) -> Frame:
    """Return a frame exposed `factor` times as long.

    Whole counts are thinned where the factor is below 1, as a shorter exposure does, so that they keep counting
    noise; otherwise, and where numbers are no whole counts, they are multiplied.
    """
    pixels = np.asarray(frame.pixels)
    if factor < 1 and _are_counts(pixels):
        fewer = random.binomial(pixels.astype(np.int64), factor)
        return _frame(fewer.astype(pixels.dtype), _valid(frame), frame.geometry)
    more = pixels * factor
    return _frame(np.rint(more) if _are_counts(pixels) else more, _valid(frame), frame.geometry)


def with_beamstop_otherwise(frame: Frame) -> Frame | None:
    """Return a frame with the beamstop masked where it was not, or not masked where it was.

    A mask that covers most of the beam's surroundings loses what is connected with them there. Otherwise a disk is
    masked, out to where the mean along the azimuth is largest near the beam. None where the beam is off the detector,
    where no shadow is seen, or where what is left would be nothing.
    """
    from scipy.ndimage import label

    geometry, valid = frame.geometry, _valid(frame)
    radius = _radius(geometry)
    if radius.min() > 1:
        return None
    near = radius < NEAR
    if not valid[near].any() or valid[near].mean() <= 0.5:
        parts, _ = label(~valid)
        there = np.unique(parts[near & ~valid])
        opened = valid | np.isin(parts, there[there > 0])
        return _frame(frame.pixels, opened, geometry)
    reach = int(BEAMSTOP_SHARE * max(geometry.shape))
    profile = azimuthal_mean(frame.pixels, valid, radius)[:reach]
    edge = int(np.nanargmax(profile)) if np.isfinite(profile).any() else 0
    masked = valid & (radius > edge)
    return _frame(frame.pixels, masked, geometry) if edge >= 2 and masked.any() else None


def binned(frame: Frame) -> Frame:
    """Return a frame of which each 2 x 2 pixels are summed to one; valid where all four are. An odd edge is lost."""
    rows, columns = (length // 2 * 2 for length in frame.geometry.shape)
    blocks = (rows // 2, 2, columns // 2, 2)
    valid: NDArray[np.bool_] = np.all(_valid(frame)[:rows, :columns].reshape(blocks), axis=(1, 3))
    sums = np.asarray(frame.pixels)[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    x, y = ((centre - 0.5) / 2 for centre in (frame.geometry.center_x, frame.geometry.center_y))
    return _moved(np.where(valid, sums, 0), valid, x, y)


def on_larger_detector(frame: Frame, factor: float) -> Frame:
    """Return a frame in the middle of a detector `factor` times as long and wide, masked around it."""
    rows, columns = frame.geometry.shape
    height, width = round(rows * factor), round(columns * factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    pixels, valid = np.zeros((height, width), np.asarray(frame.pixels).dtype), np.zeros((height, width), bool)
    pixels[top : top + rows, left : left + columns] = frame.pixels
    valid[top : top + rows, left : left + columns] = _valid(frame)
    return _moved(pixels, valid, frame.geometry.center_x + left, frame.geometry.center_y + top)


def isotropic_twin(frame: Frame, random: np.random.Generator) -> Frame:
    """Return a frame with the mean along the azimuth of this one and its counting noise, under the same mask.

    Whatever it shows is the same in all directions: no fold, no symmetric ring or halo can be there. Where numbers
    are no whole counts, one photon is worth what neighbouring pixels differ by: half the mean square over the mean.
    """
    pixels, valid = np.asarray(frame.pixels), _valid(frame)
    radius = _radius(frame.geometry)
    profile = azimuthal_mean(pixels, valid, radius)
    known = np.flatnonzero(np.isfinite(profile))
    mean = np.interp(radius, known, profile[known]).clip(0)
    if _are_counts(pixels):
        return _frame(np.where(valid, random.poisson(mean), 0).astype(pixels.dtype), valid, frame.geometry)
    worth = _photon(pixels, valid)
    noisy = random.poisson(mean / worth) * worth if worth > 0 else mean
    return _frame(np.where(valid, noisy, 0), valid, frame.geometry)


def azimuthal_mean(
    pixels: NDArray[Any], valid: NDArray[np.bool_], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over valid pixels of radius 0, 1, 2, ... to the nearest pixel; NaN where there is none."""
    ring = np.rint(radius[valid]).astype(int)
    counts = np.bincount(ring).astype(float)
    sums = np.bincount(ring, weights=pixels[valid].astype(float)).astype(float)
    return ratio(sums, counts)


def _photon(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> float:
    both = valid[:, 1:] & valid[:, :-1]
    left, right = pixels[:, :-1][both], pixels[:, 1:][both]
    mean = (left + right).mean() / 2
    return float(np.square(left - right).mean() / 2 / mean) if mean > 0 else 0.0


def _are_counts(pixels: NDArray[Any]) -> bool:
    return bool((pixels >= 0).all() and (pixels == np.rint(pixels)).all())


def _radius(geometry: Geometry) -> NDArray[np.float64]:
    y, x = np.indices(geometry.shape, sparse=True)
    return np.asarray(np.hypot(x - geometry.center_x, y - geometry.center_y))


def _valid(frame: Frame) -> NDArray[np.bool_]:
    mask = frame.geometry.mask
    return np.ones(frame.geometry.shape, bool) if mask is None else mask


def _frame(pixels: NDArray[Any], valid: NDArray[np.bool_], geometry: Geometry) -> Frame:
    return _moved(pixels, valid, geometry.center_x, geometry.center_y)


def _moved(pixels: NDArray[Any], valid: NDArray[np.bool_], x: float, y: float) -> Frame:
    rows, columns = pixels.shape
    geometry = Geometry(
        shape=(rows, columns),
        center_x=x,
        center_y=y,
        mask=valid,
        invalid_values=IN_THE_MASK,
        counts_per_unit=1.0,
    )
    return Frame(pixels, geometry)
