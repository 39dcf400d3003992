"""What a view shows along the azimuth, for figures: itself in polar coordinates, and the harmonics measured on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.harmonics import ORDERS, Harmonics
from dvfb_stream.azimuthal.maxima import SIGNIFICANT
from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.frames import Geometry
from dvfb_stream.view import View, ViewResampler

AZIMUTHS = 360
"""Rows of a map, a degree each, from -180 on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Azimuth:
    """Of one view."""

    map: NDArray[np.float32]
    """(360, R): intensities of the view, a degree a row from -180 on, a view pixel of radius a column from 0 on."""
    masked: NDArray[np.bool_]
    """(360, R): on the view, but not valid."""
    seen: NDArray[np.bool_]
    """(360, R): valid."""
    harmonics: Harmonics
    """Of this view alone: those that decide."""
    units: float
    """Of their radii in a view pixel."""
    verified: bool
    """Whether they follow from sectors that agree with their opposites; else from all that are seen."""
    order: int
    """2, 4 or 6; 0: none stands out."""
    contrast: float
    """Of that order, at least: standard deviation along the azimuth over the mean; NaN: nothing could be measured."""

    @property
    def radii(self) -> NDArray[np.float64]:
        """(K,) view pixels: of the rings whose harmonics are known."""
        return np.asarray(self.harmonics.radii[self.harmonics.known[0]] / self.units)

    def contrasts(self, order: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the contrast of an order on each ring of `radii`, and whether it is significant, (K,) each."""
        known, k = self.harmonics.known[0], ORDERS.index(order)
        amplitude = np.abs(self.harmonics.amplitude[0, known, k])
        return amplitude / math.sqrt(2), self.harmonics.significance[0, known, k] > SIGNIFICANT


def measure_azimuth(view: View, geometry: Geometry) -> Azimuth:
    """Return what the view of a frame of this geometry shows along the azimuth."""
    raster, finer = ViewResampler(geometry).fine, len(view.fine.mask) / len(view.mask)
    x, y = ((centre + 0.5) * finer - 0.5 for centre in (view.center_x, view.center_y))
    orders = AzimuthalOrders(view.fine.mask, x, y, raster.area, step=raster.step)
    counts = [view.fine.counts]
    (found,) = orders.measure(counts)
    verified, seen = orders.harmonics(counts)
    decides = found.verified if found.seen is None else found.seen
    values, inside, valid = _polar(view)
    return Azimuth(
        map=values,
        masked=inside & ~valid,
        seen=valid,
        harmonics=verified if found.seen is None else seen,
        units=raster.step * finer,
        verified=found.seen is None,
        order=decides.order,
        contrast=decides.contrast if decides.rings_known else math.nan,
    )


def _polar(view: View) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the nearest pixel's intensity by azimuth and radius, which are on the view, and which are valid."""
    rows, columns = view.image.shape
    corners = np.hypot(
        *np.meshgrid(
            (-0.5 - view.center_x, columns - 0.5 - view.center_x),
            (-0.5 - view.center_y, rows - 0.5 - view.center_y),
        )
    )
    azimuth = np.radians(np.arange(AZIMUTHS) - AZIMUTHS // 2)[:, None]
    radius = np.arange(math.ceil(corners.max())) + 0.5
    x = np.rint(view.center_x + radius * np.cos(azimuth)).astype(int)
    y = np.rint(view.center_y + radius * np.sin(azimuth)).astype(int)
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    place = np.where(inside, y, 0), np.where(inside, x, 0)
    return view.image[place], inside, inside & view.mask[place]
