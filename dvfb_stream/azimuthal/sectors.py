"""Sectors of views, with what spoils them estimated: noise, roughness, a wrong centre, what is one-sided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.polar_bins import AZIMUTHS, HALF, PolarBins, slopes

FEWEST_TRIPLES = 20
"""Sectors of a ring that have both neighbours, for its roughness to be known to a third."""
FEWEST_RINGS = 5
"""That tell what a photon is worth."""
NORMAL_PHOTONS = 10.0
"""Of a sector, from which on its noise is nearly normal."""
MEDIAN_SQUARE = 0.4549
"""Of a standard normal deviate: the median of chi squared with one degree of freedom."""
CORRELATED = 1.0 + 2.0 * (4.0**2 + 1.0) / 6.0**2
"""Second differences of neighbours share sectors, with correlations -4/6 and 1/6: so much fewer are independent."""
ROUGH = 4.0
"""Standard deviations by which a ring's second differences must exceed noise to be more than chance."""
DISAGREEMENT = 4.0
"""Standard deviations by which a sector and its opposite must differ, and"""
DISAGREEING_SHARE = 0.1
"""share of the ring's mean, to be left out: with 10,000 counts a sector, 4 standard deviations are no contrast."""
LARGEST_SHIFT = 4.0
"""Units of radius: what odd harmonics say beyond is no error of the centre, and is not mended."""
TOLD = 4.0
"""Standard deviations by which a shift must differ from none, a tenth of the mean being allowed besides noise, and"""
LEAST_EXPLAINED = 0.03
"""share of what is not centrosymmetric that it must explain: less is what a horizon or a shadow feigns."""
STEPS = 3
"""Of least squares, each but the first with less weight for what the one before left over: one-sided sectors."""
SMALLEST = np.float32(1e-30)
"""For divisions; no variance of counts is less."""


@dataclass(frozen=True, slots=True, eq=False)
class Sectors:
    """B views with R rings of 72 sectors."""

    mean: NDArray[np.float64]
    """(B, R) of each ring, in counts of a detector pixel."""
    values: NDArray[np.float32]
    """(B, R, 72) means of sectors, about the centre that makes them most centrosymmetric; 0 where none is seen."""
    noise: NDArray[np.float64]
    """(B, R) variance of a sector's mean times its pixels: a photon's worth, roughness included."""
    worth: NDArray[np.float64]
    """(B,) counts that one photon gives: 1 of a counting detector."""
    variation: NDArray[np.float64]
    """(B,) by which share the brightest sector exceeds the darkest one; infinite where the darkest has no counts."""
    shift: NDArray[np.float64]
    """(B, 2) units of radius, x and y: from the centre of the bins to that about which odd harmonics vanish."""
    told: NDArray[np.bool_]
    """(B,) whether the shift is told from noise and explains more than a little of what is not centrosymmetric."""
    one_sided: NDArray[np.bool_]
    """(B, R, 72): seen together with the opposite sector, and not agreeing with it."""
    odd: NDArray[np.float64]
    """(B, R) mean square of what is not centrosymmetric over the squared mean, that of noise taken off: on average 0
    where noise is all there is, hence below 0 half of the time."""

    def of(self, which: NDArray[np.bool_]) -> Sectors:
        """Return those of some of the views, (B,)."""
        if which.all():
            return self
        return Sectors(**{each.name: getattr(self, each.name)[which] for each in fields(self)})


def gather(bins: PolarBins, counts: Sequence[NDArray[np.float32]], area: float) -> Sectors:
    """Return the sectors of views.

    Parameters
    ----------
    bins
        Of the views' geometry.
    counts
        B of (rows, columns): mean counts of the detector pixels under each pixel of the raster.
    area
        Detector pixels under a pixel of the raster.
    """
    mean, values = bins.means(counts)
    # Where hardly anything is counted, the noise is that of a ring with a ten-thousandth of the frame's mean.
    expected = np.maximum(mean, 1e-4 * _overall(mean, bins.pixels)) / area
    worth, rough = _roughness(bins, mean, values, expected, area)
    noise = expected * worth[:, None] * rough
    pixels, opposite = bins.pixels[:, :HALF], bins.pixels[:, HALF:]
    both = (pixels > 0) & (opposite > 0)
    quarter = np.where(both, 1 / np.maximum(pixels, 1) + 1 / np.maximum(opposite, 1), 0.0) / 4
    per_pixel: NDArray[np.float32] = quarter.astype(np.float32)
    half = np.where(both, np.float32(0.5), np.float32(0))
    half_difference = (values[:, :, :HALF] - values[:, :, HALF:]) * half
    variance: NDArray[np.float32] = noise.astype(np.float32)[:, :, None] * per_pixel
    gradient = (mean * slopes(mean, bins.radii)).astype(np.float32)
    allowed = variance + ((0.1 * mean) ** 2).astype(np.float32)[:, :, None]  # a tenth besides noise
    weight = np.where(both & (mean > 0)[:, :, None], 1 / np.maximum(allowed, SMALLEST), np.float32(0))
    shift = _shift(half_difference, weight, gradient)
    moved = _change(gradient, shift)
    square = ((half_difference + moved) * both) ** 2
    least = (DISAGREEING_SHARE * mean).astype(np.float32)[:, :, None] ** 2
    one_sided = square > np.maximum(np.float32(DISAGREEMENT**2) * variance, least)
    # What makes a ring rough may be one-sided: counting noise alone is taken off.
    left_over = square.sum(axis=2, dtype=float) - noise / rough * per_pixel.sum(axis=1, dtype=float)
    left_over /= np.maximum(both.sum(axis=1), 1)
    return Sectors(
        mean=mean,
        values=values + np.concatenate([moved, -moved], axis=2),
        noise=noise,
        worth=worth,
        variation=_variation(values, bins.pixels > 0),
        shift=shift,
        told=_is_told(weight, half_difference, moved, square, variance),
        one_sided=np.concatenate([one_sided, one_sided], axis=2),
        odd=np.divide(left_over, mean**2, out=np.zeros_like(mean), where=mean > 0),
    )


SIDES = np.stack([np.cos(AZIMUTHS), np.sin(AZIMUTHS)])[:, :HALF]


def _roughness(
    bins: PolarBins,
    mean: NDArray[np.float64],
    values: NDArray[np.float32],
    expected: NDArray[np.float64],
    area: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a photon is worth, (B,), and how much rougher than that each ring is, (B, R), 1 or more.

    By second differences of neighbouring sectors, which low harmonics hardly touch.
    """
    inverse = np.divide(1.0, bins.pixels, out=np.zeros_like(bins.pixels), where=bins.pixels > 0)
    triple = (inverse > 0) & (np.roll(inverse, 1, axis=1) > 0) & (np.roll(inverse, -1, axis=1) > 0)
    spread = 4 * inverse + np.roll(inverse, 1, axis=1) + np.roll(inverse, -1, axis=1)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=triple)
    padded = np.concatenate([values[:, :, -1:], values, values[:, :, :1]], axis=2)
    square = (2 * values - padded[:, :, :-2] - padded[:, :, 2:]) ** 2
    square *= scale.astype(np.float32)
    square *= (1 / np.maximum(expected, SMALLEST)).astype(np.float32)[:, :, None]
    number = triple.sum(axis=1)
    average = square.sum(axis=2, dtype=float) / np.maximum(number, 1)
    enough = (number >= FEWEST_TRIPLES) & (mean > 0)
    worth = _typical(average, enough)
    # A streak or spot, however bright, does not move the middle one; but it takes ten photons a sector to be normal.
    each = np.where(worth > 0, worth, 1.0)  # without noise at all, one count is taken for one photon
    photons = mean * area * bins.pixels.sum(axis=1) / each[:, None]
    robust = _typical(middle(square, triple) / MEDIAN_SQUARE, enough & (photons >= NORMAL_PHOTONS * number))
    worth = np.where(robust > 0, robust, worth)
    worth = np.where(worth > 0, worth, 1.0)
    rough = average / worth[:, None]
    return worth, np.where(rough > 1 + ROUGH * np.sqrt(2 * CORRELATED / np.maximum(number, 1)), rough, 1.0)


def middle(values: NDArray[np.float32], which: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median of (B, R, S) over those of S that are meant in each of R."""
    ordered = np.sort(np.where(which, values, np.float32(np.inf)), axis=2)
    number = which.sum(axis=1)
    rings = np.arange(len(number))
    upper = np.minimum(number // 2, values.shape[2] - 1)
    lower = np.maximum(number - 1, 0) // 2
    return np.asarray((ordered[:, rings, lower] + ordered[:, rings, upper]) / 2)


def _typical(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median over the usable rings of each view, (B,); NaN where there are too few."""
    ordered = np.sort(np.where(usable, values, np.inf), axis=1)
    number = usable.sum(axis=1)
    views, last = np.arange(len(number)), np.maximum(number - 1, 0)
    median = (ordered[views, last // 2] + ordered[views, np.minimum(number // 2, last)]) / 2
    return np.where(number >= FEWEST_RINGS, median, np.nan)


def _variation(values: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return by which share the brightest of the sectors of views, (B, R, 72), exceeds the darkest one, (B,)."""
    least = np.where(seen, values, np.float32(np.inf)).min(axis=(1, 2)).astype(float)
    most = np.where(seen, values, np.float32(0)).max(axis=(1, 2)).astype(float)
    return np.asarray(np.divide(most - least, least, out=np.full(len(least), np.inf), where=least > 0))


def _shift(
    half_difference: NDArray[np.float32], base: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far the centre is from where it is stated, (B, 2), by reweighted least squares over all sectors.

    A shift s changes the intensity by -s · grad I, which is odd.
    """
    deviation, square = np.sqrt(base), gradient**2
    products = np.stack([SIDES[0] ** 2, SIDES[0] * SIDES[1], SIDES[1] ** 2], axis=1)
    weight, shift = base, np.zeros((len(gradient), 2))
    for step in range(STEPS):
        xx, xy, yy = ((square[:, None] @ weight)[:, 0] @ products).T
        x, y = -((gradient[:, None] @ (weight * half_difference))[:, 0] @ SIDES.T).T
        determinant = xx * yy - xy**2
        solvable = determinant > 1e-6 * (xx + yy) ** 2
        determinant = np.where(solvable, determinant, 1.0)
        shift = np.stack([yy * x - xy * y, xx * y - xy * x], axis=1) / determinant[:, None]
        shift[~solvable] = 0
        if step + 1 < STEPS:
            left = np.abs(half_difference + _change(gradient, shift))
            weight = base / np.maximum(1, left * deviation)
    shift[np.hypot(*shift.T) > LARGEST_SHIFT] = 0
    return shift


def _change(gradient: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the shift of the centre, (B, 2), takes off the sectors of half a circle, (B, R, 36)."""
    return np.asarray(gradient[:, :, None] * (shift @ SIDES).astype(np.float32)[:, None])


def _is_told(
    weight: NDArray[np.float32],
    half_difference: NDArray[np.float32],
    moved: NDArray[np.float32],
    square: NDArray[np.float32],
    variance: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Return whether shifts are told, (B,), given what they change and the square of what is left."""
    before = (weight * half_difference**2).sum(axis=(1, 2))
    explained = before - (weight * square).sum(axis=(1, 2))
    beyond_noise = before - (weight * variance).sum(axis=(1, 2))
    stands_out = (weight * moved**2).sum(axis=(1, 2)) > TOLD**2
    return np.asarray(stands_out & (explained > LEAST_EXPLAINED * beyond_noise))


def _overall(mean: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of all valid pixels, (B, 1)."""
    number = pixels.sum(axis=1)
    return np.asarray((mean @ number / number.sum())[:, None])
