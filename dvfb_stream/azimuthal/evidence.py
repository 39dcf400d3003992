"""What harmonics say of folds, rings and haloes, in units of the least contrast that docs/labels.md calls visible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.harmonics import Harmonics
from dvfb_stream.azimuthal.maxima import (
    DISTORTION,
    LEAST_OF_ALL,
    NEAREST,
    SIGNIFICANT,
    SURE,
    TEXTURES,
    anisotropic_maxima,
)
from dvfb_stream.azimuthal.polar_bins import RING_WIDTH, slopes

RINGS_TOGETHER = 4
"""Of `RING_WIDTH` or as many narrow ones as are as wide, whose mean is a fold's contrast: no single ring decides."""
NEIGHBOURS = 5
"""Rings over which is averaged what is not centrosymmetric, as noise may hide it in one, and how steep the profile
is, as the flanks of a narrow ring cancel."""
OF_AN_ORDER = 0.3
"""Share of the larger harmonics below which a lower one is leakage: a square wave of fourfold rings has none."""
OTHER_ORDER = 0.5
"""Share of another order's contrast that is taken off: of a twofold pattern some rings look fourfold."""
FOLDS = ("two_fold", "four_fold", "six_fold")
ORDERS_OF_FOLDS = (2, 4, 6)


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
    """Rings whose harmonics are known; narrow ones count as the share of `RING_WIDTH` that they have."""


def evidence(harmonics: Harmonics) -> list[Evidence]:
    """Return the evidence of each view."""
    steepness = slopes(harmonics.mean, harmonics.radii) * harmonics.radii
    odd = np.sqrt(np.maximum(_smoothed(harmonics.odd), 0.0))
    feigned = odd + DISTORTION * np.abs(_smoothed(steepness))
    strength = np.abs(harmonics.amplitude) * (harmonics.significance > SIGNIFICANT)
    far = (harmonics.radii >= NEAREST)[:, None]
    sure = np.where(
        (strength > 0) & far,
        np.maximum(strength - SURE * harmonics.deviation - feigned[:, :, None], 0.0),
        0.0,
    ) / np.sqrt(2)
    folds, textures = _folds(strength, sure, harmonics.widths), anisotropic_maxima(harmonics, steepness)
    best = folds.argmax(axis=1)
    return [
        Evidence(
            labels=dict(
                zip((*TEXTURES, *FOLDS), (*texture, *(np.asarray(fold) / LEAST_OF_ALL).tolist()), strict=True)
            ),
            order=ORDERS_OF_FOLDS[k] if fold[k] >= LEAST_OF_ALL else 0,
            contrast=fold[k],
            rings_known=known,
        )
        for texture, fold, k, known in zip(
            textures.tolist(),
            folds.tolist(),
            best.tolist(),
            (harmonics.known @ (harmonics.widths / RING_WIDTH)).astype(int).tolist(),
            strict=True,
        )
    ]


def _folds(
    strength: NDArray[np.float64], sure: NDArray[np.float64], widths: NDArray[np.float64]
) -> NDArray[np.float64]:
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
        [
            _together(np.where(which, sure[:, :, k], 0.0), widths)
            for k, which in enumerate((is_two, is_four, is_six))
        ],
        axis=1,
    )
    others = np.stack([np.delete(each, k, axis=1).max(axis=1) for k in range(3)], axis=1)
    return np.maximum(each - OTHER_ORDER * others, 0.0)


def _together(contrast: NDArray[np.float64], widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the largest of (B, R), (B,), over rings that are (R,) wide."""
    whole = RINGS_TOGETHER * RING_WIDTH
    number = min(math.ceil(whole / widths.min()), contrast.shape[1])
    largest = np.argpartition(contrast, -number, axis=1)[:, -number:]
    contrast = np.take_along_axis(contrast, largest, axis=1)
    descending = np.argsort(-contrast, axis=1)
    contrast = np.take_along_axis(contrast, descending, axis=1)
    width = widths[np.take_along_axis(largest, descending, axis=1)]
    before = width.cumsum(axis=1) - width
    return np.asarray((contrast * np.clip(whole - before, 0, width)).sum(axis=1) / whole)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over neighbouring rings of (B, R)."""
    reach, rings = NEIGHBOURS // 2, values.shape[1]
    padded = np.pad(values, ((0, 0), (reach, reach)), mode="edge")
    total = padded[:, :rings].copy()
    for k in range(1, NEIGHBOURS):
        total += padded[:, k : k + rings]
    return total / NEIGHBOURS
