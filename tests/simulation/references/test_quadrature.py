"""Profiles and averages beside numerical integrals of their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import spherical_jn

from dvfb_stream.simulation.physics import intensities, lattices


def integral(function, low, high, **options):
    """Integrate a function of one float64 tensor element over an interval."""

    def at(value):
        return float(function(torch.tensor(value, dtype=torch.float64)))

    found, error = quad(at, low, high, limit=400, epsabs=1e-11, epsrel=1e-11, **options)
    assert error < 1e-9
    return found


@pytest.mark.parametrize("sharpness", [0.0, 0.02, 0.5, 0.95])
@pytest.mark.parametrize("order", [2, 6, 20])
def test_an_oriented_profile_has_mean_one_and_the_harmonics_of_its_sharpness(order, sharpness):
    # Over one period, about its maximum. The tolerance is the quadrature's.
    def profile(azimuth):
        return intensities.angular_profile(azimuth, order=order, sharpness=sharpness, phase=0.0)

    half = math.pi / order
    for harmonic in range(4):
        coefficient = integral(
            lambda azimuth, j=harmonic: profile(azimuth) * torch.cos(j * order * azimuth), -half, half
        ) / (2.0 * half)
        assert coefficient == pytest.approx(sharpness**harmonic, abs=1e-9)


@pytest.mark.parametrize("fwhm", [0.03, 0.3])
@pytest.mark.parametrize("order", [2, 4, 6])
def test_grains_have_mean_one(order, fwhm):
    phases, weights = torch.tensor([0.1, 0.45]).double(), torch.tensor([1.0, 0.3]).double()

    def profile(azimuth):
        return intensities.grain_profile(
            azimuth[None], order=order, phases=phases, weights=weights, fwhm=fwhm
        )

    period = 2.0 * math.pi / order
    mean = integral(profile, 0.0, period, points=[float(p) % period for p in phases]) / period
    assert mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("x", [0.1, 0.2499, 0.2501, 4.4934, 17.0, 60.0])
def test_unequal_spheres_are_the_average_of_spheres_over_their_radii(x, spread):
    def weight(scale):
        return math.exp(-0.5 * ((scale - 1.0) / spread) ** 2) * scale**6

    def form(scale):
        return float((3.0 * spherical_jn(1, x * scale) / (x * scale)) ** 2) if scale else 1.0

    low, high = 1.0 - 12.0 * spread, 1.0 + 12.0 * spread
    options = {"limit": 2000, "epsabs": 0.0, "epsrel": 1e-11, "points": np.linspace(low, high, 60)[1:-1]}
    expected = (
        quad(lambda s: weight(s) * form(abs(s)), low, high, **options)[0]
        / quad(weight, low, high, **options)[0]
    )
    found = intensities.polydisperse_sphere(torch.tensor([x], dtype=torch.float64), radius=1.0, spread=spread)
    # Below 0.25 a series of four terms (2.8e-5 x⁸ and the growth of ⟨x¹⁴⟩ with the spread), above it a sum of
    # which 9 ε / x⁶ is rounding: both are worst there.
    assert float(found[0]) == pytest.approx(expected, rel=2e-8 if x < 1.0 else 1e-9)


def test_a_debye_waller_factor_is_the_square_of_the_mean_phase_factor():
    sigma, q = 5.0, 0.13

    def phase(u):
        return torch.exp(-0.5 * (u / sigma) ** 2) * torch.cos(q * u) / (sigma * math.sqrt(2.0 * math.pi))

    amplitude = integral(phase, -12.0 * sigma, 12.0 * sigma)
    found = lattices.debye_waller(torch.tensor(q, dtype=torch.float64), displacement=sigma)
    assert float(found) == pytest.approx(amplitude**2, rel=1e-9)
