"""How a detector's counts become the values of a file: with a pedestal, less a dark frame, in another unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from dvfb_stream.simulation.draws import Draws
from dvfb_stream.simulation.settings import SimulationSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Values of a file are (counts + pedestal - what is subtracted) times the unit."""

    pedestal: float = 0.0
    """Counts a pixel that are there without any light. Their noise is that of as many photons: a CCD's offset of some
    tens, read with a noise of a few."""
    subtracted: bool = False
    """Whether a dark frame was taken off: then the background is 0 on average, and as noisy as before."""
    unit: float = 1.0
    """Value of one count: 1 divided by what a monitor counted."""
    found_unit: float = 1.0
    """What is taken for the value of one count by who does not know it, near `unit`."""

    @property
    def taken_off(self) -> float:
        """Counts a pixel that were subtracted."""
        return self.pedestal if self.subtracted else 0.0

    def values(self, counts: Tensor, response: Tensor) -> Tensor:
        """Return the values of counts, (n, H, W), which it may change in place; `response` of the pixels, (H, W)."""
        if self.subtracted:
            counts = counts.sub_(response, alpha=self.pedestal)
        return counts if self.unit == 1.0 else counts.mul_(self.unit)

    def described(self) -> dict[str, Any]:
        """Return what it does, JSON-ready; nothing where values are counts."""
        return {} if self == Readout() else {"readout": asdict(self)}


def draw_readout(draws: Draws, settings: SimulationSettings) -> Readout:
    """Draw how one experiment's detector is read. Takes the same draws in any case."""
    kind = float(draws.uniform()[0])
    offset, dark = float(draws.log_uniform(2.0, 60.0)[0]), float(draws.log_uniform(0.3, 60.0)[0])
    scaled = bool(draws.happens(settings.normalised)[0])
    unit = float(draws.log_uniform(1e-6, 10.0)[0])
    # Read off from the noise, what a count is comes out within some ten percent (decision 28).
    error = float(draws.lognormal(0.0, 0.12)[0])
    subtracted = settings.pedestal <= kind < settings.pedestal + settings.dark_subtracted
    return Readout(
        pedestal=offset if kind < settings.pedestal else dark if subtracted else 0.0,
        subtracted=subtracted,
        unit=unit if scaled else 1.0,
        found_unit=unit * error if scaled else 1.0,
    )
