"""Form factors against SciPy and the textbook."""

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from dvfb_stream.simulation.physics import intensities


def test_the_sphere_follows_the_spherical_bessel_function():
    x = np.linspace(0.001, 40.0, 4000)
    expected = (3.0 * spherical_jn(1, x) / x) ** 2
    found = intensities.sphere_form_factor(torch.from_numpy(x / 50.0), radius=50.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-14)


def test_the_sphere_vanishes_where_tan_x_is_x():
    minima = torch.tensor([4.493409457909064, 7.725251836937707, 10.904121659428899], dtype=torch.float64)
    assert float(intensities.sphere_form_factor(minima, radius=1.0).max()) < 1e-20
    assert float(intensities.sphere_form_factor(torch.zeros(1), radius=1.0)) == 1.0


def test_unequal_spheres_fill_the_minima_but_keep_the_forward_intensity():
    q = torch.tensor([0.0, 4.4934], dtype=torch.float64)
    assert float(intensities.polydisperse_sphere(q, radius=1.0, spread=0.1)[0]) == pytest.approx(1.0)
    filled = [float(intensities.polydisperse_sphere(q, radius=1.0, spread=s)[1]) for s in (0.01, 0.05, 0.1)]
    assert filled == sorted(filled)
    assert filled[-1] > 1e-4


def test_one_call_serves_several_populations():
    q = torch.linspace(0.0, 0.3, 200)
    radius, spread = torch.tensor([20.0, 60.0, 300.0]), torch.tensor([0.02, 0.1, 0.2])
    several = intensities.polydisperse_sphere(q, radius=radius, spread=spread)
    assert several.shape == (3, 200)
    assert several.dtype == torch.float32
    for row in range(3):
        alone = intensities.polydisperse_sphere(q, radius=float(radius[row]), spread=float(spread[row]))
        torch.testing.assert_close(several[row], alone)


def test_a_population_without_spread_is_one_of_equal_spheres():
    q = torch.linspace(0.0, 0.5, 500, dtype=torch.float64)
    found = intensities.polydisperse_sphere(q, radius=80.0, spread=0.0)
    torch.testing.assert_close(found, intensities.sphere_form_factor(q, radius=80.0), rtol=1e-7, atol=1e-14)


def test_float32_coordinates_cost_the_form_factor_nothing_but_their_own_rounding():
    q = torch.linspace(0.0, 0.5, 500)
    found = intensities.sphere_form_factor(q, radius=80.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, intensities.sphere_form_factor(q.double(), radius=80.0).float())
