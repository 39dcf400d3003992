"""Diffuse scattering: the classic small-angle laws at low q, and what rises towards high q."""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Parameter


def power_law(q: Tensor, *, exponent: Parameter) -> Tensor:
    """q^p: fractals and surfaces; p = -4 is Porod's law (Porod, Kolloid-Z. 124 (1951) 83)."""
    return q**exponent


def ornstein_zernike(q: Tensor, *, length: Parameter) -> Tensor:
    """1 / (1 + ξ² q²): fluctuations of correlation length ξ (Ornstein and Zernike, 1914)."""
    return 1.0 / (1.0 + (length * q) ** 2)


def debye_bueche(q: Tensor, *, length: Parameter) -> Tensor:
    """1 / (1 + ξ² q²)²: a random two-phase medium (Debye and Bueche, J. Appl. Phys. 20 (1949) 518)."""
    return ornstein_zernike(q, length=length) ** 2


def guinier(q: Tensor, *, radius_of_gyration: Parameter) -> Tensor:
    """exp(-q² Rg² / 3): dilute particles (Guinier, Ann. Phys. 12 (1939) 161)."""
    return torch.exp(-((q * radius_of_gyration) ** 2) / 3.0)


def high_q_rise(q: Tensor, *, length: Parameter) -> Tensor:
    """1 - exp(-s² q²): what uncorrelated disorder takes from the peaks and spreads towards high q.

    The complement of the Debye-Waller factor (Warren, X-ray Diffraction, 1969, chapter 3): 0 at the beam,
    1 far outside.
    """
    return 1.0 - torch.exp(-((q * length) ** 2))


def stretched(q: Tensor, azimuth: Tensor, *, aspect: Parameter, phase: Parameter) -> Tensor:
    """Effective q of an elliptic pattern, `aspect` times longer along `phase` (radians) than across.

    q_eff² = q² (cos²(χ - χ0)/a + a sin²(χ - χ0)): a law f(q_eff) has the ellipses as contours.
    So scatter spheroids with their axis in the detector's plane, exactly: with f a sphere's form factor of radius
    √(Rp Re) and a = Re / Rp, Rp along the axis and Re across (Guinier and Fournet, Small-Angle Scattering of
    X-Rays, 1955).
    """
    along = torch.cos(azimuth - phase) ** 2
    return q * torch.sqrt(along / aspect + aspect * (1.0 - along))
