"""Nanoparticles: the form factors of spheres, of unequal spheres and of spheroids."""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Parameter, like


def sphere_form_factor(q: Tensor, *, radius: Parameter) -> Tensor:
    """P(q) = (3 (sin x - x cos x) / x³)² with x = q R, 1 at q = 0, zero at tan x = x (4.4934, 7.7253, ...).

    Rayleigh, Proc. R. Soc. A 84 (1910) 25. `radius` in the inverse unit of `q`. Computed in float64, returned in
    the type of `q`.
    """
    exact = q.double()
    x = exact * like(radius, exact)
    # Below 0.02 the difference loses its digits; the series is exact to 1e-14 there.
    small = x < 0.02
    safe = torch.where(small, 1.0, x)
    series = 1.0 - x**2 / 10.0 + x**4 / 280.0
    amplitude = torch.where(small, series, 3.0 * (torch.sin(safe) - safe * torch.cos(safe)) / safe**3)
    return (amplitude**2).to(q.dtype)


def polydisperse_sphere(q: Tensor, *, radius: Parameter, spread: Parameter) -> Tensor:
    """Sphere form factor averaged over a normal distribution of radii, weighted by volume²; 1 at q = 0.

    Parameters
    ----------
    q
        (R,) or (n, R).
    radius
        Mean radius in the inverse unit of `q`, a number or (n,).
    spread
        Standard deviation of the radii relative to their mean, a number or (n,). Radii below zero count by their
        amount, which matters to nobody below a spread of 0.3.

    Returns
    -------
    (R,) for numbers, (n, R) otherwise, in the type of `q`; computed in float64.

    Notes
    -----
    With x = q R, X = q ⟨R⟩, σ = `spread` · X and averages over x = X + σ z, z normal,

        P = 9 ⟨(sin x - x cos x)²⟩ / ⟨x⁶⟩,
        2 (sin x - x cos x)² = 1 + x² - cos 2x - 2 x sin 2x + x² cos 2x,

    and the averages have closed forms, ⟨xⁿ exp(2ix)⟩ = exp(2iX - 2σ²) ⟨(x + 2iσ²)ⁿ⟩; no quadrature has to follow
    the oscillations. The average of the form factor over sizes: Kotlarchyk and Chen, J. Chem. Phys. 79 (1983)
    2461, who took a Schulz distribution.
    """
    exact = q.double()
    s = like(spread, exact)[..., None]
    x = exact * like(radius, exact)[..., None]
    # Below 0.25 the sum loses its digits (9 ε / x⁶), and four terms of P = 1 - x²/5 + 3x⁴/175 - 4x⁶/4725 do.
    small = x < 0.25
    safe = torch.where(small, 1.0, x)
    variance = (s * safe) ** 2
    contrast = torch.exp(-2.0 * variance)
    cosine, sine = contrast * torch.cos(2.0 * safe), contrast * torch.sin(2.0 * safe)
    # Parts of ⟨x exp(2ix)⟩ and ⟨x² exp(2ix)⟩.
    x_sine = safe * sine + 2.0 * variance * cosine
    xx_cosine = (safe**2 + variance - 4.0 * variance**2) * cosine - 4.0 * safe * variance * sine
    total = 0.5 * (1.0 + safe**2 + variance - cosine - 2.0 * x_sine + xx_cosine)
    sixth = _relative_moment(6, s)
    series = 1.0 + sum(
        coefficient * x**power * (_relative_moment(6 + power, s) / sixth)
        for power, coefficient in ((2, -1 / 5), (4, 3 / 175), (6, -4 / 4725))
    )
    return torch.where(small, series, 9.0 * total / (sixth * safe**6)).to(q.dtype)


def _relative_moment(order: int, spread: Tensor) -> Tensor:
    """⟨(1 + s z)ⁿ⟩ for z normal, from M(n) = M(n-1) + (n-1) s² M(n-2)."""
    before, moment = torch.ones_like(spread), torch.ones_like(spread)
    for n in range(2, order + 1):
        before, moment = moment, moment + (n - 1) * spread**2 * before
    return moment
