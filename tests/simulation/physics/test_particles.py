"""Form factor and lattices against SciPy and the textbook."""

import math

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from dvfb_stream.simulation.physics import lattices, particles


def ratios_squared(lattice):
    first = lattice.reflections[0].ratio
    return [round((r.ratio / first) ** 2, 6) for r in lattice.reflections]


def test_the_sphere_follows_the_spherical_bessel_function():
    x = np.linspace(0.001, 40.0, 4000)
    expected = (3.0 * spherical_jn(1, x) / x) ** 2
    found = particles.sphere_form_factor(torch.from_numpy(x / 50.0), radius=50.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-14)


def test_the_sphere_vanishes_where_tan_x_is_x():
    minima = torch.tensor([4.493409457909064, 7.725251836937707, 10.904121659428899], dtype=torch.float64)
    assert float(particles.sphere_form_factor(minima, radius=1.0).max()) < 1e-20
    assert float(particles.sphere_form_factor(torch.zeros(1), radius=1.0)) == 1.0


def test_unequal_spheres_fill_the_minima_but_keep_the_forward_intensity():
    q = torch.tensor([0.0, 4.4934], dtype=torch.float64)
    assert float(particles.polydisperse_sphere(q, radius=1.0, spread=0.1)[0]) == pytest.approx(1.0)
    filled = [float(particles.polydisperse_sphere(q, radius=1.0, spread=s)[1]) for s in (0.01, 0.05, 0.1)]
    assert filled == sorted(filled)
    assert filled[-1] > 1e-4


@pytest.mark.parametrize(
    ("lattice", "sums"),
    [
        (lattices.lamellar(), [1, 4, 9, 16, 25, 36]),
        (lattices.hexagonal(), [1, 3, 4, 7, 9]),
        # h² + k² + l² = 2, 4, 6, ... and 3, 4, 8, 11, 12, 16, 19, 20 of the International Tables, over the first
        (lattices.body_centred_cubic(axis="001"), [n / 2 for n in (2, 4, 6, 8, 10, 12, 14)]),
        (lattices.face_centred_cubic(axis="001"), [round(n / 3, 6) for n in (3, 4, 8, 11, 12, 16, 19, 20)]),
    ],
)
def test_reflections_lie_at_the_textbook_ratios(lattice, sums):
    np.testing.assert_allclose(ratios_squared(lattice), sums, rtol=1e-5)


def test_multiplicities_are_those_of_powder_diffraction():
    bcc = {
        round(2 * r.ratio**2): r.multiplicity for r in lattices.body_centred_cubic(axis="001").reflections
    }
    fcc = {
        round(3 * r.ratio**2): r.multiplicity for r in lattices.face_centred_cubic(axis="001").reflections
    }
    assert {n: bcc[n] for n in (2, 4, 6, 8, 14)} == {2: 12, 4: 6, 6: 24, 8: 12, 14: 48}
    assert {n: fcc[n] for n in (3, 4, 8, 11, 12)} == {3: 8, 4: 6, 8: 12, 11: 24, 12: 8}


@pytest.mark.parametrize(
    ("lattice", "order"),
    [
        (lattices.lamellar(), 2),
        (lattices.hexagonal(), 6),
        (lattices.body_centred_cubic(axis="001"), 4),
        (lattices.body_centred_cubic(axis="111"), 6),
        (lattices.face_centred_cubic(axis="001"), 4),
        (lattices.face_centred_cubic(axis="111"), 6),
    ],
)
def test_an_oriented_lattice_knows_the_order_seen_along_its_axis(lattice, order):
    assert lattice.order == order
    assert any(reflection.angles for reflection in lattice.reflections)
    for reflection in lattice.reflections:
        assert all(0 <= angle < 2 * math.pi / order for angle in reflection.angles)


def test_the_second_ring_of_an_oriented_hexagonal_crystal_is_turned_by_thirty_degrees():
    first, second, third = lattices.hexagonal().reflections[:3]
    assert math.degrees(second.angles[0] - first.angles[0]) == pytest.approx(30.0, abs=1e-3)
    assert third.angles == first.angles
