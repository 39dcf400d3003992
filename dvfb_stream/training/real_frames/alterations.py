"""Frames changed in ways that change no label: mounted, exposed, masked, binned or read out otherwise.

All need square pixels. What marks a pixel as invalid by its value becomes part of the mask first, so that no change
of counts or type makes such a value a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame, Geometry, InvalidValues
from dvfb_stream.invalid_pixels import invalid_pixels
from dvfb_stream.training.real_frames.weighted_scores import ratio
from dvfb_stream.view.count_scale import count_scale

IN_THE_MASK = InvalidValues(above=2.0**62)
"""All that is invalid: no greatest value of an altered frame says with how many bits it was taken."""
NEAR = 30
"""Pixels around the beam: where at least half of them are masked, the mask has the beamstop."""
MOST_PHOTONS = 1e15
"""Of a pixel that are drawn by chance: beyond, their noise is less than what double precision rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A frame in counts, with all that is invalid in its mask."""

    frame: Frame
    """What is altered; 0 where it is not valid."""
    unmasked: Frame
    """The same without the mask that was given: only values that are no counts are masked."""


def settle(frame: Frame) -> Settled:
    """Return a frame with all that is invalid in its mask, those pixels 0, and all else in counts.

    `dvfb_stream.invalid_pixels` says which values are no counts, `dvfb_stream.view.count_scale` what one count is.
    Counts get a type with room for ten times as many.
    """
    pixels, geometry, given = np.asarray(frame.pixels), frame.geometry, valid_pixels(frame)
    rules = invalid_pixels(pixels.dtype, geometry.invalid_values)
    valid = given & rules.valid(pixels)
    known = np.where(valid, pixels, 0)
    again = rules.reconsidered(known.min(), known.max())
    if again is not None:
        rules = again
        valid = given & rules.valid(pixels)
        known = np.where(valid, pixels, 0)
    if geometry.counts_per_unit is not None:
        unit = 1 / geometry.counts_per_unit
    else:
        unit = count_scale(pixels, valid, rules, least=float(known.min()), greatest=float(known.max())).unit
    believed = rules.valid(pixels)
    counts: NDArray[Any] = np.where(believed, pixels, 0)
    counts = counts.astype(np.float64 if pixels.dtype.kind == "f" else np.int64)
    if unit != 1:
        counts = counts / unit
    return Settled(altered(np.where(valid, counts, 0), valid, geometry), altered(counts, believed, geometry))


def turned(frame: Frame, quarters: int, *, mirrored: bool) -> Frame:
    """Return a frame mirrored left to right or not, then turned by quarters of a circle; exact."""
    geometry = frame.geometry
    pixels, mask, x, y = frame.pixels, valid_pixels(frame), geometry.center_x, geometry.center_y
    if mirrored:
        pixels, mask, x = pixels[:, ::-1], mask[:, ::-1], geometry.shape[1] - 1 - x
    for _ in range(quarters):
        x, y = y, pixels.shape[1] - 1 - x
        pixels, mask = np.rot90(pixels), np.rot90(mask)
    return altered(np.ascontiguousarray(pixels), np.ascontiguousarray(mask), geometry, center=(x, y))


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
    valid = inside & valid_pixels(frame)[from_y, from_x]
    off_x, off_y = frame.geometry.center_x - middle_x, frame.geometry.center_y - middle_y
    return altered(
        np.where(valid, frame.pixels[from_y, from_x], 0),
        valid,
        frame.geometry,
        center=(new_x + cos * off_x - sin * off_y, new_y + sin * off_x + cos * off_y),
    )


def with_centre_off(frame: Frame, x: float, y: float) -> Frame:
    """Return a frame of which the beam centre is stated wrongly by so many pixels."""
    geometry = frame.geometry
    center = (geometry.center_x + x, geometry.center_y + y)
    return altered(frame.pixels, valid_pixels(frame), geometry, center=center)


def exposed(frame: Frame, factor: float, random: np.random.Generator) -> Frame:
    """Return a frame exposed `factor` times as long.

    Where the factor is below 1, photons are thinned, as a shorter exposure does, so that they keep counting noise:
    counts, or, where numbers are no whole counts, what `photon_worth` says. Where it is above 1, numbers are
    multiplied, as a detector of that gain does.
    """
    pixels, valid = np.asarray(frame.pixels), valid_pixels(frame)
    whole = are_counts(pixels)
    if factor >= 1:
        more = pixels * factor
        return altered(np.rint(more) if whole else more, valid, frame.geometry)
    worth = 1.0 if whole else photon_worth(pixels, valid)
    if worth <= 0:
        return altered(pixels * factor, valid, frame.geometry)
    photons = np.maximum(pixels / worth, 0)
    # Up or down by chance, so that the mean stays.
    n_photons = np.minimum(np.floor(photons + (0.0 if whole else random.random(pixels.shape))), MOST_PHOTONS)
    fewer = random.binomial(n_photons.astype(np.int64), factor) * worth
    thinned = np.where((pixels < 0) | (photons > MOST_PHOTONS), pixels * factor, fewer)
    return altered(thinned.astype(pixels.dtype), valid, frame.geometry)


def scaled(frame: Frame, factor: float) -> Frame:
    """Return a frame of which all values were multiplied, as by a monitor, and nobody says what one count is."""
    pixels = np.asarray(frame.pixels) * factor
    return altered(pixels, valid_pixels(frame), frame.geometry, counts_per_unit=None)


def binned(frame: Frame) -> Frame:
    """Return a frame of which each 2 x 2 pixels are summed to one; valid where all four are. An odd edge is lost."""
    rows, columns = (length // 2 * 2 for length in frame.geometry.shape)
    blocks = (rows // 2, 2, columns // 2, 2)
    valid: NDArray[np.bool_] = np.all(valid_pixels(frame)[:rows, :columns].reshape(blocks), axis=(1, 3))
    sums = np.asarray(frame.pixels)[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    x, y = ((centre - 0.5) / 2 for centre in (frame.geometry.center_x, frame.geometry.center_y))
    return altered(np.where(valid, sums, 0), valid, frame.geometry, center=(x, y))


def on_larger_detector(frame: Frame, factor: float) -> Frame:
    """Return a frame in the middle of a detector `factor` times as long and wide, masked around it."""
    rows, columns = frame.geometry.shape
    height, width = round(rows * factor), round(columns * factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    pixels, valid = np.zeros((height, width), np.asarray(frame.pixels).dtype), np.zeros((height, width), bool)
    pixels[top : top + rows, left : left + columns] = frame.pixels
    valid[top : top + rows, left : left + columns] = valid_pixels(frame)
    center = (frame.geometry.center_x + left, frame.geometry.center_y + top)
    return altered(pixels, valid, frame.geometry, center=center)


def isotropic_twin(frame: Frame, random: np.random.Generator) -> Frame:
    """Return a frame with the mean along the azimuth of this one and its counting noise, under the same mask.

    Whatever it shows is the same in all directions: no fold, no symmetric ring or halo can be there. Where numbers
    are no whole counts, one photon is worth what neighbouring pixels differ by: half the mean square over the mean.
    """
    pixels, valid = np.asarray(frame.pixels), valid_pixels(frame)
    radius = distances(frame.geometry)
    profile = azimuthal_mean(pixels, valid, radius)
    known = np.flatnonzero(np.isfinite(profile))
    mean = np.interp(radius, known, profile[known]).clip(0)
    return altered(np.where(valid, noisy_like(frame, mean, random), 0), valid, frame.geometry)


def noisy_like(frame: Frame, mean: NDArray[np.float64], random: np.random.Generator) -> NDArray[Any]:
    """Return numbers of a mean (rows, columns) with the counting noise and the type of a frame's."""
    pixels = np.asarray(frame.pixels)
    if are_counts(pixels):
        return random.poisson(np.minimum(mean, MOST_PHOTONS)).astype(pixels.dtype)
    worth = photon_worth(pixels, valid_pixels(frame))
    return random.poisson(np.minimum(mean / worth, MOST_PHOTONS)) * worth if worth > 0 else mean


def azimuthal_mean(
    pixels: NDArray[Any], valid: NDArray[np.bool_], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over valid pixels of radius 0, 1, 2, ... to the nearest pixel; NaN where there is none."""
    ring = np.rint(radius[valid]).astype(int)
    counts = np.bincount(ring).astype(float)
    sums = np.bincount(ring, weights=pixels[valid].astype(float)).astype(float)
    return ratio(sums, counts)


def photon_worth(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> float:
    """Return what one photon is worth by what valid neighbours differ by; 0 where nothing says it."""
    both = valid[:, 1:] & valid[:, :-1]
    if not both.any():
        return 0.0
    left, right = pixels[:, :-1][both], pixels[:, 1:][both]
    mean = (left + right).mean() / 2
    return float(np.square(left - right).mean() / 2 / mean) if mean > 0 else 0.0


def are_counts(pixels: NDArray[Any]) -> bool:
    """Return whether all numbers are whole and not negative."""
    return bool((pixels >= 0).all() and (pixels == np.rint(pixels)).all())


def gaps_of(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels are of gaps between modules: of masked rows or columns with valid ones on both sides."""
    rows, columns = (_between(np.asarray(valid.any(axis=axis))) for axis in (1, 0))
    return np.asarray(rows[:, None] | columns[None, :])


def _between(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    before, after = np.logical_or.accumulate(seen), np.logical_or.accumulate(seen[::-1])[::-1]
    return np.asarray(~seen & before & after)


def connected(pixels: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return those of some pixels that are connected with seeds among them, edge to edge."""
    from scipy.ndimage import label

    parts, _ = label(pixels)
    there = np.unique(parts[seeds & pixels])
    return np.asarray(np.isin(parts, there[there > 0]))


def distances(geometry: Geometry) -> NDArray[np.float64]:
    """Return each pixel's distance from the beam, (rows, columns), in pixels."""
    y, x = np.indices(geometry.shape, sparse=True)
    return np.asarray(np.hypot(x - geometry.center_x, y - geometry.center_y))


def valid_pixels(frame: Frame) -> NDArray[np.bool_]:
    """Return a frame's mask, all True where it has none."""
    mask = frame.geometry.mask
    return np.ones(frame.geometry.shape, bool) if mask is None else mask


def altered(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_],
    geometry: Geometry,
    *,
    center: tuple[float, float] | None = None,
    counts_per_unit: float | None = 1.0,
) -> Frame:
    """Return a frame with pixels and mask of one's own, and a geometry's centre (x, y) unless another is given."""
    rows, columns = pixels.shape
    x, y = center or (geometry.center_x, geometry.center_y)
    new = Geometry(
        shape=(rows, columns),
        center_x=x,
        center_y=y,
        mask=valid,
        invalid_values=IN_THE_MASK,
        counts_per_unit=counts_per_unit,
    )
    return Frame(pixels, new)
