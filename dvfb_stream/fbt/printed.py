"""Algorithm 1 to the letter: the reference that the Hermitian form is compared with."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from dvfb_stream.fbt.plan import FourierBessel

SWEEPS = 20
"""Sweeps of coordinate descent after which the paper ends the solver (section 4.1)."""


def complex_basis(plan: FourierBessel) -> NDArray[np.complex128]:
    """Return Ψ' of Algorithm 1 line 3, (n pixels, B): columns order by order, n = 1..n_radial in each."""
    columns = []
    blocks = iter(np.split(plan.basis().cpu().numpy(), plan.unknowns // plan.settings.n_radial, axis=1))
    for order in plan.settings.orders:
        cosine = next(blocks)
        columns.append(cosine.astype(complex) if order == 0 else (cosine + 1j * next(blocks)) / np.sqrt(2.0))
    return np.hstack(columns)


def estimate_printed(
    plan: FourierBessel,
    image: NDArray[Any],
    penalty: float = 1e-4,
    l1_ratio: float = 0.8,
    *,
    sweeps: int = SWEEPS,
    tolerance: float = 0.0,
) -> NDArray[np.complex128]:
    """Return A of Algorithm 1 as printed: complex coefficients of m >= 0 alone, imaginary rows asked to be 0.

    The 2B real unknowns and 2n rows of line 4 are solved by scikit-learn's coordinate descent, which scales
    (9) by 1/(2 · rows) and halves the squared norm.

    Parameters
    ----------
    plan
        Gives the cropped, masked basis.
    image
        (H, W).
    penalty, l1_ratio
        λ and α of (9).
    sweeps
        Bound on the passes over all unknowns.
    tolerance
        scikit-learn's; 0 makes all sweeps.

    Returns
    -------
    ndarray of shape (n_radial, n_orders), complex
        In the convention of the paper, f = Σ A Ψ over m >= 0: for m > 0 near twice the Hermitian form's.
    """
    pixels = plan.working_pixels(np.asarray(image, dtype=np.float64)[None])[0].cpu().numpy()
    psi = complex_basis(plan)
    stacked = np.block([[psi.real, -psi.imag], [psi.imag, psi.real]])  # line 4
    target = np.concatenate([pixels, np.zeros_like(pixels)])
    solver = ElasticNet(alpha=penalty, l1_ratio=l1_ratio, fit_intercept=False, max_iter=sweeps, tol=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ending early is what the paper does
        solver.fit(stacked, target)  # line 5
    count = psi.shape[1]
    coefficients: NDArray[np.complex128] = solver.coef_[:count] + 1j * solver.coef_[count:]  # line 6
    return coefficients.reshape(len(plan.settings.orders), plan.settings.n_radial).T
