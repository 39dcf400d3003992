"""Algorithm 1 by the solver that the paper used: the references that `FourierBessel.estimate` is compared with.

`estimate_printed` is Algorithm 1 to the letter, `estimate_early_stopped` its Hermitian form; both end the solver
after 20 sweeps. One image at a time, by scikit-learn's coordinate descent on the pixels: slow, and independent of
the Gram matrix and the solver of the estimator.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.algorithm1 import join
from dvfb_stream.fbt.coefficients import check_hermitian
from dvfb_stream.fbt.elastic_net.problem import UNSEEN
from dvfb_stream.fbt.estimator import FourierBessel
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading

SWEEPS = 20
"""Sweeps of coordinate descent after which the paper ends the solver (section 4.1)."""


def complex_basis(estimator: FourierBessel) -> NDArray[np.complex128]:
    """Return Ψ' of Algorithm 1 line 3, (n fitted pixels, B), with B = n_radial · n_orders.

    Columns run over all orders for n = 1, then for n = 2, as Ψ ∈ C^{40 x 11 x 600 x 600} is reshaped.
    """
    # U holds √2 Re Ψ and √2 Im Ψ where A = (a_cos - i a_sin) / √2 has its a: the same map, conjugated.
    conjugate = join(estimator.basis(), estimator.settings)
    psi: NDArray[np.complex128] = conjugate.conj().resolve_conj().flatten(1).cpu().numpy()
    return psi


def estimate_printed(
    estimator: FourierBessel,
    image: NDArray[Any],
    penalty: float = 1e-4,
    l1_ratio: float = 0.8,
    *,
    reading: PenaltyReading | str = PenaltyReading.PER_SAMPLE,
    sweeps: int = SWEEPS,
    tolerance: float = 0.0,
) -> NDArray[np.complex128]:
    """Return A of Algorithm 1 as printed: complex coefficients of m >= 0 alone, imaginary rows asked to be 0.

    Parameters
    ----------
    estimator
        Gives the cropped, masked basis.
    image
        (H, W).
    penalty, l1_ratio
        λ and α of (9).
    reading
        Scale of λ against the 2n rows of line 4, n of them asked to be 0. Per sample, 1/(4n) ‖·‖² + λ R: the
        penalty weighs twice what it does in the Hermitian form. In unit norm, ½ ‖·‖² + λ R.
    sweeps
        Bound on the passes over all unknowns.
    tolerance
        scikit-learn's; 0 makes all sweeps.

    Returns
    -------
    ndarray of shape (n_radial, n_orders), complex
        An estimate of P_nm of (5), like the Hermitian form's, and not twice that: how near the two are, and what
        becomes of the imaginary part of m = 0, says `hermitian_from_printed`.

    Raises
    ------
    FrameError
        When the image's shape or type is wrong, or a valid pixel is not finite.
    SettingsError
        When a setting is of a wrong type or out of range.
    """
    # Line 1, the basis cropped to the window: the estimator evaluates it at the window's pixels about the beam.
    # Line 2, the projection onto the disk (8) and the mask (12): the estimator's fitted pixels, of basis and image.
    # Line 3, one row a pixel, one column a basis function.
    psi = complex_basis(estimator)
    pixels = _fitted(estimator, image)
    # Line 4; the image is real.
    stacked = np.block([[psi.real, -psi.imag], [psi.imag, psi.real]])
    target = np.concatenate([pixels, np.zeros_like(pixels)])
    # Line 5.
    unknowns = _coordinate_descent(
        stacked,
        target,
        penalty=penalty,
        l1_ratio=l1_ratio,
        reading=reading,
        sweeps=sweeps,
        tolerance=tolerance,
    )
    # Line 6.
    count = psi.shape[1]
    coefficients = unknowns[:count] + 1j * unknowns[count:]
    return coefficients.reshape(estimator.settings.n_radial, len(estimator.settings.orders))


def estimate_early_stopped(
    estimator: FourierBessel,
    image: NDArray[Any],
    penalty: float = 1e-4,
    l1_ratio: float = 0.8,
    *,
    reading: PenaltyReading | str = PenaltyReading.UNIT_NORM,
    sweeps: int = SWEEPS,
    tolerance: float = 0.0,
) -> NDArray[np.complex128]:
    """Return the coefficients of Algorithm 1 in its Hermitian form when the solver is ended after 20 sweeps.

    Where the problem is stiff, as in unit norm, that is far from the minimum, and what comes out depends on the
    order in which unknowns are visited: here that of the estimator's basis, all n of one order after another, cos
    before sin. Visiting all orders of one n after another instead moves coefficients of m > 0 by 4 to 80 %
    (measured at the paper's size; per sample by 0.1 % at most, where 20 sweeps converge).

    Parameters
    ----------
    estimator, image, penalty, l1_ratio, sweeps, tolerance
        As for `estimate_printed`.
    reading
        Scale of λ against the n rows, as for `FourierBessel.estimate`, which gives the minimum itself.

    Returns
    -------
    ndarray of shape (n_radial, n_orders), complex
        In the convention of `FourierBessel.estimate`.

    Raises
    ------
    FrameError
        When the image's shape or type is wrong, or a valid pixel is not finite.
    SettingsError
        When a setting is of a wrong type or out of range.
    """
    unknowns = _coordinate_descent(
        estimator.basis().cpu().numpy(),
        _fitted(estimator, image),
        penalty=penalty,
        l1_ratio=l1_ratio,
        reading=reading,
        sweeps=sweeps,
        tolerance=tolerance,
    )
    coefficients: NDArray[np.complex128] = join(torch.from_numpy(unknowns), estimator.settings).numpy()
    return coefficients


def hermitian_from_printed(coefficients: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return the Hermitian coefficients that those of `estimate_printed` estimate, (..., n_radial, n_orders).

    The printed form fits I by ΨA over m >= 0 with complex A, and asks Im ΨA = 0 of as many rows again. Without the
    orders below zero it cannot fit I; the two requests meet half way, at A = P_nm of (5), where Re ΨA holds order 0
    and half of all above. So it estimates the Hermitian coefficients themselves, not twice them: what is
    left to do is to drop the imaginary part of m = 0, and to sum A with its negative orders instead of Re ΨA.

    Exact where the fitted pixels fill whole circles about the beam (to 1 %, as round as those are): orders do not mix
    there. Penalties differ: at λ per sample the printed form has the ridge of the Hermitian form at 2λ, and its L1
    term at 2λ for m = 0 and 2√2 λ above; in unit norm the same ridge, and L1 at λ and √2 λ. Over arcs it holds in
    part, the less the weaker the penalty: decision 0001 has measured numbers.

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex.
    orders
        m >= 0 of each column.

    Raises
    ------
    SettingsError
        When coefficients and orders do not belong together or an order is negative.
    """
    check_hermitian(coefficients, orders)
    zero = torch.tensor([order == 0 for order in orders], device=coefficients.device)
    return torch.where(zero, coefficients.real.to(coefficients.dtype), coefficients)


def _fitted(estimator: FourierBessel, image: NDArray[Any]) -> NDArray[np.float64]:
    """I' of Algorithm 1 line 3, (n fitted pixels,)."""
    pixels: NDArray[np.float64] = (
        estimator.working_pixels(np.asarray(image, dtype=np.float64)[None])[0].cpu().numpy()
    )
    return pixels


def _coordinate_descent(
    design: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    penalty: float,
    l1_ratio: float,
    reading: PenaltyReading | str,
    sweeps: int,
    tolerance: float,
) -> NDArray[np.float64]:
    """Algorithm 1 line 5 in either reading: the unknowns, (columns,), after so many sweeps from zero."""
    settings = FourierBesselSettings.from_dict({"penalty": penalty, "l1_ratio": l1_ratio, "reading": reading})
    if sweeps < 1 or sweeps % 1:
        raise SettingsError(f"sweeps must be an integer of at least 1, not {sweeps!r}")
    if not tolerance >= 0:
        raise SettingsError(f"tolerance must be at least 0, which makes all sweeps, not {tolerance!r}")
    # scikit-learn's objective is 1/(2 · rows) ‖·‖² + alpha · (l1_ratio ‖·‖₁ + ½ (1 - l1_ratio) ‖·‖²).
    alpha, unit = settings.penalty, np.ones(design.shape[1])
    if settings.reading is PenaltyReading.UNIT_NORM:
        alpha /= len(target)
        columns, norm = np.linalg.norm(design, axis=0), float(np.linalg.norm(target))
        # An unseen column becomes zero, and its unknown stays there; so do all unknowns of a blank image.
        unit = np.divide(1.0, columns, out=np.zeros_like(columns), where=columns > UNSEEN * columns.max())
        design, target = design * unit, target / (norm or 1.0)
        unit *= norm
    solver = ElasticNet(
        alpha=alpha,
        l1_ratio=settings.l1_ratio,
        fit_intercept=False,
        max_iter=int(sweeps),
        tol=float(tolerance),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ending early is what the paper does
        solver.fit(design, target)
    unknowns: NDArray[np.float64] = solver.coef_ * unit
    return unknowns
