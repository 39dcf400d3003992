"""Lattices against the textbook, and what disorder and the size of grains do to their reflections."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation.physics import lattices


def ratios_squared(lattice):
    first = lattice.reflections[0].ratio
    return [round((r.ratio / first) ** 2, 6) for r in lattice.reflections]


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
    bcc = {round(2 * r.ratio**2): r.multiplicity for r in lattices.body_centred_cubic(axis="001").reflections}
    fcc = {round(3 * r.ratio**2): r.multiplicity for r in lattices.face_centred_cubic(axis="001").reflections}
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


def test_disorder_of_a_given_size_takes_its_share_of_every_reflection():
    q = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    displacement = torch.tensor([[3.0], [6.0]], dtype=torch.float64)
    left = lattices.debye_waller(q, displacement=displacement)
    # ln is -(q σ)²
    torch.testing.assert_close(-left.log(), torch.tensor([[0.0, 0.09, 0.36], [0.0, 0.36, 1.44]]).double())


def test_scherrers_width_in_q_is_his_width_in_two_theta():
    # K λ / (L cos θ) in 2θ, times dq / d(2θ) = 2π cos θ / λ
    wavelength, size, theta = 1.39, 800.0, 0.2
    in_two_theta = 0.9 * wavelength / (size * math.cos(theta))
    width = in_two_theta * 2.0 * math.pi * math.cos(theta) / wavelength
    assert lattices.scherrer_fwhm(size) == pytest.approx(width)
    assert lattices.scherrer_fwhm(torch.tensor([size, 2.0 * size])).tolist() == pytest.approx(
        [width, width / 2]
    )
