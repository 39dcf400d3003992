"""Profiles of rings and haloes along q and along the azimuth, each from its formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Number, Parameter, like

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian in units of its standard deviation."""


def angular_profile(azimuth: Tensor, *, order: Parameter, sharpness: Parameter, phase: Parameter) -> Tensor:
    """Azimuthal intensity of an oriented structure, with mean 1 over the circle.

    A(χ) = (1 - h²) / ((1 + h)² - 4 h cos²(k (χ - χ0) / 2)), the Poisson kernel in k (χ - χ0): its Fourier
    coefficients are h^|j| at the orders j k and none elsewhere.

    Parameters
    ----------
    azimuth
        χ in radians, any shape.
    order
        k, the number of maxima around the circle.
    sharpness
        h from 0 (isotropic, whatever the order) to less than 1 (k spots).
    phase
        χ0 of a maximum, radians.

    References
    ----------
    Ruland and Smarsly, J. Appl. Cryst. 37 (2004) 575, orientation distribution P2(h, φ) made k-fold.
    """
    h = sharpness
    # The same denominator, without the difference of nearly equal numbers at the maxima.
    return (1.0 - h * h) / ((1.0 - h) ** 2 + 4.0 * h * torch.sin(0.5 * order * (azimuth - phase)) ** 2)


def gaussian_peak(q: Tensor, *, center: Parameter, fwhm: Parameter) -> Tensor:
    """Peak exp(-(q - q0)² / (2 σ²)) of height 1; `center` and `fwhm` in the unit of `q`."""
    sigma = fwhm / FWHM_PER_SIGMA
    return torch.exp(-0.5 * ((q - center) / sigma) ** 2)


def order_damping(ratio: Number, *, disorder: Number) -> Number:
    """Height of the peak at `ratio` times q0 relative to the first: exp(-s² q0² (ratio² - 1)).

    The Debye-Waller factor exp(-s² q²) of random displacements; `disorder` is s² q0². Numbers or tensors that
    broadcast, both of a kind.
    """
    damping: Number = math.e ** (-disorder * (ratio * ratio - 1.0))
    return damping


def grain_profile(
    azimuth: Tensor, *, order: Parameter, phases: Tensor, weights: Tensor, fwhm: Parameter
) -> Tensor:
    """Azimuthal intensity of a few crystalline grains in one ring, with mean 1 over the circle.

    Each grain puts `order` equal spots around the circle, at its phase + 2πj/order. A spot is a von Mises
    peak in order·(χ - phase), whose width is that of a Gaussian of full width `fwhm` (radians).

    Parameters
    ----------
    azimuth
        χ in radians, (A,).
    order
        Spots of a grain, k; a number or (n,). The sum over the grains repeats exactly k times around the circle.
    phases, weights
        Orientation in radians and relative strength of each grain, (G,) or (n, G). A grain of weight 0 is not
        there.
    fwhm
        Width of a spot along the azimuth, radians; a number or (n,).

    Returns
    -------
    (A,) or (n, A); 0 for a ring without grains.
    """
    k = like(order, azimuth)[..., None, None]
    kappa = (FWHM_PER_SIGMA / (like(fwhm, azimuth)[..., None, None] * k)) ** 2
    # exp(κ (cos x - 1)), written so that float32 keeps the digits of cos x - 1; its mean is exp(-κ) I0(κ).
    half = 0.5 * k * (azimuth - phases[..., None])
    spots = torch.exp(-2.0 * kappa * torch.sin(half) ** 2) / torch.special.i0e(kappa)
    total = weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    profile: Tensor = ((weights / total)[..., None] * spots).sum(dim=-2)
    return profile


def correlation_peak(q: Tensor, *, center: Parameter, floor: Parameter) -> Tensor:
    """Broad peak of a disordered mesostructure, height 1 at `center` and `floor` at q = 0.

    I(q) = r / ((1 - r) (q²/q0² - 1)² + r) with r = I(0)/I(q0): Teubner and Strey, J. Chem. Phys. 87
    (1987) 3195, written in the height and place of the maximum.
    """
    return floor / ((1.0 - floor) * ((q / center) ** 2 - 1.0) ** 2 + floor)


def correlation_peak_width(floor: Number) -> Number:
    """Full width at half maximum of `correlation_peak` relative to its centre (0 < floor < 1/2)."""
    half = (floor / (1.0 - floor)) ** 0.5
    width: Number = (1.0 + half) ** 0.5 - (1.0 - half) ** 0.5
    return width
