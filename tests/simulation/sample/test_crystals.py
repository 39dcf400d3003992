"""Rings of lattices beside counted reflections, random orientations, integrated spheres and a paracrystal."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import spherical_jn

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.components import Drawn
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.sample.crystals import distorted_lattice, lattice
from dvfb_stream.simulation.sample.structure_request import StructureRequest

LATTICES = 120
POWDERS = {
    "lamellar": {1: 2, 4: 2, 9: 2, 16: 2, 25: 2, 36: 2},
    "hexagonal": {1: 6, 3: 6, 4: 6, 7: 12, 9: 6},
    "bcc": {2: 12, 4: 6, 6: 24, 8: 12, 10: 24, 12: 8, 14: 48},
    "fcc": {3: 8, 4: 6, 8: 12, 11: 24, 12: 8, 16: 6, 19: 24, 20: 24},
}
"""Multiplicities by h² + k² + l² (n², h² + hk + k²): International Tables for Crystallography A, as far as drawn."""
FAINTEST = 0.01
"""Rings that are weaker than this share of the first are not drawn."""


def drawn_of(draw):
    experiment = draw_experiment(1, 0, SimulationSettings(detectors={"ccd": 1.0}, wide_angle=0.0, tilted=0.0))
    result, rows = Drawn(), np.arange(LATTICES)
    draws, level = Draws(0, Stream.STRUCTURE, rows, 360), np.full(LATTICES, 100.0)
    draw(result, StructureRequest(draws, experiment, rows, rows, level))
    (maxima,) = result.maxima
    # As the sample scatters: between pixels, and not averaged over them.
    table = experiment.view_table
    radii = torch.arange(0.0, float(table.radii[-1]), 0.05, dtype=torch.float64)
    curves = maxima.terms.radial(dataclasses.replace(table, step=0.0, radii=radii)).numpy()
    told = [result.records[0].row(row) for row in rows]
    return experiment, maxima, radii.numpy(), curves, told


@pytest.fixture(scope="module")
def plain():
    return drawn_of(lattice)


@pytest.fixture(scope="module")
def distorted():
    return drawn_of(distorted_lattice)


def sphere(x, spread):
    """The form factor of unequal spheres by the trapezoidal rule, up to a factor: radii are normally distributed."""
    scale = np.linspace(1.0 - 8.0 * spread, 1.0 + 8.0 * spread, 4001)
    weight = np.exp(-0.5 * ((scale - 1.0) / spread) ** 2) * scale**6
    amplitude = 3.0 * spherical_jn(1, x * scale) / (x * scale)
    return trapezoid(weight * amplitude**2, scale)


def powder(ratio):
    """How much a ring of reflections in random directions gives a pixel, relative to one at 1, by Monte Carlo.

    The detector sees the reflections in a thin plane through the beam, and each ring is spread over its circle.
    """
    rng = np.random.default_rng(0)
    seen = []
    for radius in (1.0, ratio):
        along = rng.uniform(-radius, radius, 2_000_000)  # of points that lie evenly on a sphere (Archimedes)
        seen.append(np.mean(np.abs(along) < 0.02) / (2.0 * np.pi * radius))
    return seen[1] / seen[0]


@pytest.mark.parametrize("kind", POWDERS)
@pytest.mark.parametrize("which", ["plain", "distorted"])
def test_rings_of_a_powder_are_as_bright_as_random_orientations_make_them(which, kind, request):
    """Disorder of the second kind makes them broader and takes nothing from them."""
    experiment, maxima, radii, curves, told = request.getfixturevalue(which)
    powders = {square: powder(np.sqrt(square / min(POWDERS[kind]))) for square in POWDERS[kind]}
    compared = 0
    for row, fact in enumerate(told):
        if fact["lattice"] != kind or fact["oriented"]:
            continue
        rings = np.flatnonzero(maxima.structure == row)
        areas = trapezoid(curves[rings], radii, axis=1)
        first, x = min(POWDERS[kind]), fact["particle_radius"] * fact["q"]
        expected = {}
        for square, multiplicity in POWDERS[kind].items():
            ratio = np.sqrt(square / first)
            displaced = np.exp(-fact["disorder"] * (ratio**2 - 1.0))
            form = sphere(x * ratio, fact["spread"]) / sphere(x, fact["spread"])
            expected[ratio] = multiplicity / POWDERS[kind][first] * powders[square] * form * displaced
        for ring, area in zip(rings, areas, strict=True):
            ratio = min(expected, key=lambda r: abs(r - maxima.radius[ring] / fact["radius"]))
            assert maxima.radius[ring] == pytest.approx(fact["radius"] * ratio, rel=1e-9)
            if 2 * maxima.width[ring] < min(maxima.radius[ring], radii[-1] - maxima.radius[ring]):
                # Not cut off; of 2,000,000 points 20,000 or more lie in the plane, which is known to 1 %.
                assert area / areas[0] == pytest.approx(expected[ratio], rel=0.03)
                compared += ratio > 1.0
        there = [r for r, bright in expected.items() if bright > 1.1 * FAINTEST]
        assert len(rings) >= sum(fact["radius"] * r < len(experiment.bins.coverage) for r in there)
    assert compared >= 5


def paracrystal_width(order, deviation=0.02):
    """Full width at half maximum of a reflection of a paracrystal of one dimension, period 1 (Hosemann 1950)."""
    q = np.linspace(order - 0.2, order + 0.2, 400_001)
    left = np.exp(-0.5 * (2.0 * np.pi * q * deviation) ** 2)
    structure = (1.0 - left**2) / (1.0 + left**2 - 2.0 * left * np.cos(2.0 * np.pi * q))
    above = q[structure >= 0.5 * structure.max()]
    return above[-1] - above[0]


def test_rings_of_a_distorted_lattice_broaden_as_those_of_a_paracrystal(distorted):
    _, maxima, radii, curves, told = distorted
    growth = {order: paracrystal_width(order) / paracrystal_width(1) for order in range(1, 6)}
    compared = 0
    for row, fact in enumerate(told):
        if fact["lattice"] != "lamellar":
            continue
        assert 0.3 <= fact["growth"] <= 1.0
        for ring in np.flatnonzero(maxima.structure == row):
            order = round(maxima.radius[ring] / fact["radius"])
            above = radii[curves[ring] >= 0.5 * curves[ring].max()]
            if order > 5 or above[-1] > radii[-1] - 1.0 or above[0] < 1.0:
                continue
            # The size of the grains gives all orders one width, the disorder grows.
            expected = fact["width"] * ((1.0 - fact["growth"]) + fact["growth"] * growth[order])
            assert above[-1] - above[0] == pytest.approx(expected, rel=0.03, abs=0.11)
            assert maxima.width[ring] == pytest.approx(expected, rel=0.03)
            compared += order > 1
    assert compared >= 10


def test_a_lattice_without_distortion_has_rings_of_one_width(plain):
    _, maxima, _, _, told = plain
    for row, fact in enumerate(told):
        assert fact["growth"] == 0.0
        np.testing.assert_allclose(maxima.width[maxima.structure == row], fact["width"])
