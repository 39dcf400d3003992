"""ADMM for the elastic net: one product with a factorised matrix and one soft threshold a step.

With f the smooth part of P and κ₁‖·‖₁ the other (Boyd et al. 2011, over-relaxed)::

    x = argmin f(x) + ρ/2 ‖x - (z - u)‖² = (G + κ₂ + ρ)⁻¹ (q + ρ (z - u))
    w = γ x + (1 - γ) z + u
    z = soft threshold of w at κ₁/ρ
    u = w - z

The iterate is z, sparse as the minimum is. State is w alone, which fixes z and u.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.problem import Quadratic

RELAXATION = 1.7
"""γ; between 1.5 and 1.8 both readings need a third fewer steps than without."""

PENALTY_EXPONENT = 0.44
"""ρ = L^(1-e) μ^e for a smooth part with curvatures from μ to L. The splitting itself contracts best at e = ½; the
threshold holds back flat directions too, so that a stiff problem takes a larger ρ (measured in the unit-norm
reading: a third fewer steps than at ½) and a well-conditioned one does not care."""

SMALLEST_CURVATURE = 1e-6
"""Share of the largest eigenvalue that stands for κ₂ in ρ where κ₂ is less, down to none: the lasso."""


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
        largest = quadratic.largest_eigenvalue + quadratic.l2
        weakest = max(quadratic.l2, SMALLEST_CURVATURE * largest)
        rho = largest * (weakest / largest) ** PENALTY_EXPONENT
        self._inverse = quadratic.inverse(rho, projections.dtype) * rho
        self._constant = torch.mm(projections / rho, self._inverse)
        self._threshold = quadratic.l1 / rho
        if start is None:
            self._w = torch.zeros_like(projections)
        else:
            # At the minimum u is minus the gradient of f over ρ.
            pull = projections - start @ quadratic.gram_in(start.dtype) - quadratic.l2 * start
            self._w = start + pull / rho
        self.coefficients = torch.nn.functional.softshrink(self._w, self._threshold)

    def advance(self, steps: int) -> None:
        """Take some steps."""
        w, z = self._w, self.coefficients
        for _ in range(steps):
            x = torch.addmm(self._constant, 2 * z - w, self._inverse)
            w = w + RELAXATION * (x - z)
            z = torch.nn.functional.softshrink(w, self._threshold)
        self._w, self.coefficients = w, z

    def keep(self, frames: Tensor) -> None:
        """Go on with some frames of the batch alone."""
        self._w, self.coefficients = self._w[frames], self.coefficients[frames]
        self._constant = self._constant[frames]
