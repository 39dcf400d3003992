"""Labelled frames of a simulated beamline, from physics: the material for training and for trying things out."""

from dvfb_stream.simulation.settings import SimulationSettings
from dvfb_stream.simulation.simulator import SimulatedBatch, SimulatedFrame, Simulator

__all__ = ["SimulatedBatch", "SimulatedFrame", "SimulationSettings", "Simulator"]
