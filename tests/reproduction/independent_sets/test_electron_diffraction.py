"""Crystals by diffsims: places of reflections by hand, folds by their space groups."""

import math

import numpy as np
import pytest

from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction import domain
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, Component, smeared
from dvfb_stream.reproduction.independent_sets.labelling import labels_of
from dvfb_stream.reproduction.independent_sets.samples.electron_diffraction import (
    ZONES,
    powder_lines,
    spotted,
    zone,
)
from dvfb_stream.reproduction.independent_sets.setup import Pose, build

for package in ("pyFAI", "diffsims"):
    pytest.importorskip(package, reason=f"{package} is not installed; the extra `evaluate` brings it")
# diffsims compiles and imports for ten seconds.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def setup():
    return build(Pose(detector="perkin", center=(0.5, 0.5), distance=2.0, wavelength=1.0))


@pytest.mark.parametrize(
    ("name", "edge", "squares"),
    [
        ("gold", 4.078, [3, 4, 8, 11, 12, 16]),
        ("iron", 2.866, [2, 4, 6, 8, 10, 12]),
        ("silicon", 5.431, [3, 8, 11, 16, 19, 24]),
        ("caesium chloride", 4.123, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_powder_has_the_reflections_that_its_lattice_allows(name, edge, squares):
    places, heights = powder_lines(name)
    assert places[:6] == pytest.approx(np.sqrt(squares) / edge, rel=1e-3)
    assert (heights > 0).all()


def turned_back(spots, angle):
    """Each spot's nearest one after a turn."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = spots[:, :2] @ turn.T
    apart = np.linalg.norm(turned[:, None] - spots[None, :, :2], axis=2)
    return apart.min(axis=1), spots[apart.argmin(axis=1), 2] / spots[:, 2]


@pytest.mark.parametrize(("axis", "order"), [((0, 0, 1), 4), ((1, 1, 0), 2), ((1, 1, 1), 6)])
@pytest.mark.parametrize("name", ["gold", "iron", "silicon", "caesium chloride"])
def test_a_cubic_crystal_repeats_as_its_axis_says(name, axis, order):
    spots = zone(name, axis)
    assert axis in ZONES[name]
    apart, brightness = turned_back(spots, 2.0 * math.pi / order)
    assert apart.max() < 1e-3
    assert brightness == pytest.approx(1.0, abs=0.02)
    more = {4: 8, 2: 4, 6: 12}[order]
    assert turned_back(spots, 2.0 * math.pi / more)[0].max() > 0.05


def test_a_spot_lies_where_it_was_put_and_is_as_bright_at_any_distance(setup):
    places = np.array([0.3, 0.7]) * setup.far
    spots = np.array([[places[0], 0.0, 5.0], [0.0, places[1], 5.0]])
    table = spotted(setup, spots, scale=1.0, turn=0.0)
    for azimuth, place in ((0.0, places[0]), (math.pi / 2.0, places[1])):
        row, column = np.argmin(np.abs(AZIMUTH - azimuth)), np.argmin(np.abs(setup.q - place))
        around = table[row - 1 : row + 2] if row else table[[-1, 0, 1]]
        assert (around[:, column - 1 : column + 2] * setup.q[column]).sum() == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("axis", "fold"), [((0, 0, 1), "four_fold"), ((1, 1, 0), "two_fold"), ((1, 1, 1), "six_fold")]
)
def test_a_crystal_seen_along_its_axis_has_its_fold(setup, axis, fold):
    spots = zone("gold", axis)
    nearest = np.hypot(spots[:, 0], spots[:, 1]).min()
    table = smeared(spotted(setup, spots, scale=0.3 * setup.far / nearest, turn=0.3), azimuth=4.0, q=3.0)
    crystal = Component(kind="lattice", table=table * 300.0 / table.max())
    flat = Component(kind="surroundings", table=np.full_like(table, 0.5))
    labels = set(labels_of([crystal, flat], setup, speckle_modes=math.inf)[0]) & set(LABELS)
    assert labels == {"rings", "symmetry_rings", "higher_orders", fold}


def test_a_frame_of_the_domain_follows_from_seed_and_number_alone():
    made = domain("diffsims", seed=4)
    together = list(made.frames(9, 12))
    assert together[0].geometry != together[1].geometry == together[2].geometry
    alone = next(domain("diffsims", seed=4).frames(10, 11))
    assert np.array_equal(alone.pixels, together[1].pixels)
    assert alone.labels == together[1].labels
    assert not np.array_equal(alone.pixels, together[2].pixels)
