"""What one count is in the pixels of a frame: 1 of what a detector writes, other numbers after normalisation.

A view shows the logarithm of counts, and noise is known by them: a frame that was divided by a monitor shows the same
pattern as before, and must get the same labels. Where nobody states what a count is, the frame itself tells:

- **Steps.** Counts are integers. Where all values are multiples of one number, from some value on, that is a count.
- **Noise.** Where values were corrected pixel by pixel, photons still scatter as they do: the variance of n counts is
  n. Of values it is the mean times the value of a count (the photon transfer of detector makers; J. R. Janesick,
  Photon Transfer, SPIE 2007, chapter 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.invalid_pixels import InvalidPixels

LEAST_DECIDED = 128
"""Values other than the least from which on steps are believed. So many counts are not even by chance; of a sketch
of few pixels and few values all may be."""

SAMPLED_VALUES = 2048
"""Looked at for steps. Among so many of one frame, neighbouring counts are found up to ranges of a million."""

FINER = 10.0
"""Steps so much smaller than a count by its noise are of a number format, or of a correction by round factors."""

SAMPLED_ROWS = 16
"""Looked at for noise: 256 blocks of a megapixel frame, which give the variance of a level to some percent."""

BLOCK = 60
"""Neighbouring pixels of a row whose mean and variance are taken together."""

LEVELS = 16
"""Groups of blocks of like mean, of which each says what a count is; the median is believed."""

MOST_SPREAD = 3.0
"""Ratio of the upper to the lower quartile of what levels say. What has no photons' noise spreads over decades."""

MOST_COUNTS = 1e8
"""In a typical pixel. A frame without noise scatters by what single precision rounds, which would be 1e14 counts."""

AS_COUNTS = 2.0
"""Noise between this and its inverse says that values are counts: sharp structure adds up to a third to it, and a
factor of two in exposure changes no label."""

FOURTH_DIFFERENCE = (1.0, -4.0, 6.0, -4.0, 1.0)
"""Of five neighbours: it leaves nothing of what is cubic along them, and 70 times the variance."""


class ScaleSource(StrEnum):
    """How it is known what one count is."""

    STATED = "stated"
    """By the geometry."""
    COUNTS = "counts"
    """Values are counts."""
    STEPS = "steps"
    """Values are multiples of one number."""
    NOISE = "noise"
    """The variance of neighbours is in proportion to their mean."""
    UNKNOWN = "unknown"
    """Neither; values are taken for counts."""


@dataclass(frozen=True, slots=True)
class CountScale:
    """What one count is in the pixels of a frame."""

    unit: float
    """Value of one count."""
    source: ScaleSource

    @property
    def remark(self) -> str:
        """A sentence for the frame's row; empty where values are counts, or the user said what they are."""
        match self.source:
            case ScaleSource.STEPS:
                return f"All values are multiples of {self.unit:.4g}, which was taken for one count."
            case ScaleSource.NOISE:
                return f"By its noise, one count is {self.unit:.3g} in this frame; it was scaled to counts."
            case ScaleSource.UNKNOWN:
                return (
                    "What one count is in this frame shows neither in its values nor in its noise; values were taken "
                    "for counts. State it by counts_per_unit."
                )
            case _:
                return ""


COUNTS = CountScale(1.0, ScaleSource.COUNTS)
UNKNOWN = CountScale(1.0, ScaleSource.UNKNOWN)


def count_scale(
    pixels: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    rules: InvalidPixels,
    *,
    least: float,
    greatest: float,
) -> CountScale:
    """Return what one count is in a frame; a fraction of a millisecond where pixels are integers.

    Parameters
    ----------
    pixels
        (rows, columns), integer or floating.
    mask
        Boolean, True = valid; None: all are.
    rules
        Which values are no counts.
    least, greatest
        Of the valid values and 0.
    """
    if greatest <= 0 <= least:
        return COUNTS  # nothing is there
    sample = _sample(pixels, mask, rules)
    found = of_values(sample)
    if found is None and len(sample) and np.count_nonzero(sample != sample.min()) < LEAST_DECIDED:
        found = of_values(_unlike(sample.min(), pixels, mask, rules))
    if found is COUNTS or (found is None and (sample == np.rint(sample)).all()):
        return COUNTS
    rows = slice(None, None, max(1, pixels.shape[0] // SAMPLED_ROWS))
    some = pixels[rows].astype(pixels.dtype.newbyteorder("="), copy=False)
    noise = of_noise(some.astype(np.float64), _valid(some, mask, rules, rows), subtracted=least < 0)
    if found is not None and (noise is None or noise.unit < FINER * found.unit):
        return found
    return UNKNOWN if noise is None else noise


def of_values(values: NDArray[Any]) -> CountScale | None:
    """Return what one count is by the steps of values, None where too few differ, or in no steps.

    Parameters
    ----------
    values
        (N,) valid pixels of a frame, integer or floating, in any order.
    """
    step = _common_divisor(values) if values.dtype.kind != "f" else _step(values)
    if step is None:
        return None
    return COUNTS if abs(step - 1) < 1e-5 else CountScale(step, ScaleSource.STEPS)


def of_noise(pixels: NDArray[np.float64], valid: NDArray[np.bool_], *, subtracted: bool) -> CountScale | None:
    """Return what one count is by the noise of neighbours, None where it has not the photons' proportion.

    Parameters
    ----------
    pixels, valid
        (N, columns) some rows of a frame, and which of their pixels are valid.
    subtracted
        Whether something was subtracted from the counts, whose noise is still there: then the variance is a line
        over the mean, and its slope counts.
    """
    mean, variance = _blocks(pixels, valid)
    n_levels = min(LEVELS, len(mean) // 4)
    if n_levels < 3:
        return None
    levels = np.array_split(np.argsort(mean), n_levels)
    mean, variance = (
        np.array([_without_the_largest(values[level]) for level in levels]) for values in (mean, variance)
    )
    found = _slopes(mean, variance) if subtracted else _ratios(mean, variance)
    if len(found) < 3:
        return None
    low, unit, high = np.quantile(found, [0.25, 0.5, 0.75])
    if not 0 < low <= high <= MOST_SPREAD * low or np.median(mean) > MOST_COUNTS * unit:
        return None
    return COUNTS if 1 / AS_COUNTS < unit < AS_COUNTS else CountScale(float(unit), ScaleSource.NOISE)


def _valid(
    pixels: NDArray[Any], mask: NDArray[np.bool_] | None, rules: InvalidPixels, *places: slice
) -> NDArray[np.bool_]:
    """Return which of some pixels of a frame are valid, given the slices that they were taken by."""
    valid = rules.valid(pixels)
    return valid if mask is None else valid & mask[places]


def _sample(pixels: NDArray[Any], mask: NDArray[np.bool_] | None, rules: InvalidPixels) -> NDArray[Any]:
    """Return some valid pixels, from all over the frame."""
    n_rows = 32 if pixels.dtype.kind == "f" else 8  # integers need few to be seen to be counts
    rows = max(1, pixels.shape[0] // n_rows)
    columns = max(1, pixels.shape[1] * n_rows // SAMPLED_VALUES)
    places = slice(rows // 2, None, rows), slice(columns // 2, None, columns)
    some = np.ascontiguousarray(pixels[places])
    return some[_valid(some, mask, rules, *places)]


def _unlike(
    usual: Any, pixels: NDArray[Any], mask: NDArray[np.bool_] | None, rules: InvalidPixels
) -> NDArray[Any]:
    """Return all valid pixels that have another value than the usual one, and one that has it."""
    there = pixels != usual
    if mask is not None:
        there &= mask
    values = pixels[there]
    return np.append(values[rules.valid(values)], usual)


def _common_divisor(values: NDArray[Any]) -> float | None:
    values = values[values != 0]
    if len(values) < LEAST_DECIDED:
        return None
    if np.gcd.reduce(values[:LEAST_DECIDED]) == 1:
        return 1.0
    return None if (values == values[0]).all() else float(np.gcd.reduce(values))


def _step(values: NDArray[Any]) -> float | None:
    """Return the largest number of which all differences are multiples, as nearly as the type can tell."""
    precision = 2 * max(float(np.finfo(values.dtype).eps), 2.0**-23)
    values = values.astype(np.float64)
    if not values.size or np.count_nonzero(values != (base := values.min())) < LEAST_DECIDED:
        return None
    above, uncertain = np.unique(values - base), precision * np.abs(values).max()
    gaps = np.diff(above)
    gaps = gaps[gaps > 4 * uncertain]
    if len(gaps) < 2:
        return None  # one value, or two: an image of a shape, say
    step, reach = float(gaps.min()), 16.0
    tested = above[above > 0]
    while True:
        within = tested[tested <= reach * step]
        multiples = np.rint(within / step)
        if (np.abs(within / step - multiples) > 0.05 + uncertain / step).any():
            return None
        if multiples.any():
            step = float(within @ multiples / (multiples @ multiples))
        if reach * step >= tested[-1]:
            break
        reach *= 16
    if uncertain > 0.2 * step or (len(tested) < 16 and len(tested) > len(values) / 4):
        return None
    return step * float(np.gcd.reduce(multiples.astype(np.int64)))


def _blocks(
    pixels: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of blocks of neighbours, those of which a third is not valid left out."""
    reach = len(FOURTH_DIFFERENCE)
    width = pixels.shape[1] - reach + 1
    n_blocks = width // BLOCK
    if n_blocks < 1:
        return np.empty(0), np.empty(0)
    pixels = np.where(valid, pixels, 0)
    shifted = [pixels[:, start : start + n_blocks * BLOCK] for start in range(reach)]
    difference = sum(weight * values for weight, values in zip(FOURTH_DIFFERENCE, shifted, strict=True))
    whole = np.logical_and.reduce([valid[:, start : start + n_blocks * BLOCK] for start in range(reach)])
    blocks = (len(pixels) * n_blocks, BLOCK)
    count = whole.reshape(blocks).sum(axis=1)
    kept = count >= 2 / 3 * BLOCK
    squares = np.where(whole, difference**2, 0).reshape(blocks)[kept].sum(axis=1)
    sums = np.where(whole, shifted[reach // 2], 0).reshape(blocks)[kept].sum(axis=1)
    return sums / count[kept], squares / (count[kept] * np.square(FOURTH_DIFFERENCE).sum())


def _without_the_largest(values: NDArray[np.float64]) -> float:
    """Return the mean of nine tenths: zingers and edges of beamstops are in the others."""
    return float(np.sort(values)[: max(1, round(0.9 * len(values)))].mean())


def _ratios(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    bright = (mean > 0) & (variance > 0)
    return variance[bright] / mean[bright]


def _slopes(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slopes between each level and each that has at least twice its variance."""
    first, second = np.triu_indices(len(mean), 1)
    apart = variance[second] > 2 * variance[first]
    first, second = first[apart], second[apart]
    rise = mean[second] - mean[first]
    return (variance[second] - variance[first])[rise > 0] / rise[rise > 0]
