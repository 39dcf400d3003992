"""The elastic net (9) of many frames that share one Gram matrix, and how far a solution is from the minimum.

In terms of the Gram matrix G = UᵀU, the projections q = Uᵀy and the energy ‖y‖² of each frame, (9) reads

    P(a) = ½‖y‖² - qᵀa + ½aᵀGa + κ₁‖a‖₁ + ½κ₂‖a‖²

so that after the projection the pixels are never touched again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.fbt.projection import Projections
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading

SLACK = 1.01
"""Share by which a largest eigenvalue is raised, for the Lanczos method and rounding approach it from below."""

UNSEEN = 1e-6
"""Share of the largest norm of a function on the fitted pixels below which they do not see a function; it then stays
at zero. Squared it is what rounding leaves of the Gram matrix, so that below it a norm would be one of noise."""


class Quadratic:
    """What P shares among frames: G, the ridge κ₂, and what solvers derive from them; safe to share by threads.

    Parameters
    ----------
    gram
        (J, J) G, float64.
    l1, l2
        κ₁ and κ₂ of P.
    """

    def __init__(self, gram: Tensor, *, l1: float, l2: float) -> None:
        self.gram = gram
        self.l1 = l1
        self.l2 = l2
        self._lock = threading.Lock()
        self._derived: dict[tuple[Any, ...], Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held, G itself excluded."""
        derived = (*self._derived.values(), *self.__dict__.get("eigen", ()))
        return sum(tensor.nbytes for tensor in derived if tensor is not self.gram)

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Bound on the eigenvalues of G, a hair above the largest."""
        return SLACK * _largest_eigenvalue(self.gram)

    def gram_in(self, dtype: torch.dtype) -> Tensor:
        """G in a working type."""
        return self._kept(("gram", dtype), lambda: self.gram.to(dtype))

    def inverse(self, shift: float, dtype: torch.dtype) -> Tensor:
        """`fresh_inverse`, kept: for the shift that a solver always starts with."""
        return self._kept(("inverse", shift, dtype), lambda: self.fresh_inverse(shift, dtype))

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, ascending, and eigenvectors of G, float64."""
        values, vectors = torch.linalg.eigh(self.gram)
        return values, vectors

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        with self._lock:
            if key not in self._derived:
                self._derived[key] = make()
            return self._derived[key]

    def fresh_inverse(self, shift: float, dtype: torch.dtype) -> Tensor:
        """(G + (κ₂ + shift) 1)⁻¹ in a working type; computed in float64, for κ₂ + shift > 0."""
        identity = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        factor = torch.linalg.cholesky(self.gram + (self.l2 + shift) * identity)
        return torch.cholesky_inverse(factor).to(dtype)


class PenalisedFit:
    """(9) for one Gram matrix and one set of penalties.

    Parameters
    ----------
    gram
        (J, J) G, float64.
    pixels
        n, fitted pixels.
    settings
        Penalties and their reading.
    """

    def __init__(self, gram: Tensor, pixels: int, settings: FourierBesselSettings) -> None:
        l1, l2 = settings.penalty * settings.l1_ratio, settings.penalty * (1 - settings.l1_ratio)
        self._norms: Tensor | None = None
        self._scale = 1.0
        if settings.reading is PenaltyReading.PER_SAMPLE:
            # Solvers minimise n times the objective: ½‖Ua - y‖² + nλ R(a).
            self._scale = 1.0 / pixels
            self.quadratic = Quadratic(gram, l1=l1 * pixels, l2=l2 * pixels)
        else:
            norms = gram.diagonal().clamp_min(0.0).sqrt()
            self._norms = torch.where(norms > UNSEEN * norms.amax(), norms, torch.full_like(norms, torch.inf))
            self.quadratic = Quadratic(gram / self._norms / self._norms[:, None], l1=l1, l2=l2)

    @property
    def nbytes(self) -> int:
        """Bytes held besides G."""
        scaled = 0 if self._norms is None else self.quadratic.gram.nbytes + self._norms.nbytes
        return scaled + self.quadratic.nbytes

    def scaled(self, projections: Projections) -> tuple[Tensor, Tensor]:
        """Return q, (B, J), in the units of the problem, and each length ‖y‖, (B, 1), 1 where none is used."""
        values = projections.values
        if self._norms is None:
            return values, values.new_ones(len(values), 1)
        energies = projections.energies
        lengths = torch.where(energies > 0, energies, torch.ones_like(energies)).sqrt()[:, None]
        return values * (1.0 / (self._norms * lengths)).to(values.dtype), lengths

    def in_units_of_the_image(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Return the unknowns, (B, J), that fit the images as they are, from those that minimise the problem."""
        return a if self._norms is None else a * (lengths / self._norms).to(a.dtype)

    def in_units_of_the_problem(self, a: Tensor, lengths: Tensor) -> Tensor:
        """Undo `in_units_of_the_image`; what no pixel sees becomes zero."""
        if self._norms is None:
            return a
        seen = torch.isfinite(self._norms)
        return torch.where(seen, a * (self._norms / lengths), torch.zeros_like(a)).to(a.dtype)

    def rescaled(self, solution: Solution, lengths: Tensor) -> Solution:
        """Return a minimum of the problem as one of (9): unknowns that fit the images as they are, P in its scale."""
        return replace(
            solution,
            coefficients=self.in_units_of_the_image(solution.coefficients, lengths),
            objective=solution.objective * self._scale,
            gap=solution.gap * self._scale,
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """Coefficients of a batch and the certificate that they are good enough."""

    coefficients: Tensor
    """(B, J) real coefficients."""
    objective: Tensor
    """(B,) P(a), float64."""
    gap: Tensor
    """(B,) bound of `certify`: P(a) minus its minimum is at most this, float64. Of the problem that Uᵀy poses, which
    the type of the images rounds, and of a before it is rounded to that type."""
    unexplained: Tensor
    """(B,) ‖Ua - y‖² / ‖y‖², 0 for y = 0; float64."""
    iterations: int
    """Steps that the slowest frame of the batch took."""


ROUNDING = 8.0
"""Bound on the rounding error of a gradient q - Ga - κ₂a, in units of ε (‖q‖ + L‖a‖), ε of its type: measured in
float32 on simulated frames, 0.2 to 3.5 of that unit. The worst case, far from any frame, is J times as much."""


CONTRADICTION = 1e4
"""Share of the energy, in units of ε, by which a misfit may seem negative."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where some coefficients stand; all float64."""

    objective: Tensor
    """(B,) P(a)."""
    gap: Tensor
    """(B,) bound on P(a) - min P."""
    misfit: Tensor
    """(B,) ‖Ua - y‖²."""
    floor: Tensor
    """(B,) what rounding alone makes of the bound: in this type no gap is certified below it."""


def certify(a: Tensor, quadratic: Quadratic, projections: Tensor, energies: Tensor) -> Certificate:
    """Return P(a) and a bound on its distance from the minimum, computed in the type of `a`.

    - Strong convexity: P(a) - min P <= ‖g‖² / (2κ₂) for every subgradient g at a; rounding errors are added to ‖g‖.
      Second order in the error of a, so that float32 can certify what float32 solves; useless without a ridge.
    - The duality gap, in float64 alone: the elastic net is the lasso of [U; √κ₂ 1] and [y; 0], and the residual,
      scaled until it is feasible, is a point of that lasso's dual. First order in the error of a.

    Parameters
    ----------
    a, projections
        (B, J), of one type.
    quadratic
        G, κ₁ and κ₂.
    energies
        (B,) ‖y‖², float64.
    """
    l1, l2 = quadratic.l1, quadratic.l2
    # Minus the gradient of the smooth part. Few passes over (B, J): they cost as much as the product.
    descent = torch.addmm(projections, a, quadratic.gram_in(a.dtype), alpha=-1).sub_(a, alpha=l2)
    fit, towards = _dot(projections, a), _dot(descent, a)
    squares, size = _dot(a, a), torch.linalg.vector_norm(a, ord=1, dim=1).double()
    # aᵀGa + κ₂aᵀa = qᵀa - descentᵀa.
    misfit = energies - fit - towards - l2 * squares
    # No vector misses pixels by less than nothing: q and ‖y‖² are then of no image, and nothing follows from them.
    contradiction = misfit < -CONTRADICTION * torch.finfo(a.dtype).eps * energies
    misfit = misfit.clamp_min(0.0)
    residual_energy = misfit + l2 * squares
    objective = 0.5 * residual_energy + l1 * size

    gap = torch.full_like(objective, math.inf)
    if a.dtype == torch.float64:
        # A dual point's scale is the best one, as far as it is feasible.
        steepest = torch.linalg.vector_norm(descent, ord=math.inf, dim=1)
        feasible = torch.where(steepest > l1, l1 / steepest, torch.ones_like(steepest))
        best = torch.where(residual_energy > 0, (energies - fit) / residual_energy, torch.ones_like(steepest))
        scale = torch.minimum(torch.maximum(best, -feasible), feasible)
        dual = scale * (energies - fit) - 0.5 * scale.square() * residual_energy
        gap = (objective - dual).clamp_min(0.0)
    floor = torch.zeros_like(objective)
    if l2 > 0:
        # Of all subgradients the shortest: towards the sign of a where it has one, as far as κ₁ allows elsewhere.
        held = torch.where(a == 0, descent.clamp(-l1, l1), a.sign().mul_(l1))
        subgradient = torch.linalg.vector_norm(descent.sub_(held), dim=1).double()
        lengths = _dot(projections, projections).sqrt() + quadratic.largest_eigenvalue * squares.sqrt()
        rounding = ROUNDING * torch.finfo(a.dtype).eps * lengths
        floor = rounding.square() / (2 * l2)
        gap = torch.minimum(gap, (subgradient + rounding).square() / (2 * l2))
    gap = torch.where(contradiction, torch.full_like(gap, math.inf), gap)
    return Certificate(objective, gap, misfit, floor)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return scalar products, (B,), float64, of (B, J) each, summed in their own type."""
    return torch.bmm(left[:, None], right[:, :, None])[:, 0, 0].double()


def _largest_eigenvalue(matrix: Tensor) -> float:
    """Largest eigenvalue of a symmetric matrix without negative ones, to some 1e-3, by the Lanczos method."""
    dense = matrix.cpu().numpy()
    if len(dense) == 1 or not dense.any():
        return float(dense.max())
    from scipy.sparse.linalg import eigsh  # only some solvers need it

    start = np.ones(len(dense))  # instead of a random vector: the same estimator does the same steps
    return float(eigsh(dense, k=1, v0=start, tol=1e-3, return_eigenvectors=False)[0])
