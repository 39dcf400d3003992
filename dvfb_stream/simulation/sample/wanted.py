"""What is asked of those who draw structures."""

from __future__ import annotations

from typing import NamedTuple

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.components import Integers
from dvfb_stream.simulation.draws import Draws, Reals


class Wanted(NamedTuple):
    """Structures of one kind that frames of an experiment show, a row each, (n,)."""

    draws: Draws
    """Random numbers, a row a structure."""
    experiment: Experiment
    """Of all frames."""
    frame: Integers
    """Position of each one's frame in the batch."""
    structure: Integers
    """A number of its own."""
    level: Reals
    """About its height, counts a detector pixel."""
