"""Algorithm 1 as printed: complex coefficients, real and imaginary rows, 20 sweeps of scikit-learn's ElasticNet."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import ElasticNet

from benchmarks.estimate.problem import Array, Design, Problem
from benchmarks.estimate.solvers import one_by_one
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.reproduction.printed_form import SWEEPS, complex_basis


def printed_problem(estimator: FourierBessel, pixels: Array, *, penalty: float, l1_ratio: float) -> Problem:
    """Return line 4 of Algorithm 1, stacked once for the geometry; targets are pixels above as many zeros."""
    psi = complex_basis(estimator)
    stacked = np.asfortranarray(np.block([[psi.real, -psi.imag], [psi.imag, psi.real]]))
    return Problem(
        Design(stacked),
        np.hstack([pixels, np.zeros_like(pixels)]),
        penalty,
        l1_ratio,
        np.ones(stacked.shape[1]),
        np.ones(len(pixels)),
    )


def fit(problem: Problem, *, sweeps: int = SWEEPS) -> Array:
    """Return the 880 unknowns of each frame after the paper's sweeps; nothing but the solver's own work."""
    solver = ElasticNet(
        alpha=problem.alpha,
        l1_ratio=problem.l1_ratio,
        fit_intercept=False,
        copy_X=False,
        tol=0.0,
        max_iter=sweeps,
    )
    return one_by_one(lambda target: solver.fit(problem.design.columns, target).coef_.copy(), problem)
