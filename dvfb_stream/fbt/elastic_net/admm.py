"""ADMM for the elastic net: one product with a factorised matrix and one soft threshold a step.

With f the smooth part of P and κ₁‖·‖₁ the other (Boyd et al. 2011, over-relaxed)::

    x = argmin f(x) + ρ/2 ‖x - (z - u)‖² = (G + κ₂ + ρ)⁻¹ (q + ρ (z - u))
    w = γ x + (1 - γ) z + u
    z = soft threshold of w at κ₁/ρ
    u = w - z

The iterate is z, sparse as the minimum is. State is w alone, which fixes z and u.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.problem import Quadratic

RELAXATION = 1.8
"""γ. Measured with the start below: one step less than 1.6 in the per-sample reading."""

PENALTY_EXPONENT = 0.46
"""ρ = L^(1-e) μ^e for a smooth part with curvatures from μ to L. The splitting itself contracts best at e = ½; the
threshold holds back flat directions too, so that a stiff problem takes a larger ρ."""

LARGEST_PENALTY = 0.39
"""Share of L that ρ is at most: in the per-sample reading a step less than with ½."""

SMALLEST_CURVATURE = 1e-6
"""Share of the largest eigenvalue that stands for κ₂ in ρ where κ₂ is less, down to none: the lasso."""


BALANCE_EVERY = 320
"""Steps after which ρ is looked at again, far more than a well-conditioned problem takes. Stiff problems differ in
the ρ that suits them, a few pixels by a factor of 100; each change costs a factorisation, some 30 steps' worth."""

IMBALANCE = 3.0
"""Ratio of the residuals from which on ρ is changed; within it there is little to win."""

LARGEST_CHANGE = 5.0
"""Factor by which ρ changes at most at a time: residuals far from the minimum exaggerate."""


class Admm:
    """Steps of a batch.

    Parameters
    ----------
    quadratic
        G, κ₁ and κ₂.
    projections
        (B, J) q in the working type.
    start
        (B, J) coefficients to start from, or None.
    """

    def __init__(self, quadratic: Quadratic, projections: Tensor, start: Tensor | None = None) -> None:
        self._quadratic = quadratic
        self._projections = projections
        largest = quadratic.largest_eigenvalue + quadratic.l2
        weakest = max(quadratic.l2, SMALLEST_CURVATURE * largest)
        rho = largest * min((weakest / largest) ** PENALTY_EXPONENT, LARGEST_PENALTY)
        self._rho, self._inverse, self._constant, self._threshold = 0.0, projections, projections, 0.0
        self._use(rho, quadratic.inverse(rho, projections.dtype))
        if start is None:
            # The ridge solution, which costs nothing: ρ is in the first product's matrix, and this takes it out
            # again where the image has most to say. Two steps less than from zero.
            self._w = self._constant * (1.0 + rho / largest)
        else:
            # At the minimum u is minus the gradient of f over ρ.
            pull = projections - start @ quadratic.gram_in(start.dtype) - quadratic.l2 * start
            self._w = start + pull / rho
        self.coefficients = torch.nn.functional.softshrink(self._w, self._threshold)
        self._unbalanced_steps = 0

    def advance(self, steps: int) -> None:
        """Take some steps."""
        if steps < 1:
            return
        w, z = self._w, self.coefficients
        # In place: (B, J) is large enough that new memory at each line would show.
        v, x = torch.empty_like(w), torch.empty_like(w)
        for _ in range(steps):
            last = z
            torch.sub(z, w, out=v).add_(z)
            torch.addmm(self._constant, v, self._inverse, alpha=self._rho, out=x)
            w.add_(x.sub_(z), alpha=RELAXATION)
            z = torch.nn.functional.softshrink(w, self._threshold)
        self._w, self.coefficients = w, z
        self._unbalanced_steps += steps
        if self._unbalanced_steps >= BALANCE_EVERY:
            self._balance(x.add_(last), last)
            self._unbalanced_steps = 0

    def keep(self, frames: Tensor) -> None:
        """Go on with some frames of the batch alone."""
        self._w, self.coefficients = self._w[frames], self.coefficients[frames]
        self._projections, self._constant = self._projections[frames], self._constant[frames]

    def _use(self, rho: float, inverse: Tensor) -> None:
        self._rho = rho
        self._inverse = inverse
        self._constant = self._projections @ inverse
        self._threshold = self._quadratic.l1 / rho

    def _balance(self, x: Tensor, last: Tensor) -> None:
        """Bring ρ to where x - z and the change of z, each relative, fall alike (Boyd et al. 2011, 3.4.1)."""
        z, u = self.coefficients, self._w - self.coefficients
        tiny = torch.finfo(z.dtype).tiny
        primal = (x - z).norm(dim=1) / torch.maximum(x.norm(dim=1), z.norm(dim=1)).clamp_min(tiny)
        dual = (z - last).norm(dim=1) / u.norm(dim=1).clamp_min(tiny)
        ratio = float((primal / dual.clamp_min(tiny)).median())
        if 1 / IMBALANCE <= ratio <= IMBALANCE or not 0 < ratio < math.inf:
            return
        change = min(max(math.sqrt(ratio), 1 / LARGEST_CHANGE), LARGEST_CHANGE)
        self._use(self._rho * change, self._quadratic.fresh_inverse(self._rho * change, z.dtype))
        self._w = z + u / change
