"""Which Fourier-Bessel plan a view gets: its geometry's own, or that without the pixels that the frame alone lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import torch
from numpy.typing import NDArray

from dvfb_stream.errors import GeometryError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings, PlanCache
from dvfb_stream.frames import Geometry
from dvfb_stream.view import View, ViewPlans

WHOLE_MASKS = 256
"""Geometries of which the mask of a frame that had lost nothing is remembered: 64 KiB each."""

MOST_LOST = 0.05
"""Share of a view that a single frame may lose before it gets a plan of its own. Up to there, taking the lost pixels
out of the geometry's plan costs a tenth of building one, or less."""


class GeometryPlans:
    """Plans for views of any geometry on one device, bounded in bytes; for one thread at a time.

    Parameters
    ----------
    settings
        Of the estimate.
    views
        Where the view of a geometry that has lost nothing is found.
    device
        Where plans compute.
    max_bytes
        Bound on the plans kept for geometries seen before.
    """

    def __init__(
        self, settings: FourierBesselSettings, views: ViewPlans, *, device: torch.device, max_bytes: int
    ) -> None:
        self._settings = settings
        self._views = views
        self._device = device
        self._cache = PlanCache(max_bytes)
        self._whole_masks: OrderedDict[Geometry, NDArray[np.bool_]] = OrderedDict()

    def on(self, device: torch.device) -> GeometryPlans:
        """Return such plans on another device, none built yet; those of this one are left where they are."""
        return GeometryPlans(self._settings, self._views, device=device, max_bytes=self._cache.max_bytes)

    def get(self, view: View, geometry: Geometry) -> FourierBessel:
        """Return the plan of a view: the geometry's own, but for pixels that this frame alone has lost.

        Raises
        ------
        GeometryError
            When no basis function reaches the valid pixels.
        """
        whole = self._whole_masks.get(geometry)
        if whole is None or (view.mask & ~whole).any():
            unblemished = self._views.get(geometry).mask
            if _share_lost(unblemished, view.mask) <= MOST_LOST:
                whole = unblemished
            else:  # gaps that the geometry's mask does not know: negative in every frame
                whole = view.mask if whole is None else whole | view.mask
        if _share_lost(whole, view.mask) > MOST_LOST:
            whole = view.mask
        else:
            self._whole_masks[geometry] = whole
            self._whole_masks.move_to_end(geometry)
            if len(self._whole_masks) > WHOLE_MASKS:
                self._whole_masks.popitem(last=False)

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
            plan = self._cache.get(key(whole), build)
            lost = whole & ~view.mask
            return self._cache.get(key(view.mask), lambda: plan.without(lost)) if lost.any() else plan
        except GeometryError as error:
            # The plan speaks of view pixels; who gave the centre gave it in detector pixels.
            rows, columns = geometry.shape
            raise GeometryError(
                f"the beam centre x={geometry.center_x:g}, y={geometry.center_y:g} lies so far from the valid pixels "
                f"of this {columns} x {rows} (width x height) detector that no basis function reaches them; "
                "check the centre (in detector pixels) and the mask"
            ) from error


def _share_lost(whole: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return float((whole & ~mask).sum() / whole.sum())
