"""Particles by BornAgain: amplitudes against formulas, folds by their shapes."""

import math

import numpy as np
import pytest

from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction import domain
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, Component
from dvfb_stream.reproduction.independent_sets.labelling import labels_of
from dvfb_stream.reproduction.independent_sets.samples.hard_particles import amplitude, intensity
from dvfb_stream.reproduction.independent_sets.setup import Pose, build

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `evaluate` brings it")
ba = pytest.importorskip("bornagain", reason="BornAgain is not installed; the extra `grazing` brings it")


@pytest.fixture(scope="module")
def setup():
    return build(Pose(detector="perkin", center=(0.5, 0.5), distance=2.0, wavelength=1.0))


def labels(setup, shape, *, lying=False):
    table = intensity(
        setup, lambda qx, qy: amplitude(shape, 0.0, qy, qx) if lying else amplitude(shape, qx, qy, 0.0)
    )
    # As bright at all q as a side maximum is seen.
    particle = Component(kind="form_factor", table=1e5 * table / table.max())
    flat = Component(kind="surroundings", table=np.full_like(table, 0.5))
    return set(labels_of([particle, flat], setup, speckle_modes=math.inf)[0]) & set(LABELS)


def test_a_box_scatters_as_the_product_of_its_edges_does(setup):
    edges = 2.0 * math.pi / np.array([0.3, 0.4]) / setup.far
    table = intensity(setup, lambda qx, qy: amplitude(ba.Box(*edges, 1.0), qx, qy, 0.0))
    qx, qy = np.outer(np.cos(AZIMUTH), setup.q), np.outer(np.sin(AZIMUTH), setup.q)
    expected = (
        edges.prod() * np.sinc(qx * edges[0] / 2.0 / math.pi) * np.sinc(qy * edges[1] / 2.0 / math.pi)
    ) ** 2
    # Between rows and columns that are computed it is interpolated.
    assert table == pytest.approx(expected, abs=2e-3 * expected.max())
    known = np.s_[::2, :-2:2]
    assert table[known] == pytest.approx(expected[known], rel=1e-6, abs=1e-9 * expected.max())


def test_standing_prisms_have_the_fold_of_their_base(setup):
    edge = 9.0 / (0.35 * setup.far)
    assert "four_fold" in labels(setup, ba.Box(edge, edge, edge))
    assert "six_fold" in labels(setup, ba.Prism6(0.6 * edge, edge))


def test_a_standing_cylinder_has_no_direction(setup):
    # Its first side maximum, at q R = 5.14, is 2.1 wide: a halo, and rings after it.
    found = labels(setup, ba.Cylinder(5.14 / (0.3 * setup.far), 1.0))
    assert found == {"diffuse_low_q", "halo", "rings", "higher_orders"}


def test_a_lying_cylinder_is_two_fold(setup):
    found = labels(setup, ba.Cylinder(2.0 / (0.3 * setup.far), 20.0 / (0.3 * setup.far)), lying=True)
    assert "two_fold" in found
    assert not found & {"four_fold", "six_fold"}


def test_a_frame_of_the_domain_follows_from_seed_and_number_alone():
    made = domain("bornagain", seed=4)
    together = list(made.frames(9, 12))
    assert together[0].geometry != together[1].geometry == together[2].geometry
    alone = next(domain("bornagain", seed=4).frames(10, 11))
    assert np.array_equal(alone.pixels, together[1].pixels)
    assert alone.labels == together[1].labels
    assert not np.array_equal(alone.pixels, together[2].pixels)
