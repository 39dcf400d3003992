"""Textured rings beside the Debye-Waller factor that damps them."""

import dataclasses

import numpy as np
import pytest
import torch

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.components import Drawn
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.sample.structure_request import StructureRequest
from dvfb_stream.simulation.sample.structures import symmetry_rings

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
