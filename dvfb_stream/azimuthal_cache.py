"""What measures the rings of a view: that of its geometry, what a frame alone has lost being filled in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.frames import Geometry
from dvfb_stream.view import View, ViewResamplers, counts_of

MOST_BYTES = 128 << 20
"""Some fifty geometries, of 2 MB each."""
NEAR = 5
"""View pixels along a side of the square around a lost one whose mean takes its place."""
ISOLATED = 0.6
"""Share of that square that must be valid; a lost block is masked, for its edges would feign what is not there."""


class AzimuthalCache:
    """Measures of any geometry's views; for one thread at a time, or several with views of one geometry and mask.

    Parameters
    ----------
    resamplers
        Where the scale of a geometry's view is found.
    """

    def __init__(self, resamplers: ViewResamplers) -> None:
        self._resamplers = resamplers
        self._kept: BoundedCache[Hashable, AzimuthalOrders] = BoundedCache(max_bytes=MOST_BYTES)

    def get(
        self, views: Sequence[View], geometry: Geometry, estimators: FourierBesselCache
    ) -> tuple[AzimuthalOrders, NDArray[np.float32]]:
        """Return what measures views of one geometry and mask, and their counts, (B, rows, columns).

        Parameters
        ----------
        views
            With one mask.
        geometry
            Theirs.
        estimators
            Which knows what of a geometry is valid in frames that have lost nothing.
        """
        view = views[0]
        whole = estimators.whole_mask(view, geometry)
        counts = counts_of(np.stack([one.image for one in views]))
        lost = whole & ~view.mask
        if lost.any() and not _filled(counts, lost, view.mask):
            whole = view.mask
        resampler = self._resamplers.get(geometry)
        area = resampler.scale_x * resampler.scale_y
        key = (view.center_x, view.center_y, area, np.packbits(whole).tobytes())
        orders = self._kept.get_or_make(
            key,
            lambda: AzimuthalOrders(whole, view.center_x, view.center_y, area),
            n_bytes_of=lambda made: made.nbytes,
        )
        return orders, counts


def _filled(counts: NDArray[np.float32], lost: NDArray[np.bool_], valid: NDArray[np.bool_]) -> bool:
    """Put the mean of valid neighbours in place of lost pixels; False where they are a block, and nothing done."""
    share = uniform_filter(valid.astype(np.float32), NEAR, mode="constant")
    if share[lost].min() < ISOLATED:
        return False
    for one in counts:
        near = uniform_filter(np.where(valid, one, np.float32(0)), NEAR, mode="constant")
        one[lost] = near[lost] / share[lost]
    return True
