"""Labelled frames of a simulated beamline, from physics: the material for training and for trying things out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.simulation.settings import SimulationSettings
    from dvfb_stream.simulation.simulator import SimulatedBatch, SimulatedFrame, Simulator

__all__ = ["SimulatedBatch", "SimulatedFrame", "SimulationSettings", "Simulator"]

__getattr__ = lazy_names(__name__, __file__)
