"""Textured rings beside the Debye-Waller factor that damps them, spheres beside Bessel functions."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.components import Drawn
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.sample.structure_request import MAX_ORDERS, StructureRequest, ring_width
from dvfb_stream.simulation.sample.structures import FIRST_RING, MINIMA, symmetry_rings

STRUCTURES = 40


def test_orders_are_damped_like_a_debye_waller_factor():
    """exp(-s² q²) at n q0 over that at q0, and no ring where it is below a hundredth."""
    experiment = draw_experiment(1, 0, SimulationSettings(detectors={"ccd": 1.0}, wide_angle=0.0, tilted=0.0))
    result, rows = Drawn(), np.arange(STRUCTURES)
    draws, level = Draws(0, Stream.STRUCTURE, rows, 360), np.full(STRUCTURES, 100.0)
    symmetry_rings(result, StructureRequest(draws, experiment, rows, rows, level))
    (maxima,) = result.maxima
    at = torch.from_numpy(np.sort(maxima.radius))
    curves = maxima.terms.radial(dataclasses.replace(experiment.view_table, step=0.0, radii=at))
    compared = 0
    for ring, radius in enumerate(maxima.radius):
        fact = result.records[0].row(int(maxima.structure[ring]))
        order = round(radius / fact["radius"])
        damped = np.exp(-fact["disorder"] * order**2) / np.exp(-fact["disorder"])
        assert float(curves[ring].max()) == pytest.approx(100.0 * damped, rel=1e-9)
        assert damped >= 0.01
        compared += order > 1
    assert compared > STRUCTURES
    for row in rows:
        fact = result.records[0].row(int(row))
        orders = np.arange(1, MAX_ORDERS + 1)
        told = (np.exp(-fact["disorder"] * (orders**2 - 1.0)) >= 0.01) & (
            fact["radius"] * orders < len(experiment.bins.coverage)
        )
        assert (maxima.structure == row).sum() == told.sum()


def test_spheres_vanish_where_tan_x_is_x():
    roots = [brentq(lambda x: spherical_jn(1, x), n * np.pi, (n + 0.5) * np.pi) for n in range(1, 11)]
    np.testing.assert_allclose(MINIMA, roots, atol=1e-6)


def test_the_first_ring_of_spheres_is_as_faint_as_it_is_said_to_be():
    x = np.linspace(MINIMA[0], MINIMA[1], 10_001)
    assert pytest.approx(1.0 / ((3.0 * spherical_jn(1, x) / x) ** 2).max(), rel=0.01) == FIRST_RING


def test_no_ring_is_narrower_than_a_pixel_shows():
    """A Gaussian that is as wide as a pixel (variance 1/12) has 0.68 pixels; the beam adds to it."""
    assert ring_width(np.array([10.0, 500.0]), np.array([0.01, 0.01])).tolist() == [1.1, 5.0]
