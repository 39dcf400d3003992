"""What the beamline adds to the scattering of a sample: direct beam, background, slit streaks, zingers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Drawn, Integers, Terms, on
from dvfb_stream.simulation.draws import Draws, Reals
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.settings import SimulationSettings

BEAM_PEAK = 1e5
"""Counts a pixel of the direct beam."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Streaks:
    """Streaks of parasitic scattering from slit blades, (n,) each; lengths in view pixels."""

    frame: Integers
    direction: Reals
    width: Reals
    length: Reals
    height: Reals

    def at(self, x: Tensor, y: Tensor, row: int, *, step: float) -> Tensor:
        """Return the counts of one streak at points (x, y) view pixels from the beam, averaged over `step`."""
        width = float(np.hypot(self.width[row], step / np.sqrt(12.0)))
        return float(self.height[row] * self.width[row] / width) * beamline.slit_streak(
            x, y, direction=float(self.direction[row]), width=width, length=float(self.length[row])
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """What the beamline adds to the frames of a batch."""

    drawn: Drawn
    """Terms that beamstop and window obstruct."""
    streaks: Streaks
    level: Reals
    """Counts of a typical structure, (n,)."""
    dark: Reals
    """Counts a pixel that nothing obstructs, (n,)."""
    zingers: Integers
    """Number of zingers in each frame, (n,)."""
    brightness: Reals
    """Of a typical zinger, counts, (n,)."""


def draw_surroundings(
    draws: Draws, experiment: Experiment, level: Reals, settings: SimulationSettings
) -> Surroundings:
    """Draw what the beamline adds to frames of an experiment, a row a frame."""
    drawn = Drawn()
    every = np.arange(len(level))
    # A beamstop is made to cover the beam.
    sigma = (experiment.stop_radius or 8.0) * draws.uniform(0.1, 0.26)
    drawn.terms.append(
        Terms(
            frame=every,
            radial=lambda table: beamline.gaussian_beam(table.radii, sigma=on(table, sigma), peak=BEAM_PEAK),
        )
    )
    dark = 10.0 ** draws.uniform(-4.0, -1.5) + experiment.circumstances.readout.pedestal
    there = draws.happens(settings.background)
    height = np.where(there, level * 10.0 ** draws.uniform(-2.5, 0.9), 0.0)
    slope, direction = draws.normal(0.0, 0.1).clip(-0.4, 0.4), draws.uniform(0.0, 2.0 * np.pi)
    chosen = np.flatnonzero(there)
    drawn.terms += _background(chosen, height[chosen], slope[chosen], direction[chosen])
    drawn.record(
        "background", chosen, height=height[chosen], slope=slope[chosen], direction=direction[chosen]
    )
    streaked = np.flatnonzero(draws.happens(settings.streaks))
    bright = level * 10.0 ** draws.uniform(-0.5, 1.5)
    width, length = draws.uniform(0.6, 2.0), draws.uniform(5.0, 40.0)
    along = draws.integers(0, 2) * 0.5 * np.pi + draws.normal(0.0, 0.03)
    streaks = Streaks(
        frame=streaked,
        direction=along[streaked],
        width=width[streaked],
        length=length[streaked],
        height=bright[streaked],
    )
    drawn.record(
        "slit_streak",
        streaked,
        height=streaks.height,
        width=streaks.width,
        length=streaks.length,
        direction=streaks.direction,
    )
    zingers = np.where(draws.happens(settings.zingers), draws.integers(3, 40), 0)
    hit = np.flatnonzero(zingers)
    drawn.record("zingers", hit, count=zingers[hit])
    return Surroundings(
        drawn=drawn,
        streaks=streaks,
        level=level,
        dark=dark,
        zingers=zingers,
        brightness=30.0 + 10.0 * level,
    )


def _background(frame: Integers, height: Reals, slope: Reals, direction: Reals) -> list[Terms]:
    """Return air scattering and fluorescence: height · (1 + slope · sin(π r/2a) cos(χ - χ0)), a = 256 view pixels."""

    def tilt(table: PolarTable) -> Tensor:
        rising = torch.sin(0.5 * np.pi * (table.radii / 256.0).clamp(max=1.0))
        return on(table, height * slope) * rising

    return [
        Terms(frame=frame, radial=lambda table: on(table, height).expand(-1, len(table.radii))),
        Terms(
            frame=frame, radial=tilt, angular=lambda table: torch.cos(table.azimuths - on(table, direction))
        ),
    ]
