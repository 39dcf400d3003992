"""The masked Fourier-Bessel estimate of single frames, computed for Figure 5 of the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBesselSettings, complex_from_real
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.frames import Frame
from dvfb_stream.view import VIEW_SIZE, View, ViewResamplers

ESTIMATOR_BYTES = 256 << 20
"""A few geometries; files of one call mostly share one."""

MOST_BYTES = 1 << 30
"""Of the basis and its Gram matrix together, in float64. The paper's settings take 0.1 GB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """The estimate of one frame, and what is needed to show it."""

    view: View
    fitted: NDArray[np.bool_]
    """(S, S), True where a pixel of the view enters the fit."""
    fitted_working: NDArray[np.bool_]
    """(s, s), the same in working pixels."""
    radius: float
    """Of the disk within which pixels are fitted, in view pixels: that of (8), or a where a is smaller."""
    coefficients: NDArray[np.complex64]
    """(n_radial, n_orders)."""
    recovered: NDArray[np.float32]
    """(s, s) of the same field of view: the inverse (6), also behind the mask."""
    residual: float
    """Share of the fitted pixels' energy that the coefficients leave unexplained, 0 to 1."""
    unknowns: int
    """Real unknowns of the fit."""
    nonzero: int
    """Unknowns that the penalty left standing."""
    iterations: int
    gap: float
    """The objective (9) lies at most this share of itself above its minimum."""


class Estimator:
    """Estimates frames, all with the same settings.

    Raises
    ------
    SettingsError
        When the settings ask for more memory than a figure is worth.
    """

    def __init__(self, settings: FourierBesselSettings) -> None:
        unknowns = settings.n_radial * sum(1 if order == 0 else 2 for order in settings.orders)
        pixels = math.ceil(VIEW_SIZE / settings.downsample) ** 2
        needed = 8 * (pixels + unknowns) * unknowns
        if needed > MOST_BYTES:
            raise SettingsError(
                f"n_radial = {settings.n_radial} with {len(settings.orders)} orders and downsample = "
                f"{settings.downsample} takes {needed / 2**30:.1f} GiB; ask for at most {MOST_BYTES / 2**30:.0f} GiB "
                "by fewer radial indices or orders"
            )
        self.settings = settings
        self._resamplers = ViewResamplers()
        self._estimators = FourierBesselCache(
            settings, self._resamplers, device=torch.device("cpu"), max_bytes=ESTIMATOR_BYTES
        )

    def estimate(self, frame: Frame) -> Estimate:
        """Return the estimate of a frame.

        Raises
        ------
        FrameError
            When the frame has no view.
        GeometryError
            When no basis function reaches a valid pixel.
        """
        view = self._resamplers.get(frame.geometry).view(frame.pixels)
        estimator = self._estimators.get(view, frame.geometry)
        solution = estimator.solve(view.image[None])
        coefficients = complex_from_real(
            solution.coefficients, n_radial=self.settings.n_radial, orders=self.settings.orders
        )
        block = np.ones((self.settings.downsample,) * 2, dtype=bool)
        rows, columns = view.mask.shape
        objective = float(solution.objective[0])
        return Estimate(
            view=view,
            fitted=np.kron(estimator.fitted_pixels, block)[:rows, :columns] & view.mask,
            fitted_working=estimator.fitted_pixels,
            radius=min(estimator.grid.disk_radius() * self.settings.downsample, self.settings.radius),
            coefficients=coefficients[0].cpu().numpy(),
            recovered=estimator.reconstruct(coefficients)[0].cpu().numpy(),
            residual=float(solution.unexplained[0]),
            unknowns=estimator.unknowns,
            nonzero=int((solution.coefficients[0] != 0).sum()),
            iterations=solution.iterations,
            gap=float(solution.gap[0]) / objective if objective > 0 else 0.0,
        )
