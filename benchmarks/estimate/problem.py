"""The elastic net that all solvers are given, its exact minimum, and how far above it a solver's answer lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from dvfb_stream.fbt import PenaltyReading

NEWTON_STEPS = 50
"""Bound on the changes of the support. From a start within 1e-6 of the minimum a handful are made; from far away the
per-sample reading takes five, while the unit-norm one goes round in circles."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Design:
    """What all frames of a geometry share."""

    columns: Array
    """(n, J) U, in Fortran order, so that no solver copies it."""

    @cached_property
    def gram(self) -> Array:
        """(J, J) UᵀU."""
        return np.ascontiguousarray(self.columns.T @ self.columns)

    @cached_property
    def hessian(self) -> Array:
        """(J, J) UᵀU / n, in Fortran order."""
        return np.asfortranarray(self.gram / len(self.columns))


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """min 1/(2n) ‖U a - y‖² + alpha (l1_ratio ‖a‖₁ + ½ (1 - l1_ratio) ‖a‖²), scikit-learn's, for each y of a batch.

    Both readings of the penalty are of this form: ½ ‖·‖² + λ R is n times 1/(2n) ‖·‖² + (λ/n) R.
    """

    design: Design
    targets: Array
    """(B, n) y."""
    alpha: float
    l1_ratio: float
    column_scale: Array
    """(J,) What a coefficient of the real basis is multiplied by to become one of `columns`."""
    target_scale: Array
    """(B,) What an image was divided by to become a target."""

    @classmethod
    def of(
        cls, basis: Array, pixels: Array, *, penalty: float, l1_ratio: float, reading: PenaltyReading
    ) -> Problem:
        """Return the problem of `dvfb_stream.fbt.FourierBessel.estimate` for U and fitted pixels."""
        columns, scale, norms = basis, np.ones(basis.shape[1]), np.ones(len(pixels))
        if reading is PenaltyReading.UNIT_NORM:
            scale = np.linalg.norm(basis, axis=0)
            norms = np.linalg.norm(pixels, axis=1)
            if scale.min() < 1e-12 or norms.min() == 0:
                raise ValueError("a function that no pixel sees, or an empty image, has no unit norm")
            columns, penalty = basis / scale, penalty / basis.shape[0]
        design = Design(np.asfortranarray(columns))
        return cls(design, pixels / norms[:, None], penalty, l1_ratio, scale, norms)

    def take(self, frames: slice) -> Problem:
        """Return the problem of some frames alone."""
        return replace(self, targets=self.targets[frames], target_scale=self.target_scale[frames])

    def from_basis(self, coefficients: Array) -> Array:
        """Return unknowns of this problem, (B, J), from coefficients of the real basis."""
        return coefficients * self.column_scale / self.target_scale[:, None]

    def objective(self, a: Array) -> Array:
        """(B,) objective of (B, J), from the pixels themselves in float64."""
        misfit = np.square(self.targets - a @ self.design.columns.T).sum(1) / (2 * self.targets.shape[1])
        ridge = 0.5 * (1 - self.l1_ratio) * np.square(a).sum(1)
        return misfit + self.alpha * (self.l1_ratio * np.abs(a).sum(1) + ridge)

    def excess(self, a: Array, minimum: Minimum) -> float:
        """Return the largest share by which an objective of the batch lies above its minimum."""
        return float((self.objective(a) / minimum.objective - 1).max())


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Exact minima of a batch."""

    coefficients: Array
    """(B, J)."""
    objective: Array
    """(B,)."""
    uncertainty: float
    """No objective lies further than this share of itself above the true minimum: strong convexity, ‖g‖² / (2 κ)
    for the subgradient g at it and the ridge κ."""

    def take(self, frames: slice) -> Minimum:
        """Return the minima of some frames alone."""
        return replace(self, coefficients=self.coefficients[frames], objective=self.objective[frames])


class NoFixedPointError(Exception):
    """Newton's method goes round in circles: the start is too far from the minimum."""


def minimise(problem: Problem, start: Array) -> Minimum:
    """Return the minima, by Newton's method on support and signs from a start that is nearly there.

    On a given support with given signs the minimum solves a linear system. Unknowns whose sign turns leave the
    support, those whose correlation with the residual exceeds the penalty enter it, until nothing changes: the
    answer is then exact but for rounding, whatever the start was.

    Raises
    ------
    NoFixedPointError
        When the support still changes after `NEWTON_STEPS`.
    """
    gram, n = problem.design.gram, problem.targets.shape[1]
    l1 = problem.alpha * problem.l1_ratio * n
    ridge = problem.alpha * (1 - problem.l1_ratio) * n
    projections = problem.targets @ problem.design.columns
    answers, bounds = [], []
    for q, near in zip(projections, start, strict=True):
        signs = np.sign(near)
        for _ in range(NEWTON_STEPS):
            support = np.flatnonzero(signs)
            matrix = gram[np.ix_(support, support)] + ridge * np.eye(len(support))
            a = np.zeros(len(q))
            a[support] = cho_solve(cho_factor(matrix), q[support] - l1 * signs[support])
            descent = q - gram @ a - ridge * a
            entering = (signs == 0) & (np.abs(descent) > l1 * (1 + 1e-9))
            changed = np.where(entering, np.sign(descent), np.where(a * signs > 0, signs, 0.0))
            if np.array_equal(changed, signs):
                break
            signs = changed
        else:
            raise NoFixedPointError
        subgradient = np.where(a != 0, descent - l1 * np.sign(a), np.clip(np.abs(descent) - l1, 0, None))
        answers.append(a)
        bounds.append(np.square(subgradient).sum() / (2 * ridge) / n)
    coefficients = np.stack(answers)
    objective = problem.objective(coefficients)
    return Minimum(coefficients, objective, float((np.array(bounds) / objective).max()))
