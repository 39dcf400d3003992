"""Draws the diffuse scattering of a frame: what a sample without any order gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Diffuse, Drawn, Integers, Pattern, Terms, on
from dvfb_stream.simulation.draws import Draws, Reals
from dvfb_stream.simulation.physics import intensities

LAWS = ("power_law", "ornstein_zernike", "debye_bueche", "guinier")
MOST = 1e7
"""Counts: near the beam a power law knows no limit."""
COARSE = 3
"""A stretched law is smooth along the azimuth: every third sample is computed, the others lie on the line between."""


class _LowQ:
    """Sums of the small-angle laws, each with even odds."""

    def __init__(self, draws: Draws, experiment: Experiment, level: Reals) -> None:
        chosen = draws.happens(0.5, count=4)
        chosen[np.arange(len(level)), draws.integers(0, 4)] |= ~chosen.any(axis=1)
        self.chosen = chosen
        self.exponent = draws.uniform(-4.5, -1.8)
        self.gyration = draws.log_uniform(100.0, 1000.0) / (experiment.shrinkage * experiment.zoom)
        self.lengths = 1.0 / experiment.q_of_radii(draws.uniform(4.0, 40.0, count=2) * experiment.zoom)
        self.heights = level[:, None] * 10.0 ** draws.uniform(-0.3, 1.6, count=4)
        # Heights are set just outside the beamstop: what lies nearer to the beam is not seen anyway.
        self.reference = experiment.q_at(max(8.0 * min(experiment.zoom, 1.0), experiment.stop_radius + 2.0))
        at = torch.full((1, 1), self.reference, dtype=torch.float64)
        shapes = torch.stack(self._laws(at, lambda values: torch.from_numpy(values)[:, None]), dim=1)
        # A narrow Guinier law is nearly nothing at the reference; it must not blow up at the centre.
        self.scales = np.where(chosen, self.heights / shapes.clamp(min=0.01).numpy()[:, :, 0], 0.0)

    def _laws(self, q: Tensor, column: Callable[[Reals], Tensor]) -> list[Tensor]:
        shapes = [
            intensities.power_law(q / self.reference, exponent=column(self.exponent)),
            intensities.ornstein_zernike(q, length=column(self.lengths[:, 0])),
            intensities.debye_bueche(q, length=column(self.lengths[:, 1])),
            intensities.guinier(q, radius_of_gyration=column(self.gyration)),
        ]
        return [shape.expand(len(self.exponent), -1) for shape in shapes]

    def at(self, q: Tensor, table: PolarTable) -> Tensor:
        """Return counts at q, (n, R) of (R,)."""
        shapes = torch.stack(self._laws(q, lambda values: on(table, values)), dim=1)
        return (shapes * on(table, self.scales)[:, 0, :, None]).sum(dim=1).clamp(max=MOST)

    def parameters(self) -> dict[str, Reals]:
        exponent, length, bueche, gyration = (
            np.where(self.chosen[:, law], value, np.nan)
            for law, value in enumerate(
                (self.exponent, self.lengths[:, 0], self.lengths[:, 1], self.gyration)
            )
        )
        return {
            "power_law_exponent": exponent[:, None],
            "ornstein_zernike_length": length[:, None],
            "debye_bueche_length": bueche[:, None],
            "guinier_radius_of_gyration": gyration[:, None],
            "heights": np.where(self.chosen, self.heights, np.nan),
        }


def isotropic_low_q(
    drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals
) -> None:
    """Draw a sum of the small-angle laws."""
    laws = _LowQ(draws, experiment, level)
    terms = Terms(frame=frame, radial=lambda table: laws.at(table.q, table))
    drawn.terms.append(terms)
    drawn.diffuse.append(Diffuse(intensity=terms, rises=False))
    drawn.record("low_q", frame, **laws.parameters())


def anisotropic_low_q(
    drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals
) -> None:
    """Draw a sum of the small-angle laws stretched along one direction, as fibres and shear give."""
    laws = _LowQ(draws, experiment, level)
    aspect, phase = draws.uniform(1.3, 4.0), draws.uniform(0.0, np.pi)

    def full(table: PolarTable) -> Tensor:
        # Stretched radii reach up to √4 times beyond the table's.
        radii = torch.arange(2 * len(table.radii), dtype=torch.float64) * float(table.radii[1])
        q = torch.from_numpy(experiment.q_of_radii(radii.clamp(min=0.25).numpy())).to(table.q)
        radial = laws.at(q, table)
        coarse = table.azimuths[::COARSE]
        stretched = intensities.stretched(
            table.radii[None, None, :],
            coarse[None, :, None],
            aspect=on(table, aspect)[:, :, None],
            phase=on(table, phase)[:, :, None],
        )
        at = (stretched / table.radii[1]).flatten(1)
        below = at.long()
        share = at - below
        values = radial.gather(1, below) * (1.0 - share) + radial.gather(1, below + 1) * share
        values = values.view(len(radial), len(coarse), -1)
        following = values.roll(-1, dims=1)
        between = [values + (following - values) * (step / COARSE) for step in range(COARSE)]
        return torch.stack(between, dim=2).flatten(1, 2)

    pattern = Pattern(frame=frame, full=full)
    drawn.patterns.append(pattern)
    drawn.diffuse.append(Diffuse(intensity=pattern, rises=False, order=2))
    drawn.record("anisotropic_low_q", frame, order=2, aspect=aspect, phase=phase, **laws.parameters())


def parasitic(drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals) -> None:
    """Draw the glow that slits and windows leave around the beamstop, steep and mostly too small for a label."""
    exponent = draws.uniform(-6.0, -3.5)
    edge = experiment.q_at(max(experiment.stop_radius + 1.0, 4.0))
    height = level * 10.0 ** draws.uniform(-1.2, 0.5)

    def radial(table: PolarTable) -> Tensor:
        shape = intensities.power_law((table.q / edge).clamp(min=0.5), exponent=on(table, exponent))
        return on(table, height) * shape

    terms = Terms(frame=frame, radial=radial)
    drawn.terms.append(terms)
    drawn.diffuse.append(Diffuse(intensity=terms, rises=False))
    drawn.record("parasitic", frame, exponent=exponent, height=height)


def glow(drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals) -> None:
    """Draw the glow that real beamlines have around nearly every beamstop: as steep and as bright as may be."""
    exponent = draws.uniform(-5.0, -2.0)
    edge = max(experiment.stop_radius + 1.0, 2.0)
    core = edge * draws.log_uniform(0.7, 3.0)
    # It hardly depends on the sample: on frames of little scattering it is the brightest thing.
    height = level * 10.0 ** draws.uniform(-1.5, 1.5)

    def radial(table: PolarTable) -> Tensor:
        # A power law with a round top: 1 at the edge of the beamstop.
        shape = (1.0 + (table.radii / on(table, core)) ** 2) ** on(table, 0.5 * exponent)
        return on(table, height * (1.0 + (edge / core) ** 2) ** (-0.5 * exponent)) * shape

    terms = Terms(frame=frame, radial=radial, of_sample=False)
    drawn.terms.append(terms)
    drawn.diffuse.append(Diffuse(intensity=terms, rises=False))
    drawn.record("glow", frame, exponent=exponent, core=core, height=height)


def high_q(drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals) -> None:
    """Draw diffuse scattering that rises away from the beam."""
    rise = draws.uniform(25.0, 110.0) * experiment.zoom
    length = 1.0 / experiment.q_of_radii(rise)
    height = level * 10.0 ** draws.uniform(-0.6, 0.6)
    terms = Terms(
        frame=frame,
        radial=lambda table: on(table, height) * intensities.high_q_rise(table.q, length=on(table, length)),
    )
    drawn.terms.append(terms)
    drawn.diffuse.append(Diffuse(intensity=terms, rises=True))
    drawn.record("high_q", frame, length=length, rise=rise, height=height)
