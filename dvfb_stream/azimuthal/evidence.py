"""What harmonics say of folds, rings and haloes, in units of the least contrast that docs/labels.md calls visible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths

from dvfb_stream.azimuthal.harmonics import Harmonics
from dvfb_stream.azimuthal.polar_bins import RING_WIDTH, slopes

LEAST_OF_STRUCTURE = 0.12
"""Standard deviation along the azimuth of a structure over its mean: the anisotropy rule of docs/labels.md,"""
LEAST_OF_ALL = 0.06
"""and over the mean of all that is there."""
SURE = 3.0
"""Standard deviations that are taken off a contrast, so that noise makes none,"""
SIGNIFICANT = 4.0
"""after the harmonic itself stood out by so many: one ring in 30,000, some hundred rings a frame."""
RINGS_TOGETHER = 4
"""Whose mean is a fold's contrast: no single ring decides."""
NEIGHBOURS = 5
"""Rings over which is averaged what is not centrosymmetric, as noise may hide it in one, and how steep the profile
is, as the flanks of a narrow ring cancel."""
DISTORTION = 0.01
"""Of radii along one axis against the other: what a tilt of 8 degrees or pixels that are not quite square feign,
times the steepness of the profile."""
OF_AN_ORDER = 0.3
"""Share of the larger harmonics below which a lower one is leakage: a square wave of fourfold rings has none."""
OTHER_ORDER = 0.5
"""Share of another order's contrast that is taken off: of a twofold pattern some rings look fourfold."""
FOLDS = {"two_fold": 2, "four_fold": 4, "six_fold": 6}

LEAST_PROMINENCE = 0.05
"""Of a maximum along q, in the logarithm: what docs/labels.md asks of a ring over the rest."""
WIDEST_RING = 0.3
"""Width over radius that divides rings from haloes, as in docs/labels.md."""
NEAREST = 8.0
"""View pixels: nearer to the beam is the beamstop's edge."""
SEEN_OF_A_MAXIMUM = 0.6
"""Share of a maximum's rings whose harmonics must be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Of one view."""

    labels: Mapping[str, float]
    """Of ``symmetry_halo``, ``symmetry_rings``, ``two_fold``, ``four_fold``, ``six_fold``: contrast in units of the
    least that is visible, less what noise, a tilt and one-sided things may feign; 0 where nothing is known."""
    order: int
    """2, 4 or 6, of which the contrast is greatest; 0 where none is visible."""
    contrast: float
    """Of that order: standard deviation along the azimuth over the mean, at least."""
    rings_known: int
    """Rings whose harmonics are known."""


def evidence(harmonics: Harmonics) -> list[Evidence]:
    """Return the evidence of each view."""
    steepness = slopes(harmonics.mean, harmonics.radii) * harmonics.radii
    odd = np.sqrt(np.maximum(_smoothed(harmonics.odd), 0.0))
    feigned = odd + DISTORTION * np.abs(_smoothed(steepness))
    strength = np.abs(harmonics.amplitude) * (harmonics.significance > SIGNIFICANT)
    sure = np.where(
        strength > 0, np.maximum(strength - SURE * harmonics.deviation - feigned[:, :, None], 0.0), 0.0
    ) / np.sqrt(2)
    folds = _folds(strength, sure)
    found = []
    for view in range(len(sure)):
        labels = {label: float(folds[view, k] / LEAST_OF_ALL) for k, label in enumerate(FOLDS)}
        best = int(np.argmax(folds[view]))
        found.append(
            Evidence(
                labels={**_maxima(harmonics, view, steepness[view]), **labels},
                order=tuple(FOLDS.values())[best] if folds[view, best] >= LEAST_OF_ALL else 0,
                contrast=float(folds[view, best]),
                rings_known=int(harmonics.known[view].sum()),
            )
        )
    return found


def _folds(strength: NDArray[np.float64], sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the contrast of orders 2, 4 and 6 of each view, (B, 3).

    The order of a ring is the largest number that divides those of all its harmonics.
    """
    two, four, six, eight = np.moveaxis(strength, 2, 0)
    is_two = (two > 0) & (two >= OF_AN_ORDER * np.maximum(four, six))
    # Four and six together are of a twofold pattern, too.
    is_two |= (np.minimum(four, six) > 0.5 * np.maximum(four, six)) & (four > 0)
    is_four = ~is_two & (four > six) & (four >= OF_AN_ORDER * eight)
    is_six = ~is_two & (six > four)
    each = np.stack(
        [_together(np.where(which, sure[:, :, k], 0.0)) for k, which in enumerate((is_two, is_four, is_six))],
        axis=1,
    )
    others = np.stack([np.delete(each, k, axis=1).max(axis=1) for k in range(3)], axis=1)
    return np.maximum(each - OTHER_ORDER * others, 0.0)


def _together(contrast: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the largest of (B, R), (B,)."""
    number = min(RINGS_TOGETHER, contrast.shape[1])
    return np.asarray(np.partition(contrast, -number, axis=1)[:, -number:].sum(axis=1) / RINGS_TOGETHER)


def _maxima(harmonics: Harmonics, view: int, steepness: NDArray[np.float64]) -> dict[str, float]:
    """Return the evidence of the most anisotropic ring and halo of a view."""
    labels = {"symmetry_halo": 0.0, "symmetry_rings": 0.0}
    mean, radii, known = harmonics.mean[view], harmonics.radii, harmonics.known[view]
    if not known.any():
        return labels
    logarithm = np.log(np.maximum(mean, mean[mean > 0].min()))
    peaks, _ = find_peaks(logarithm, prominence=LEAST_PROMINENCE)
    peaks = peaks[radii[peaks] >= NEAREST]
    if not len(peaks):
        return labels
    widths, _, first, last = peak_widths(logarithm, peaks, rel_height=0.5)
    _, _, left, right = peak_widths(logarithm, peaks, rel_height=0.95)
    waves = harmonics.amplitude[view] * mean[:, None]
    for k, peak in enumerate(peaks):
        foot = slice(int(left[k]), int(np.ceil(right[k])) + 1)
        if known[foot].mean() < SEEN_OF_A_MAXIMUM:
            continue
        over = float(_above(mean[foot]).sum())
        noise = harmonics.deviation[view, foot][known[foot]] * mean[foot][known[foot], None]
        noise = np.sqrt((noise**2).sum(axis=0))  # of each wave of the maximum; that of its mean is less
        if over <= SIGNIFICANT * noise[0]:
            continue
        above = np.abs(_above(waves[foot]).sum(axis=0)) - SURE * noise
        of_structure = _deviation(np.maximum(above, 0.0) / over)
        rings = slice(int(first[k]), int(np.ceil(last[k])) + 1)
        of_all = _pooled(harmonics, view, rings, steepness[rings])
        label = "symmetry_rings" if widths[k] * RING_WIDTH < WIDEST_RING * radii[peak] else "symmetry_halo"
        labels[label] = max(labels[label], min(of_structure / LEAST_OF_STRUCTURE, of_all / LEAST_OF_ALL))
    return labels


def _pooled(harmonics: Harmonics, view: int, rings: slice, steepness: NDArray[np.float64]) -> float:
    """Return the standard deviation along the azimuth of neighbouring rings together, over their mean, at least."""
    known = harmonics.known[view, rings]
    share = np.where(known, harmonics.mean[view, rings], 0.0)
    if not known.any():
        return 0.0
    share = share[known] / share.sum()
    amplitude = np.abs(share @ harmonics.amplitude[view, rings][known])
    deviation = np.sqrt(share**2 @ harmonics.deviation[view, rings][known] ** 2)
    odd = np.sqrt(max(float(share @ harmonics.odd[view, rings][known]), 0.0))
    feigned = odd + DISTORTION * abs(share @ steepness[known])
    sure = np.maximum(amplitude - SURE * deviation - feigned, 0.0)
    return _deviation(np.where(amplitude > SIGNIFICANT * deviation, sure, 0.0))


def _above(values: NDArray[Any]) -> NDArray[Any]:
    """Return what lies above the line between the first and the last of (n, ...)."""
    part = np.linspace(0, 1, len(values)).reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(values - (values[0] * (1 - part) + values[-1] * part))


def _deviation(amplitudes: NDArray[np.float64]) -> float:
    """Return the standard deviation along the azimuth of waves of these amplitudes."""
    return float(np.sqrt((amplitudes**2).sum() / 2))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over neighbouring rings of (B, R)."""
    reach, rings = NEIGHBOURS // 2, values.shape[1]
    padded = np.pad(values, ((0, 0), (reach, reach)), mode="edge")
    total = padded[:, :rings].copy()
    for k in range(1, NEIGHBOURS):
        total += padded[:, k : k + rings]
    return total / NEIGHBOURS
