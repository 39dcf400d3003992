"""The view by its definition, in double precision: integrals over view pixels as differences of cumulative sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvfb_stream import Geometry

SIZE = 256


def shown(geometry: Geometry, valid: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns between the outermost pixels that the geometry's mask leaves."""
    places = np.argwhere(np.ones_like(valid) if geometry.mask is None else geometry.mask)
    (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
    return slice(top, bottom + 1), slice(left, right + 1)


def integral(values: NDArray[np.float64], pixel_aspect: float = 1.0) -> NDArray[np.float64]:
    """(SIZE, SIZE) integral of what is constant on each pixel, in pixels, over the pixels of the view."""
    rows, columns = values.shape
    step = max(rows * pixel_aspect, columns) / SIZE
    for step_along, length in ((step / pixel_aspect, rows), (step, columns)):
        edges = (np.arange(SIZE + 1) - SIZE / 2) * step_along + length / 2
        sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0)])
        at = np.clip(edges, 0, length)
        low = np.minimum(at.astype(int), length - 1)
        sums = sums[low] + (at - low)[:, None] * values[low]
        values = np.diff(sums, axis=0).T
    return values


def exact_view(
    pixels: NDArray[np.generic], geometry: Geometry, valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Image, mask, and the share of the frame's area under each view pixel that is valid; NaN where is none."""
    part = shown(geometry, valid)
    pixels, valid = pixels[part], valid[part]
    counts = np.where(valid, pixels, 0).astype(float)
    total, area, whole = (
        integral(values, geometry.pixel_aspect)
        for values in (counts, valid.astype(float), np.ones(valid.shape))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(whole > 1e-6, area / whole, np.nan)
        mask = (whole > 1e-6) & (share >= 0.25)
        mean = np.where(mask, total / area, 0)
    return 255 * np.log1p(np.maximum(mean, 0)) / np.log(65536), mask, share
