"""Which estimator a view gets: its geometry's own, or that without the pixels that the frame alone lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable

import numpy as np
import torch
from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import GeometryError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.frames import Geometry
from dvfb_stream.view import View, ViewResamplers
from dvfb_stream.whole_masks import WholeMasks

REMEMBERED = 4096
"""Estimators let go whose keys' hashes are remembered, to notice that they come back."""


class FourierBesselCache:
    """Estimators for views of any geometry on one device, bounded in bytes; for one thread at a time.

    The estimator used least recently goes first. Should estimators that went come back, the stream goes round more
    geometries than fit, and that rule would let go of each just before it is needed: any one goes then, so that
    most of what fits is found again.

    Parameters
    ----------
    settings
        Of the estimate.
    resamplers
        Where the view of a geometry that has lost nothing is found.
    device
        Where estimators compute.
    max_bytes
        Bound on the sum of `FourierBessel.nbytes`; the estimator asked for last is kept in any case. One of a
        256 x 256 view takes some 15 to 25 MB.
    """

    def __init__(
        self,
        settings: FourierBesselSettings,
        resamplers: ViewResamplers,
        *,
        device: torch.device,
        max_bytes: int,
    ) -> None:
        self.max_bytes = max_bytes
        self._settings = settings
        self._resamplers = resamplers
        self._device = device
        self._kept: dict[Hashable, FourierBessel] = {}  # the one used least recently first
        self._gone: BoundedCache[int, None] = BoundedCache(REMEMBERED)
        self._choice = random.Random(0)
        self._whole_masks = WholeMasks(lambda geometry: resamplers.get(geometry).mask)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes held by all estimators."""
        return sum(estimator.nbytes for estimator in self._kept.values())

    def on(self, device: torch.device) -> FourierBesselCache:
        """Return such a cache for another device, empty; estimators of this one are left where they are."""
        return FourierBesselCache(self._settings, self._resamplers, device=device, max_bytes=self.max_bytes)

    def get(self, view: View, geometry: Geometry) -> FourierBessel:
        """Return the estimator of a view: the geometry's own, but for pixels that this frame alone has lost.

        Raises
        ------
        GeometryError
            When no basis function reaches the valid pixels.
        """
        whole = self._whole_masks.of(view.mask, geometry)

        def key(mask: NDArray[np.bool_]) -> Hashable:
            return view.center_x, view.center_y, np.packbits(mask).tobytes()

        def build() -> FourierBessel:
            return FourierBessel.from_settings(
                self._settings,
                shape=(whole.shape[0], whole.shape[1]),
                center_x=view.center_x,
                center_y=view.center_y,
                mask=whole,
                device=self._device,
            )

        try:
            estimator = self._find(key(whole), build)
            lost = whole & ~view.mask
            if not lost.any():
                return estimator
            return self._find(key(view.mask), lambda: estimator.without(lost))
        except GeometryError as error:
            # The estimator speaks of view pixels; who gave the centre gave it in detector pixels.
            rows, columns = geometry.shape
            raise GeometryError(
                f"the beam centre x={geometry.center_x:g}, y={geometry.center_y:g} lies so far from the valid pixels "
                f"of this {columns} x {rows} (width x height) detector that no basis function reaches them; "
                "check the centre (in detector pixels) and the mask"
            ) from error

    def _find(self, key: Hashable, build: Callable[[], FourierBessel]) -> FourierBessel:
        estimator = self._kept.pop(key, None)
        if estimator is None:
            estimator = build()
            self._make_room(estimator.nbytes, goes_round=hash(key) in self._gone)
        self._kept[key] = estimator
        return estimator

    def _make_room(self, n_bytes: int, *, goes_round: bool) -> None:
        # Summed anew each time: an estimator grows when a type or a penalty is first used.
        while self._kept and self.nbytes + n_bytes > self.max_bytes:
            leaving = self._choice.choice(list(self._kept)) if goes_round else next(iter(self._kept))
            del self._kept[leaving]
            self._gone.put(hash(leaving), None)
