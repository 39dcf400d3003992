"""Profiles of rings and haloes along q and along the azimuth, each from its formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian in units of its standard deviation."""


def angular_profile(azimuth: Tensor, *, order: int, sharpness: float, phase: float) -> Tensor:
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
        h from 0 (isotropic) to 1 (k spots).
    phase
        χ0 of a maximum, radians.

    References
    ----------
    Ruland and Smarsly, J. Appl. Cryst. 37 (2004) 575, orientation distribution P2(h, φ) made k-fold.
    """
    h = sharpness
    return (1.0 - h * h) / ((1.0 + h) ** 2 - 4.0 * h * torch.cos(0.5 * order * (azimuth - phase)) ** 2)


def gaussian_peak(q: Tensor, *, center: float, fwhm: float) -> Tensor:
    """Peak exp(-(q - q0)² / (2 σ²)) of height 1; `center` and `fwhm` in the unit of `q`."""
    sigma = fwhm / FWHM_PER_SIGMA
    return torch.exp(-0.5 * ((q - center) / sigma) ** 2)


def order_damping(ratio: float, *, disorder: float) -> float:
    """Height of the peak at `ratio` times q0 relative to the first: exp(-s² q0² (ratio² - 1)).

    The Debye-Waller factor exp(-s² q²) of random displacements; `disorder` is s² q0².
    """
    return math.exp(-disorder * (ratio * ratio - 1.0))


def grain_profile(azimuth: Tensor, *, order: int, phases: Tensor, weights: Tensor, fwhm: float) -> Tensor:
    """Azimuthal intensity of a few crystalline grains in one ring, with mean about 1.

    Each grain puts `order` equal spots around the circle, at its phase + 2πj/order. A spot is a von Mises
    peak in order·(χ - phase), whose width is that of a Gaussian of full width `fwhm` (radians).

    Parameters
    ----------
    azimuth
        χ in radians, (A,).
    order
        Spots of a grain, k. The sum over the grains repeats exactly k times around the circle.
    phases, weights
        Orientation in radians and relative strength of each grain, (G,).
    fwhm
        Width of a spot along the azimuth, radians.
    """
    kappa = (FWHM_PER_SIGMA / (fwhm * order)) ** 2
    spots = torch.exp(kappa * (torch.cos(order * (azimuth[None, :] - phases[:, None])) - 1.0))
    # The mean of exp(κ (cos x - 1)) over the circle is exp(-κ) I0(κ).
    mean = float(torch.special.i0e(torch.tensor(kappa)))
    return (weights[:, None] * spots).sum(dim=0) / (mean * float(weights.sum()))


def correlation_peak(q: Tensor, *, center: float, floor: float) -> Tensor:
    """Broad peak of a disordered mesostructure, height 1 at `center` and `floor` at q = 0.

    I(q) = r / ((1 - r) (q²/q0² - 1)² + r) with r = I(0)/I(q0): Teubner and Strey, J. Chem. Phys. 87
    (1987) 3195, written in the height and place of the maximum.
    """
    return floor / ((1.0 - floor) * ((q / center) ** 2 - 1.0) ** 2 + floor)


def correlation_peak_width(floor: float) -> float:
    """Full width at half maximum of `correlation_peak` relative to its centre (0 < floor < 1/2)."""
    half = math.sqrt(floor / (1.0 - floor))
    return math.sqrt(1.0 + half) - math.sqrt(1.0 - half)
