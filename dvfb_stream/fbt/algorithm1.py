"""Algorithm 1 of the paper, line by line: crop, disk (8), mask (12), project, solve (9), join.

This is its Hermitian form, for many images at once: orders m >= 0 fix a real image, so that the basis U is real and
line 4 falls away. `dvfb_stream.reproduction.printed_form` has it as printed, decision 0001 compares both. The basis
is the same for all images of a geometry: `see` takes lines 1 and 2 once for all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.fbt import elastic_net
from dvfb_stream.fbt.coefficients import complex_from_real
from dvfb_stream.fbt.elastic_net import PenalisedFit, Solution
from dvfb_stream.fbt.projection import FittedBasis, FittedPixels, Projections, WorkingGrid
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading


def see(
    settings: FourierBesselSettings,
    valid: NDArray[np.bool_],
    *,
    center_x: float,
    center_y: float,
    device: torch.device,
) -> FittedBasis:
    """Lines 1 and 2, once a geometry: return the basis U on the n working pixels that the fit sees.

    Parameters
    ----------
    settings
        Radius a, radial indices, orders, and the side of the blocks that are averaged to working pixels.
    valid
        (H, W) boolean, True = valid: the mask (12) on the window P of (7).
    center_x, center_y
        Direct beam in pixels of the window.
    device
        Where images are projected.

    Raises
    ------
    GeometryError
        When the fit sees no pixel.
    """
    # Line 1, crop: the window's working pixels about the beam, instead of a window cut out of a stored basis.
    grid = WorkingGrid.of((valid.shape[0], valid.shape[1]), center_x, center_y, settings.downsample)
    # Line 2, the disk of (8) and the mask (12). From r = a on the basis (4) is zero and has nothing to fit.
    radius = settings.radius / settings.downsample
    r, _ = grid.polar()
    disk = (r < grid.disk_radius()) & (r < radius)
    pixels = FittedPixels(grid, valid, disk, downsample=settings.downsample, device=device)
    return FittedBasis(pixels, radius=radius, n_radial=settings.n_radial, orders=settings.orders)


def project(basis: FittedBasis, images: ArrayLike | Tensor, reading: PenaltyReading) -> Projections:
    """Lines 2 and 3 for the images I, (B, H, W): return q = UᵀI and ‖I‖², all that (9) needs of them.

    In unit norm, functions of which the fitted pixels see little are scaled up, and float32's rounding with them:
    there the products are in float64.
    """
    return basis.project(images, torch.float64 if reading is PenaltyReading.UNIT_NORM else None)


def solve(
    fit: PenalisedFit,
    projections: Projections,
    settings: FourierBesselSettings,
    *,
    max_iterations: int,
    start: Tensor | None = None,
) -> Solution:
    """Line 5: return the real unknowns a, (B, J), that minimise (9) over the n fitted pixels of each image.

    (9) is what scikit-learn's ``ElasticNet(alpha=penalty, l1_ratio=l1_ratio, fit_intercept=False)`` minimises::

        1/(2n) ‖U a - I‖² + penalty · (l1_ratio ‖a‖₁ + ½ (1 - l1_ratio) ‖a‖²)

    In the unit-norm reading ½ ‖·‖² stands for 1/(2n) ‖·‖², and I and the columns of U have unit norm.
    """
    q, lengths = fit.scaled(projections)
    minimum = elastic_net.solve(
        fit.quadratic,
        q,
        # A blank frame's length is one, so that its energy stays zero.
        projections.energies / lengths[:, 0].double().square(),
        solver=settings.solver,
        tolerance=settings.tolerance,
        max_iterations=max_iterations,
        start=None if start is None else fit.in_units_of_the_problem(start, lengths),
    )
    return fit.rescaled(minimum, lengths)


def join(unknowns: Tensor, settings: FourierBesselSettings) -> Tensor:
    """Line 6: return the complex A, (B, n_radial, n_orders), of the unknowns of cosines and sines."""
    return complex_from_real(unknowns, n_radial=settings.n_radial, orders=settings.orders)
