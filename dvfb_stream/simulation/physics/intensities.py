"""What samples scatter as functions of q and azimuth: diffuse laws, rings and haloes, layer lines, particles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.simulation.physics import Number, Parameter, like

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


def layer_line(
    across: Tensor, along: Tensor, *, place: Parameter, thickness: Parameter, misalignment: Parameter
) -> Tensor:
    """Profile t/s · exp(-(|z| - z0)² / (2 s²)) of a layer line and its mirror image; the equator has z0 = 0.

    A fibre tilted by a small angle ω carries the point (x, z) to z + ωx: molecules whose tilts are spread by ω smear
    a line that is t thick to s = √(t² + ω²x²), whose integral over z stays.

    Parameters
    ----------
    across, along
        x and z, across and along the fibre's axis, in one unit; any shapes that broadcast.
    place
        z0, n times the reciprocal of the repeat, 0 or more.
    thickness
        t, standard deviation: the reciprocal of the length over which the molecules are in order.
    misalignment
        ω, standard deviation, radians.

    References
    ----------
    Holmes and Barrington Leigh, Acta Cryst. A 30 (1974) 635, for small disorientations.
    """
    spread = torch.sqrt(thickness**2 + (misalignment * across) ** 2)
    return thickness / spread * torch.exp(-0.5 * ((along.abs() - place) / spread) ** 2)


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
