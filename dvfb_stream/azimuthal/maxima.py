"""Rings and haloes that vary along the azimuth: maxima of the azimuthal mean, and harmonics of what rises there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths

from dvfb_stream.azimuthal.harmonics import Harmonics

LEAST_OF_STRUCTURE = 0.12
"""Standard deviation along the azimuth of a structure over its mean: the anisotropy rule of docs/labels.md,"""
LEAST_OF_ALL = 0.06
"""and over the mean of all that is there."""
SURE = 3.0
"""Standard deviations that are taken off a contrast, so that noise makes none,"""
SIGNIFICANT = 4.0
"""after the harmonic itself stood out by so many: one ring in 30,000, some hundred rings a frame."""
DISTORTION = 0.01
"""Of radii along one axis against the other: what a tilt of 8 degrees or pixels that are not quite square feign,
times the steepness of the profile."""

TEXTURES = ("symmetry_halo", "symmetry_rings")
LEAST_PROMINENCE = 0.05
"""Of a maximum along q, in the logarithm: what docs/labels.md asks of a ring over the rest."""
FOOT, MIDDLE = 0.95, 0.5
"""Shares of a maximum's height, from its top, at which its feet and its width are taken."""
WIDEST_RING = 0.3
"""Width over radius that divides rings from haloes, as in docs/labels.md."""
NEAREST = 9.0
"""Units of radius: nearer to the beam is the beamstop's edge, and the glow around it."""
SEEN_OF_A_MAXIMUM = 0.6
"""Share of a maximum's rings whose harmonics must be known."""


@dataclass(frozen=True, slots=True, eq=False)
class _Maxima:
    """K maxima of all views together; ends are behind the last ring."""

    view: NDArray[np.intp]
    is_ring: NDArray[np.bool_]
    foot: tuple[NDArray[np.intp], NDArray[np.intp]]
    """(K,) first ring and end of all that rises."""
    middle: tuple[NDArray[np.intp], NDArray[np.intp]]
    """(K,) of the rings above half of the height."""


def anisotropic_maxima(harmonics: Harmonics, steepness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the evidence of the most anisotropic halo and ring of each view, (B, 2), in the order of `TEXTURES`.

    Parameters
    ----------
    harmonics
        Of B views.
    steepness
        (B, R) d ln I / d ln r.
    """
    found = np.zeros((len(harmonics.mean), len(TEXTURES)))
    maxima = _maxima(harmonics)
    if maxima is None:
        return found
    known = harmonics.known
    mean = np.where(known, harmonics.mean, 0.0)
    noise = np.where(known[:, :, None], harmonics.deviation, 0.0) * mean[:, :, None]
    columns = np.concatenate(
        [
            np.stack([known, harmonics.mean, mean, mean * harmonics.odd, mean * steepness], axis=2),
            noise**2,
            harmonics.amplitude.real * mean[:, :, None],
            harmonics.amplitude.imag * mean[:, :, None],
        ],
        axis=2,
    )
    running = np.pad(columns.cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))
    evidence = np.minimum(
        _of_structure(columns, running, maxima) / LEAST_OF_STRUCTURE, _of_all(running, maxima) / LEAST_OF_ALL
    )
    np.maximum.at(found, (maxima.view, maxima.is_ring.astype(int)), evidence)
    return found


def _maxima(harmonics: Harmonics) -> _Maxima | None:
    """Return the maxima of all views, or None."""
    views, peaks, widths, ends = [], [], [], []
    number = np.arange(len(harmonics.radii))
    for view, (mean, known) in enumerate(zip(harmonics.mean, harmonics.known, strict=True)):
        if not known.any():
            continue
        logarithm = np.log(np.maximum(mean, mean[known].min() / 100))
        tops, about = find_peaks(logarithm, prominence=LEAST_PROMINENCE)
        if not len(tops):
            continue
        shape = tuple(about[name] for name in ("prominences", "left_bases", "right_bases"))
        _, _, first, last = peak_widths(logarithm, tops, MIDDLE, prominence_data=shape)
        _, _, left, right = peak_widths(logarithm, tops, FOOT, prominence_data=shape)
        views.append(np.full(len(tops), view))
        peaks.append(tops)
        widths.append(np.subtract(*(np.interp(end, number, harmonics.radii) for end in (last, first))))
        ends.append(np.stack([left, right, first, last]))
    if not views:
        return None
    radius = harmonics.radii[np.concatenate(peaks)]
    left, right, first, last = np.concatenate(ends, axis=1)
    far = radius >= NEAREST
    return _Maxima(
        np.concatenate(views)[far],
        (np.concatenate(widths) < WIDEST_RING * radius)[far],
        (left[far].astype(int), np.ceil(right[far]).astype(int) + 1),
        (first[far].astype(int), np.ceil(last[far]).astype(int) + 1),
    )


def _of_structure(
    columns: NDArray[np.float64], running: NDArray[np.float64], maxima: _Maxima
) -> NDArray[np.float64]:
    """Return the standard deviation along the azimuth, at least, of what lies above the line between the feet.

    Over the mean of that; (K,), 0 where too little is known or nothing stands out.
    """
    first, end = maxima.foot
    number = end - first
    sums = running[maxima.view, end] - running[maxima.view, first]
    line = (columns[maxima.view, first] + columns[maxima.view, end - 1]) / 2 * number[:, None]
    above = sums - line
    noise = np.sqrt(np.maximum(sums[:, 5:9], 0.0))  # of each wave; that of the mean is less
    wave = np.hypot(above[:, 9:13], above[:, 13:17])
    stands_out = (sums[:, 0] >= SEEN_OF_A_MAXIMUM * number) & (above[:, 1] > SIGNIFICANT * noise[:, 0])
    deviation = np.sqrt((np.maximum(wave - SURE * noise, 0.0) ** 2).sum(axis=1) / 2)
    return np.where(stands_out, deviation / np.where(stands_out, above[:, 1], 1.0), 0.0)


def _of_all(running: NDArray[np.float64], maxima: _Maxima) -> NDArray[np.float64]:
    """Return the standard deviation along the azimuth, at least, of all in the middle of maxima, over its mean."""
    first, end = maxima.middle
    sums = running[maxima.view, end] - running[maxima.view, first]
    over = 1 / np.where(sums[:, 2] > 0, sums[:, 2], np.inf)
    amplitude = np.hypot(sums[:, 9:13], sums[:, 13:17]) * over[:, None]
    deviation = np.sqrt(np.maximum(sums[:, 5:9], 0.0)) * over[:, None]
    feigned = np.sqrt(np.maximum(sums[:, 3] * over, 0.0)) + DISTORTION * np.abs(sums[:, 4] * over)
    sure = np.maximum(amplitude - SURE * deviation - feigned[:, None], 0.0)
    return np.asarray(
        np.sqrt((np.where(amplitude > SIGNIFICANT * deviation, sure, 0.0) ** 2).sum(axis=1) / 2)
    )
