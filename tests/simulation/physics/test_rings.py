"""Profiles of rings against their Fourier series, quadrature and textbook widths."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.simulation.physics import intensities


def circle(samples=5040):  # a multiple of every order, so that nothing is aliased to another one
    return torch.arange(samples, dtype=torch.float64) * (2 * math.pi / samples)


def other_harmonics(profile, order):
    """Largest azimuthal Fourier amplitude at an order that is no multiple of `order`, relative to the mean."""
    amplitudes = np.abs(np.fft.rfft(profile.numpy())) / len(profile)
    others = np.arange(len(amplitudes)) % order != 0
    return amplitudes[others].max() / amplitudes[0]


@given(
    order=st.sampled_from(range(2, 21, 2)),
    sharpness=st.floats(0.02, 0.92),
    phase=st.floats(0.0, 2 * math.pi),
)
def test_an_oriented_profile_repeats_k_times_and_has_the_harmonics_of_the_poisson_kernel(
    order, sharpness, phase
):
    profile = intensities.angular_profile(circle(), order=order, sharpness=sharpness, phase=phase)
    spectrum = np.fft.rfft(profile.numpy()) / len(profile)
    assert other_harmonics(profile, order) < 1e-9
    for harmonic in range(4):
        expected = sharpness**harmonic * np.exp(-1j * harmonic * order * phase)
        assert abs(spectrum[harmonic * order] - expected) < 1e-6


def test_an_oriented_profile_has_a_maximum_at_its_phase_and_mirror_symmetry_about_it():
    offsets = torch.linspace(0.0, math.pi, 200, dtype=torch.float64)
    left = intensities.angular_profile(0.7 - offsets, order=4, sharpness=0.6, phase=0.7)
    right = intensities.angular_profile(0.7 + offsets, order=4, sharpness=0.6, phase=0.7)
    torch.testing.assert_close(left, right)
    assert left.argmax() == 0


@pytest.mark.parametrize("order", [2, 4, 6])
def test_grains_keep_the_symmetry_of_their_crystal_and_the_mean_intensity(order):
    rng = np.random.default_rng(3)
    profile = intensities.grain_profile(
        circle(),
        order=order,
        phases=torch.from_numpy(rng.uniform(0, 2 * math.pi, 7)),
        weights=torch.from_numpy(rng.lognormal(0, 0.5, 7)),
        fwhm=math.radians(3.0),
    )
    assert other_harmonics(profile, order) < 1e-9
    assert float(profile.mean()) == pytest.approx(1.0, rel=1e-5)


def test_a_grain_has_the_width_it_was_given():
    azimuth = torch.linspace(-0.2, 0.2, 40001, dtype=torch.float64)
    spot = intensities.grain_profile(
        azimuth, order=4, phases=torch.zeros(1), weights=torch.ones(1), fwhm=math.radians(4.0)
    )
    above = azimuth[spot >= spot.max() / 2]
    assert math.degrees(float(above[-1] - above[0])) == pytest.approx(4.0, rel=0.01)


def test_a_ring_has_the_full_width_at_half_maximum_it_was_given():
    q = torch.linspace(0.0, 2.0, 200001, dtype=torch.float64)
    above = q[intensities.gaussian_peak(q, center=1.0, fwhm=0.3) >= 0.5]
    assert float(above[-1] - above[0]) == pytest.approx(0.3, abs=1e-4)


@given(floor=st.floats(0.05, 0.3))
def test_a_correlation_peak_has_its_height_place_floor_and_width(floor):
    q = torch.linspace(0.0, 3.0, 300001, dtype=torch.float64)
    peak = intensities.correlation_peak(q, center=1.0, floor=floor)
    assert float(q[peak.argmax()]) == pytest.approx(1.0, abs=1e-4)
    assert float(peak[0]) == pytest.approx(floor)
    above = q[peak >= 0.5]
    assert float(above[-1] - above[0]) == pytest.approx(intensities.correlation_peak_width(floor), abs=1e-4)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_one_call_serves_several_rings():
    azimuth, q = circle(360), torch.linspace(0.0, 2.0, 300, dtype=torch.float64)
    order, sharpness, phase = column(2, 6, 4), column(0.9, 0.2, 0.0), column(0.1, 1.0, 2.0)
    center, fwhm, floor = column(0.5, 1.0, 1.5), column(0.01, 0.2, 0.6), column(0.1, 0.2, 0.3)
    profiles = intensities.angular_profile(azimuth, order=order, sharpness=sharpness, phase=phase)
    peaks = intensities.gaussian_peak(q, center=center, fwhm=fwhm)
    correlations = intensities.correlation_peak(q, center=center, floor=floor)
    widths = intensities.correlation_peak_width(floor)
    for row in range(3):
        torch.testing.assert_close(
            profiles[row],
            intensities.angular_profile(
                azimuth, order=float(order[row]), sharpness=float(sharpness[row]), phase=float(phase[row])
            ),
        )
        torch.testing.assert_close(
            peaks[row], intensities.gaussian_peak(q, center=float(center[row]), fwhm=float(fwhm[row]))
        )
        torch.testing.assert_close(
            correlations[row],
            intensities.correlation_peak(q, center=float(center[row]), floor=float(floor[row])),
        )
        assert float(widths[row]) == pytest.approx(intensities.correlation_peak_width(float(floor[row])))


def test_several_rings_may_have_different_numbers_of_grains():
    azimuth = circle(720)
    order, fwhm = torch.tensor([2, 6]), torch.tensor([0.05, 0.1], dtype=torch.float64)
    phases = torch.tensor([[0.1, 0.7, 9.9], [0.3, 0.2, 0.6]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 2.0, 0.0], [0.5, 1.0, 1.5]], dtype=torch.float64)
    both = intensities.grain_profile(azimuth, order=order, phases=phases, weights=weights, fwhm=fwhm)
    assert both.shape == (2, 720)
    first = intensities.grain_profile(
        azimuth, order=2, phases=phases[0, :2], weights=weights[0, :2], fwhm=0.05
    )
    second = intensities.grain_profile(azimuth, order=6, phases=phases[1], weights=weights[1], fwhm=0.1)
    torch.testing.assert_close(both, torch.stack((first, second)))


def test_a_ring_without_grains_is_dark():
    nothing = intensities.grain_profile(
        circle(90), order=2, phases=torch.zeros(3), weights=torch.zeros(3), fwhm=0.1
    )
    assert not nothing.any()


def test_the_sharpest_profiles_hold_in_float32():
    # 4 ε of the argument, half of 20 turns of 2π, over the half-width of a spot, (1 - h) / (k √h).
    azimuth = circle(5000)
    exact = intensities.angular_profile(azimuth, order=20, sharpness=0.95, phase=3.0)
    single = intensities.angular_profile(azimuth.float(), order=20, sharpness=0.95, phase=3.0)
    torch.testing.assert_close(single.double(), exact, rtol=2e-3, atol=0.0)
    grains = {"order": 6, "phases": torch.tensor([0.1, 2.0]).double(), "weights": torch.ones(2).double()}
    exact = intensities.grain_profile(azimuth, **grains, fwhm=0.03)
    grains |= {"phases": grains["phases"].float(), "weights": grains["weights"].float()}
    single = intensities.grain_profile(azimuth.float(), **grains, fwhm=0.03)
    torch.testing.assert_close(single.double(), exact, rtol=0.0, atol=1e-3 * float(exact.max()))
