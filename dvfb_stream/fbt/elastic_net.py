"""The elastic net (9) for many frames at once, all sharing one Gram matrix.

In terms of the Gram matrix G = UᵀU, the projections q = Uᵀy and the energy ‖y‖² of each frame, (9) reads

    P(a) = ½‖y‖² - qᵀa + ½aᵀGa + κ₁‖a‖₁ + ½κ₂‖a‖²

so that after one matrix product with the basis the pixels are never touched again. It is minimised by FISTA
with adaptive restart (Beck & Teboulle 2009; O'Donoghue & Candès 2015) and stops on a certificate, evaluated in
float64, of how far P(a) can lie above its minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHECK_EVERY = 10
"""Steps between two certificates. One costs a float64 product with G, about as much as four float32 steps."""


FLOAT32_STEPS = 60
"""Steps taken in float32 before float64 takes over. The well-conditioned reading is done after 20; where rounding
keeps float32 from being certified (few pixels, hence a weak ridge; the unit-norm reading), float64 goes on."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Coefficients of a batch and the certificate that they are good enough."""

    coefficients: Tensor
    """(B, J) real coefficients."""
    objective: Tensor
    """(B,) P(a), float64."""
    gap: Tensor
    """(B,) bound of `objective_and_gap`: P(a) minus its minimum is at most this, float64."""
    unexplained: Tensor
    """(B,) ‖Ua - y‖² / ‖y‖², 0 for y = 0; float64."""
    iterations: int
    """Steps taken by the batch."""


def objective_and_gap(
    a: Tensor, *, gram: Tensor, projections: Tensor, energies: Tensor, l1: Tensor, l2: Tensor
) -> tuple[Tensor, Tensor]:
    """Return P(a) and a bound on its distance from the minimum, the smaller of two.

    - The duality gap: the elastic net is the lasso of [U; √κ₂ I] and [y; 0], and the residual, scaled until it
      is feasible, is a point of that lasso's dual. First order in the error of a.
    - Strong convexity: P(a) - min P <= ‖g‖² / (2κ₂) for every subgradient g at a. Second order in the error of
      a, so that float32 iterates can be certified; useless without a ridge.

    Parameters
    ----------
    a, projections
        (B, J) float64.
    gram
        (J, J) float64.
    energies, l1, l2
        (B,) ‖y‖², κ₁ and κ₂, float64.

    Returns
    -------
    objective, gap
        (B,) each, float64.
    """
    gram_a = a @ gram
    fit = (projections * a).sum(1)
    ridge = l2 * a.square().sum(1)
    residual_energy = (energies - 2 * fit + (a * gram_a).sum(1) + ridge).clamp_min(0.0)
    objective = 0.5 * residual_energy + l1 * a.abs().sum(1)
    descent = projections - gram_a - l2[:, None] * a
    steepest = descent.abs().amax(1)
    feasible = torch.where(steepest > l1, l1 / steepest, torch.ones_like(l1))
    best = torch.where(residual_energy > 0, (energies - fit) / residual_energy, torch.ones_like(l1))
    scale = torch.minimum(torch.maximum(best, -feasible), feasible)
    dual = scale * (energies - fit) - 0.5 * scale.square() * residual_energy
    gap = (objective - dual).clamp_min(0.0)
    subgradient = torch.where(
        a != 0, descent - l1[:, None] * a.sign(), (descent.abs() - l1[:, None]).clamp_min(0.0)
    )
    convexity_bound = torch.where(
        l2 > 0, subgradient.square().sum(1) / (2 * l2), torch.full_like(l2, torch.inf)
    )
    return objective, torch.minimum(gap, convexity_bound)


def solve(
    *,
    gram: Tensor,
    gram_working: Tensor,
    step: float,
    projections: Tensor,
    energies: Tensor,
    l1: Tensor,
    l2: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Minimise P for every frame of a batch.

    Parameters
    ----------
    gram, gram_working
        (J, J) G in float64 for the certificate and in the working type for the steps.
    step
        Largest eigenvalue of G, the reciprocal of the step without the ridge.
    projections
        (B, J) q in float64.
    energies, l1, l2
        (B,) in float64.
    tolerance
        Stop once gap <= tolerance · P(a) for every frame.
    max_iterations
        Give up certifying after this many steps and return what there is, with its gap.
    """
    a = torch.zeros_like(projections, dtype=gram_working.dtype)
    point, momentum = a, torch.ones(len(a), 1, dtype=a.dtype, device=a.device)
    iterations = 0
    while True:
        objective, gap = objective_and_gap(
            a.double(), gram=gram, projections=projections, energies=energies, l1=l1, l2=l2
        )
        if iterations >= max_iterations or bool((gap <= tolerance * objective).all()):
            # P(a) less its penalties is half the misfit: no further product with G.
            misfit = 2 * objective - 2 * l1 * a.double().abs().sum(1) - l2 * a.double().square().sum(1)
            unexplained = misfit.clamp_min(0.0) / torch.where(
                energies > 0, energies, torch.ones_like(energies)
            )
            return Solution(a.to(gram_working.dtype), objective, gap, unexplained, iterations)
        if iterations >= FLOAT32_STEPS and a.dtype != torch.float64:
            a, point, momentum = a.double(), point.double(), momentum.double()
        dtype = a.dtype
        matrix = gram_working if dtype == gram_working.dtype else gram
        q, ridge = projections.to(dtype), l2.to(dtype)[:, None]
        lipschitz = (step + l2).to(dtype)[:, None]
        shrinkage = l1.to(dtype)[:, None] / lipschitz
        for _ in range(min(CHECK_EVERY, max_iterations - iterations)):
            descent = point + (q - point @ matrix - ridge * point) / lipschitz
            new = descent.sign() * (descent.abs() - shrinkage).clamp_min(0.0)
            # Momentum that points uphill is dropped, frame by frame.
            uphill = ((point - new) * (new - a)).sum(1, keepdim=True) > 0
            momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
            grown = 0.5 * (1 + (1 + 4 * momentum.square()).sqrt())
            point = new + torch.where(uphill, torch.zeros_like(momentum), (momentum - 1) / grown) * (new - a)
            a, momentum = new, grown
            iterations += 1
