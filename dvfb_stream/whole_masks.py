"""The mask of which a frame's has lost some pixels: what is built for it serves all frames of a geometry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.frames import Geometry

REMEMBERED_BYTES = 16 << 20
"""Of masks; one of a view takes 64 KiB."""

MOST_LOST = 0.05
"""Share of a view that a single frame may lose before what is built for it is its own. Up to there, taking the lost
pixels out of the geometry's estimator costs a tenth of building one, or less."""


class WholeMasks:
    """Whole masks of the geometries seen last.

    Parameters
    ----------
    unblemished
        Returns the mask, True = valid, of a frame of a geometry that has lost nothing.
    """

    def __init__(self, unblemished: Callable[[Geometry], NDArray[np.bool_]]) -> None:
        self._unblemished = unblemished
        self._known: BoundedCache[str, NDArray[np.bool_]] = BoundedCache(max_bytes=REMEMBERED_BYTES)

    def of(self, mask: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.bool_]:
        """Return the mask of which a frame's has lost some pixels: that of its geometry, or its own.

        Parameters
        ----------
        mask
            (rows, columns) of the frame, True = valid.
        geometry
            Its.
        """
        known = self._known.get(geometry.digest)
        whole = known
        if whole is None or (mask & ~whole).any():
            unblemished = self._unblemished(geometry)
            if _share_lost(unblemished, mask) <= MOST_LOST:
                whole = unblemished
            else:  # gaps that the geometry's mask does not know: negative in every frame
                whole = mask if whole is None else whole | mask
        if _share_lost(whole, mask) > MOST_LOST:
            return mask
        if whole is not known:
            self._known.put(geometry.digest, whole, n_bytes=whole.nbytes)
        return whole


def _share_lost(whole: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return float((whole & ~mask).sum() / whole.sum())
