"""Solving batches until every frame is certified: ADMM, and FISTA for comparison."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.fista import Fista
from dvfb_stream.fbt.elastic_net.problem import Certificate, Quadratic, Solution, certify
from dvfb_stream.fbt.settings import Solver

FLOAT32_STEPS = 60
"""Steps taken in float32 before float64 takes over. The well-conditioned reading is done after 10; where rounding
keeps float32 from being certified (few pixels, hence a weak ridge; the unit-norm reading), float64 goes on."""

STEPS_TO_FIRST_CHECK = 0.145
"""In units of √(L/κ₂) ln(1/tolerance): what ADMM was seen to take in the well-conditioned reading."""

LONGEST_BLIND_RUN = 20
"""Steps to the first check at most, however stiff the problem looks."""

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


class Iteration(Protocol):
    """What a solver is to `solve`: a batch that can be taken further."""

    coefficients: Tensor

    def advance(self, steps: int) -> None:
        """Take some steps."""

    def keep(self, frames: Tensor) -> None:
        """Go on with some frames of the batch alone."""


class Admm:
    """ADMM: one product with a factorised matrix and one soft threshold a step.

    With f the smooth part of P and κ₁‖·‖₁ the other (Boyd et al. 2011, over-relaxed)::

        x = argmin f(x) + ρ/2 ‖x - (z - u)‖² = (G + κ₂ + ρ)⁻¹ (q + ρ (z - u))
        w = γ x + (1 - γ) z + u
        z = soft threshold of w at κ₁/ρ
        u = w - z

    The iterate is z, sparse as the minimum is. State is w alone, which fixes z and u.

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


ITERATIONS: dict[Solver, type[Admm] | type[Fista]] = {Solver.ADMM: Admm, Solver.FISTA: Fista}


def solve(
    quadratic: Quadratic,
    projections: Tensor,
    energies: Tensor,
    *,
    solver: Solver,
    tolerance: float,
    max_iterations: int,
    start: Tensor | None = None,
) -> Solution:
    """Minimise P for every frame of a batch.

    Parameters
    ----------
    quadratic
        G, κ₁ and κ₂.
    projections
        (B, J) q; its type is the type of the steps and of the result.
    energies
        (B,) ‖y‖², float64.
    solver
        Which steps.
    tolerance
        A frame is done once gap <= tolerance · P(a).
    max_iterations
        Give up certifying after this many steps and return what there is, with its gap.
    start
        (B, J) coefficients to start from; None: the solver's own start.
    """
    if quadratic.l1 == 0.0:
        return _least_squares(quadratic, projections, energies)
    current, current_energies = projections, energies
    iteration: Iteration = ITERATIONS[solver](quadratic, projections, start)
    found: list[Tensor] = []
    frames = torch.arange(len(projections), device=projections.device)
    taken, distance = 0, 1.0
    steps = _steps_to_first_check(quadratic, tolerance)
    while True:
        steps = min(steps, max_iterations - taken)
        iteration.advance(steps)
        taken += steps
        certificate = _certify(iteration.coefficients, quadratic, current, current_energies, tolerance)
        distances = certificate.gap / certificate.objective.clamp_min(torch.finfo(torch.float64).tiny)
        missing = ~(distances <= tolerance)
        worst = float(distances.amax())
        new = [
            iteration.coefficients.to(projections.dtype),
            certificate.objective,
            certificate.gap,
            certificate.misfit,
        ]
        # Not in place: the tensors of the whole batch may still be the solver's own.
        found = [old.index_copy(0, frames, n) for old, n in zip(found, new, strict=True)] if found else new
        if worst <= tolerance or taken >= max_iterations:
            a, objective, gap, misfit = found
            return _solution(a, objective, gap, misfit, energies, taken)
        if not bool(missing.all()):
            iteration.keep(missing)
            frames, current = frames[missing], current[missing]
            current_energies = current_energies[missing]
        if taken >= FLOAT32_STEPS and current.dtype != torch.float64:
            current = current.double()
            iteration = ITERATIONS[solver](quadratic, current, iteration.coefficients.double())
        steps = _steps_to_next_check(worst, previous=distance, steps=steps, taken=taken, tolerance=tolerance)
        distance = worst


def _certify(
    a: Tensor, quadratic: Quadratic, projections: Tensor, energies: Tensor, tolerance: float
) -> Certificate:
    """Certify in the type of the steps, in float64 where rounding would stand in the way."""
    if a.dtype != torch.float64 and quadratic.l2 > 0:
        certificate = certify(a, quadratic, projections, energies)
        if not bool((certificate.floor > 0.1 * tolerance * certificate.objective).any()):
            return certificate
    return certify(a.double(), quadratic, projections.double(), energies)


def _solution(
    a: Tensor, objective: Tensor, gap: Tensor, misfit: Tensor, energies: Tensor, iterations: int
) -> Solution:
    unexplained = misfit / torch.where(energies > 0, energies, torch.ones_like(energies))
    return Solution(a, objective, gap, unexplained, iterations)


def _steps_to_first_check(quadratic: Quadratic, tolerance: float) -> int:
    if quadratic.l2 == 0.0:
        return LONGEST_BLIND_RUN
    root = math.sqrt((quadratic.largest_eigenvalue + quadratic.l2) / quadratic.l2)
    guess = STEPS_TO_FIRST_CHECK * root * math.log(1.0 / min(tolerance, 0.1))
    return max(1, min(LONGEST_BLIND_RUN, math.ceil(guess)))


def _steps_to_next_check(
    distance: float, *, previous: float, steps: int, taken: int, tolerance: float
) -> int:
    """Return the steps that are missing if the gap goes on falling as it did; of those taken, a quarter at most.

    The slowest frame is what is extrapolated: in a stiff problem others are done long before it.
    """
    most = max(2, taken // 4)
    if not 0.0 < distance < previous:
        return most
    a_step = math.log(previous / distance) / steps
    return max(1, min(most, math.ceil(math.log(distance / tolerance) / a_step)))


def _least_squares(quadratic: Quadratic, projections: Tensor, energies: Tensor) -> Solution:
    """Return the closed form where there is no L1 term; without a ridge either, the minimum of least norm."""
    values, vectors = quadratic.eigen
    # Without a ridge, directions that rounding cannot tell from unseen ones stay at zero, as in a pseudo-inverse.
    rounding = len(values) * torch.finfo(projections.dtype).eps * float(values[-1])
    seen = (values > rounding) | (quadratic.l2 > 0)
    inverse = torch.where(seen, 1.0 / (values.clamp_min(0.0) + quadratic.l2), torch.zeros_like(values))
    exact = projections.double()
    a = (((exact @ vectors) * inverse) @ vectors.T).to(projections.dtype)
    certificate = certify(a.double(), quadratic, exact, energies)
    gradient = exact - a.double() @ quadratic.gram - quadratic.l2 * a.double()
    # Exact, since P is quadratic; what was left out as unseen counts as far as float64 can tell it from zero.
    known = values > len(values) * torch.finfo(torch.float64).eps * values[-1]
    inverse = torch.where(known, 1.0 / (values.clamp_min(0.0) + quadratic.l2), inverse)
    gap = 0.5 * ((gradient @ vectors).square() * inverse).sum(1)
    return _solution(a, certificate.objective, gap, certificate.misfit, energies, 0)
