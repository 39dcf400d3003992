"""Diffuse scattering follows its laws all over the detector."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.components import Drawn
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.sample.diffuse import anisotropic_low_q

LAWS = {"power_law_exponent", "ornstein_zernike_length", "debye_bueche_length", "guinier_radius_of_gyration"}


def stretched_power_law():
    """Draw scattering of a stretched power law alone: its exponent, direction and counts on the table."""
    settings = SimulationSettings(detectors={"ccd": 1.0}, wide_angle=0.0, tilted=0.0)
    experiment = draw_experiment(1, 0, settings)
    for item in range(200):
        drawn = Drawn()
        draws = Draws(0, Stream.FRAME, [item], 24)
        anisotropic_low_q(drawn, draws, experiment, np.zeros(1, dtype=np.int64), np.ones(1) * 100.0)
        told = drawn.records[0].row(0)
        if {law for law in LAWS if told[law]} == {"power_law_exponent"} and told["aspect"] > 2.5:
            return experiment.view_table, told, drawn.patterns[0].full(experiment.view_table)[0]
    raise AssertionError("no power law alone among 200")


def at(pattern, table, azimuth, radius):
    row = round((azimuth % (2 * math.pi)) / (2 * math.pi) * len(table.azimuths)) % len(table.azimuths)
    return float(pattern[row, int(torch.argmin((table.radii - radius).abs()))])


def test_contours_are_ellipses_of_the_aspect():
    table, told, pattern = stretched_power_law()
    for radius in (20.0, 30.0, 40.0):
        across = at(pattern, table, told["phase"] + math.pi / 2, radius)
        along = at(pattern, table, told["phase"], radius * told["aspect"])
        # Azimuths are rounded to 0.3° and radii to a quarter pixel.
        assert along == pytest.approx(across, rel=0.1)


def test_across_a_stretched_law_falls_on_to_the_edge():
    table, told, pattern = stretched_power_law()
    last = float(table.radii[-1])
    for share in (0.4, 0.6, 0.8, 0.95):
        nearer, farther = (
            at(pattern, table, told["phase"] + math.pi / 2, share * last * factor) for factor in (1.0, 1.05)
        )
        (exponent,) = told["power_law_exponent"]
        assert farther / nearer == pytest.approx(1.05**exponent, rel=0.05)
