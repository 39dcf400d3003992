"""Small-angle laws against their limits."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation.physics import intensities


def slope(law, q):
    """Logarithmic slope of a law at `q`."""
    values = law(torch.tensor([q, q * 1.0001], dtype=torch.float64)).numpy()
    return float(np.diff(np.log(values))[0] / math.log(1.0001))


def test_the_laws_have_their_slopes_far_out():
    assert slope(lambda q: intensities.power_law(q, exponent=-3.3), 0.1) == pytest.approx(-3.3, abs=1e-6)
    assert slope(lambda q: intensities.ornstein_zernike(q, length=100.0), 10.0) == pytest.approx(
        -2.0, abs=1e-3
    )
    assert slope(lambda q: intensities.debye_bueche(q, length=100.0), 10.0) == pytest.approx(-4.0, abs=1e-3)


def test_guinier_falls_by_e_where_q_rg_is_root_three():
    q = torch.tensor([math.sqrt(3.0) / 250.0], dtype=torch.float64)
    assert float(intensities.guinier(q, radius_of_gyration=250.0)) == pytest.approx(math.exp(-1.0))


def test_the_high_q_rise_starts_at_nothing_and_ends_at_one():
    rise = intensities.high_q_rise(torch.tensor([0.0, 0.01, 1.0]), length=100.0)
    assert rise[0] == 0
    assert float(rise[1]) == pytest.approx(1 - math.exp(-1), rel=1e-5)
    assert float(rise[2]) == pytest.approx(1.0)


def test_stretched_contours_are_ellipses_of_the_given_aspect():
    q = torch.ones(2, dtype=torch.float64)
    along, across = intensities.stretched(q, torch.tensor([0.4, 0.4 + math.pi / 2]), aspect=3.0, phase=0.4)
    assert float(across / along) == pytest.approx(3.0, rel=1e-5)


def test_one_call_serves_several_samples():
    q, azimuth = torch.linspace(0.01, 0.2, 30), torch.linspace(0.0, 6.0, 30)
    values = torch.tensor([1.5, 3.0])
    for law, name in (
        (intensities.power_law, "exponent"),
        (intensities.ornstein_zernike, "length"),
        (intensities.debye_bueche, "length"),
        (intensities.guinier, "radius_of_gyration"),
        (intensities.high_q_rise, "length"),
    ):
        both = law(q, **{name: values[:, None]})
        torch.testing.assert_close(both, torch.stack([law(q, **{name: float(value)}) for value in values]))
    both = intensities.stretched(q, azimuth, aspect=values[:, None], phase=0.5 * values[:, None])
    alone = [intensities.stretched(q, azimuth, aspect=float(v), phase=0.5 * float(v)) for v in values]
    torch.testing.assert_close(both, torch.stack(alone))
