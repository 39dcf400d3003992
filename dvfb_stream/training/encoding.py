"""From labelled frames to what the networks are shown of them: views, masks and coefficients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.frames import Geometry
from dvfb_stream.simulation import Simulator
from dvfb_stream.view import VIEW_SIZE, ViewResampler


@dataclass(frozen=True, slots=True, eq=False)
class GeometryViews:
    """Views of frames that share a geometry, and the plan that estimates their coefficients."""

    images: torch.Tensor
    """(B, 256, 256) float32 views."""
    mask: NDArray[np.bool_]
    """(256, 256), True = valid in all of them."""
    plan: FourierBessel


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Frames as the networks are shown them; the arrays may lie on disk."""

    images: NDArray[np.float16]
    """(B, 256, 256) views, 0..255, 0 where invalid."""
    masks: NDArray[np.uint8]
    """(B, 256, 32) valid pixels, eight to a byte along rows."""
    coefficients: NDArray[np.complex64]
    """(B, n_radial, n_orders)."""


def by_geometry(
    simulator: Simulator, start: int, stop: int
) -> Iterator[tuple[Geometry, NDArray[np.generic], NDArray[np.bool_]]]:
    """Yield geometry, pixels (B, H, W) and labels (B, 10) of the frames of each experiment, in order."""
    batches = simulator.batches(start, stop)
    for geometry, group in itertools.groupby(batches, key=lambda batch: batch.geometry):
        members = list(group)
        yield (
            geometry,
            torch.cat([batch.pixels for batch in members]).cpu().numpy(),
            torch.cat([batch.labels for batch in members]).numpy(),
        )


def views_of(
    pixels: Sequence[NDArray[np.generic]] | NDArray[np.generic],
    geometry: Geometry,
    settings: FourierBesselSettings,
) -> GeometryViews | None:
    """Return views and plan of frames of one geometry, or None where no annotator would take them.

    Dead pixels and overflows may differ between frames; the estimate takes those valid in all.

    Parameters
    ----------
    pixels
        (H, W) each.
    geometry
        Of all of them. Nothing valid, or a beam too far off, gives None.
    settings
        Of the Fourier-Bessel estimate.
    """
    try:
        plan = ViewResampler(geometry)
        views = [plan.view(frame) for frame in pixels]
        common = np.logical_and.reduce([view.mask for view in views])
        fourier_bessel = FourierBessel.from_settings(
            settings,
            shape=(VIEW_SIZE, VIEW_SIZE),
            center_x=plan.center_x,
            center_y=plan.center_y,
            mask=common,
        )
    except (FrameError, GeometryError):
        return None
    return GeometryViews(torch.from_numpy(np.stack([view.image for view in views])), common, fourier_bessel)


def encode(
    pixels: Sequence[NDArray[np.generic]] | NDArray[np.generic],
    geometry: Geometry,
    settings: FourierBesselSettings,
) -> Encoded | None:
    """Return what the networks are shown of frames of one geometry; None as `views_of`."""
    views = views_of(pixels, geometry, settings)
    if views is None:
        return None
    masks = np.broadcast_to(np.packbits(views.mask, axis=-1), (len(pixels), VIEW_SIZE, VIEW_SIZE // 8))
    images = np.where(views.mask, views.images.numpy(), 0).astype(np.float16)
    return Encoded(images, masks, views.plan.estimate(views.images).numpy())
