"""Grazing incidence against Snell's law and an independent Fresnel coefficient."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.simulation.physics import geometry

UP = -0.5 * math.pi
INCIDENCE = math.radians(0.2)
CRITICAL = math.radians(0.15)


def angle_at(two_theta, azimuth, normal=UP):
    found = geometry.exit_angle(
        torch.tensor(two_theta, dtype=torch.float64),
        torch.tensor(azimuth, dtype=torch.float64),
        incidence=INCIDENCE,
        normal=normal,
    )
    return float(found)


def test_the_direct_beam_the_horizon_and_the_specular_reflection_lie_where_the_drawing_has_them():
    assert angle_at(0.0, 0.0) == pytest.approx(-INCIDENCE)
    assert angle_at(INCIDENCE, UP) == pytest.approx(0.0, abs=1e-12)
    assert angle_at(2.0 * INCIDENCE, UP) == pytest.approx(INCIDENCE)
    assert angle_at(0.01, -UP) == pytest.approx(-INCIDENCE - 0.01)


@given(azimuth=st.floats(-math.pi, math.pi), normal=st.floats(-math.pi, math.pi), two_theta=st.floats(0, 1.0))
def test_the_exit_angle_is_that_between_two_vectors(azimuth, normal, two_theta):
    scattered = np.array(
        [
            math.sin(two_theta) * math.cos(azimuth),
            math.sin(two_theta) * math.sin(azimuth),
            math.cos(two_theta),
        ]
    )
    up = np.array([math.cos(normal), math.sin(normal), 0.0])
    surface = math.cos(INCIDENCE) * up - math.sin(INCIDENCE) * np.array([0.0, 0.0, 1.0])
    assert angle_at(two_theta, azimuth, normal) == pytest.approx(math.asin(surface @ scattered), abs=1e-9)


@given(angle=st.floats(1e-5, 0.05), delta=st.floats(1e-7, 2e-5), beta=st.floats(0.0, 1e-6))
def test_the_transmission_is_fresnels(angle, delta, beta):
    # Snell's law at an interface to n = 1 - δ + iβ, with all orders of δ: t = 2 sin α / (sin α + √(n² - cos² α)).
    n = 1.0 - delta + 1j * beta
    inside = cmath.sqrt(n * n - math.cos(angle) ** 2)
    expected = abs(2.0 * math.sin(angle) / (math.sin(angle) + inside)) ** 2
    found = geometry.transmission(
        torch.tensor([angle], dtype=torch.float64), critical_angle=math.sqrt(2.0 * delta), absorption=beta
    )
    # sin² α_c + 2iβ stands for 1 - n², which differs by δ²: relatively by δ/2, and where the root vanishes (at the
    # critical angle without absorption) by the root of that.
    near = abs(angle / math.sqrt(2.0 * delta) - 1.0) < 1e-2
    assert float(found[0]) == pytest.approx(expected, rel=2e-2 if near else 1e-3)


def test_the_yoneda_wing_peaks_at_the_critical_angle_and_ends_at_one():
    angles = torch.linspace(-0.01, 0.2, 2_100_001, dtype=torch.float64)
    clear = geometry.transmission(angles, critical_angle=CRITICAL, absorption=0.0)
    assert float(angles[clear.argmax()]) == pytest.approx(CRITICAL, abs=2e-7)
    assert float(clear.max()) == pytest.approx(4.0, rel=0.02)
    assert float(clear[-1]) == pytest.approx(1.0, abs=1e-3)
    assert not clear[angles <= 0.0].any()
    absorbing = geometry.transmission(angles, critical_angle=CRITICAL, absorption=3e-7)
    assert 1.0 < float(absorbing.max()) < float(clear.max())


def test_one_call_serves_several_surfaces():
    angles = torch.linspace(-0.01, 0.02, 50)
    critical, absorption = torch.tensor([[0.002], [0.004]]), torch.tensor([[1e-9], [1e-7]])
    both = geometry.transmission(angles, critical_angle=critical, absorption=absorption)
    assert both.shape == (2, 50)
    assert both.dtype == torch.float32
    for row in range(2):
        alone = geometry.transmission(
            angles, critical_angle=float(critical[row]), absorption=float(absorption[row])
        )
        torch.testing.assert_close(both[row], alone)
