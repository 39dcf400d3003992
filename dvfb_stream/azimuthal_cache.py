"""What measures the rings of a view: that of its geometry, what a frame alone has lost being filled in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.frames import Geometry
from dvfb_stream.view import View, ViewResamplers
from dvfb_stream.whole_masks import WholeMasks

MOST_BYTES = 256 << 20
"""Some ten geometries, of 5 MB for each of the centres that their frames turn out to have."""
NEAR = 5
"""Pixels along a side of the square around a lost one whose mean takes its place."""
ISOLATED = 0.6
"""Share of that square that must be valid; a lost block is masked, for its edges would feign what is not there."""


class AzimuthalCache:
    """Measures of any geometry's views; for one thread at a time, or several with views of one geometry and mask.

    Parameters
    ----------
    resamplers
        Where the finer raster of a geometry's view is found.
    """

    def __init__(self, resamplers: ViewResamplers) -> None:
        self._resamplers = resamplers
        self._kept: BoundedCache[Hashable, AzimuthalOrders] = BoundedCache(max_bytes=MOST_BYTES)
        self._whole_masks = WholeMasks(lambda geometry: resamplers.get(geometry).fine.mask)

    def get(
        self, views: Sequence[View], geometry: Geometry
    ) -> tuple[AzimuthalOrders, list[NDArray[np.float32]]]:
        """Return what measures views of one geometry and mask, and their counts, (rows, columns) each.

        Parameters
        ----------
        views
            With one mask of the finer raster.
        geometry
            Theirs.
        """
        mask, raster = views[0].fine.mask, self._resamplers.get(geometry).fine
        whole = self._whole_masks.of(mask, geometry)
        counts = [view.fine.counts for view in views]
        lost = whole & ~mask
        if lost.any():
            filled = _filled(counts, lost, mask)
            counts, whole = (counts, mask) if filled is None else (filled, whole)
        key = (raster.center_x, raster.center_y, raster.area, raster.step, np.packbits(whole).tobytes())
        orders = self._kept.get_or_make(
            key,
            lambda: AzimuthalOrders(whole, raster.center_x, raster.center_y, raster.area, step=raster.step),
            n_bytes_of=lambda made: made.nbytes,
        )
        return orders, counts


def _filled(
    counts: Sequence[NDArray[np.float32]], lost: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> list[NDArray[np.float32]] | None:
    """Return counts with the mean of valid neighbours in place of lost pixels; None where these are a block."""
    share = uniform_filter(valid.astype(np.float32), NEAR, mode="constant")
    if share[lost].min() < ISOLATED:
        return None
    filled = []
    for one in counts:
        near = uniform_filter(np.where(valid, one, np.float32(0)), NEAR, mode="constant")
        filled.append(one.copy())
        filled[-1][lost] = near[lost] / share[lost]
    return filled
