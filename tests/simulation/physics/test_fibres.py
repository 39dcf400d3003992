"""Layer lines against what defines them."""

import numpy as np
import pytest
import torch

from dvfb_stream.simulation.physics.intensities import layer_line

ALONG = torch.linspace(-200.0, 200.0, 8001, dtype=torch.float64)


def line(across, **chosen):
    given = {"place": 30.0, "thickness": 2.0, "misalignment": 0.05} | chosen
    return layer_line(torch.tensor(across, dtype=torch.float64), ALONG, **given)


def test_a_line_lies_on_either_side_of_the_equator_at_its_height():
    profile = line(0.0)
    peaks = ALONG[profile == profile.max()]
    np.testing.assert_allclose(peaks, [-30.0, 30.0], atol=1e-9)
    assert float(profile.max()) == pytest.approx(1.0)


@pytest.mark.parametrize("across", [0.0, 20.0, 80.0, -80.0])
def test_misalignment_smears_a_line_and_takes_nothing_from_it(across):
    profile = line(across, place=0.0)
    widened = np.hypot(2.0, 0.05 * across)
    total = float(torch.trapezoid(profile, ALONG))
    assert total == pytest.approx(2.0 * np.sqrt(2.0 * np.pi), rel=1e-6)
    spread = float(torch.trapezoid(profile * ALONG**2, ALONG)) / total
    assert np.sqrt(spread) == pytest.approx(widened, rel=1e-6)


def test_misalignment_is_that_of_turned_fibres():
    """Beside a sum over fibres that are really turned, for small angles."""
    thickness, misalignment, across = 1.5, 0.04, 60.0
    angles = np.linspace(-5 * misalignment, 5 * misalignment, 2001)
    weights = np.exp(-0.5 * (angles / misalignment) ** 2)
    z = ALONG.numpy()[:, None]
    own_along = z * np.cos(angles) - across * np.sin(angles)
    summed = (np.exp(-0.5 * (own_along / thickness) ** 2) * weights).sum(axis=1) / weights.sum()
    formula = line(across, place=0.0, thickness=thickness, misalignment=misalignment).numpy()
    np.testing.assert_allclose(formula, summed, atol=0.01 * summed.max())
