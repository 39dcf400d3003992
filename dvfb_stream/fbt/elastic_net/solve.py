"""Solving batches until every frame is certified."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from dvfb_stream.fbt.elastic_net.admm import Admm
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


class Iteration(Protocol):
    """What a solver is to `solve`: a batch that can be taken further."""

    coefficients: Tensor

    def advance(self, steps: int) -> None:
        """Take some steps."""

    def keep(self, frames: Tensor) -> None:
        """Go on with some frames of the batch alone."""


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
    current = projections
    iteration: Iteration = ITERATIONS[solver](quadratic, projections, start)
    finished = _Finished(projections, energies)
    frames = torch.arange(len(projections), device=projections.device)
    taken, distance = 0, 1.0
    steps = _steps_to_first_check(quadratic, tolerance)
    while True:
        steps = min(steps, max_iterations - taken)
        iteration.advance(steps)
        taken += steps
        certificate = _certify(iteration.coefficients, quadratic, current, energies, tolerance)
        distances = certificate.gap / certificate.objective.clamp_min(torch.finfo(torch.float64).tiny)
        missing = ~(distances <= tolerance)
        worst = float(distances.amax())
        finished.put(frames, iteration.coefficients, certificate)
        if worst <= tolerance or taken >= max_iterations:
            return finished.solution(taken)
        if not bool(missing.all()):
            iteration.keep(missing)
            frames, current, energies = frames[missing], current[missing], energies[missing]
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


class _Finished:
    """Results of a batch, filled in as frames are certified."""

    def __init__(self, projections: Tensor, energies: Tensor) -> None:
        self._dtype = projections.dtype
        self._energies = energies
        self._coefficients = torch.empty(0)
        self._certificate = Certificate(energies, energies, energies, energies)

    def put(self, frames: Tensor, coefficients: Tensor, certificate: Certificate) -> None:
        """Note where some frames stand; of the whole batch at first."""
        coefficients = coefficients.to(self._dtype)
        if len(frames) == len(self._energies):
            self._coefficients, self._certificate = coefficients, certificate
            return
        # Not in place: the tensors of the whole batch may still be the solver's own.
        kept = self._certificate
        self._coefficients = self._coefficients.index_copy(0, frames, coefficients)
        self._certificate = Certificate(
            kept.objective.index_copy(0, frames, certificate.objective),
            kept.gap.index_copy(0, frames, certificate.gap),
            kept.misfit.index_copy(0, frames, certificate.misfit),
            kept.floor.index_copy(0, frames, certificate.floor),
        )

    def solution(self, iterations: int) -> Solution:
        """Return what was put."""
        return _solution(self._coefficients, self._certificate, self._energies, iterations)


def _solution(a: Tensor, certificate: Certificate, energies: Tensor, iterations: int) -> Solution:
    unexplained = certificate.misfit / torch.where(energies > 0, energies, torch.ones_like(energies))
    return Solution(a, certificate.objective, certificate.gap, unexplained, iterations)


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
    return _solution(a, replace(certificate, gap=gap), energies, 0)
