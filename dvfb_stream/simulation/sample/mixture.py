"""Draws what a frame's sample scatters, in the paper's proportions as far as its ratios of labels need them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dvfb_stream.simulation.components import Component
from dvfb_stream.simulation.experiment import Experiment
from dvfb_stream.simulation.sample import crystals, scattering, structures
from dvfb_stream.simulation.settings import SimulationSettings

Rng = np.random.Generator

PARASITIC = 0.2
"""Share of frames with a glow around the beamstop; real beamlines rarely go without."""


def draw_sample(
    rng: Rng, experiment: Experiment, level: float, settings: SimulationSettings
) -> list[Component]:
    """Draw all that the sample of one frame scatters, of about `level` counts a pixel."""
    if experiment.kind == "blank":
        return []
    if experiment.kind == "diffuse_only":
        return scattering.draw_low_q_only(rng, experiment, level) if rng.random() < 0.9 else []
    drawn: list[Component] = []
    if rng.random() < PARASITIC:
        drawn.append(scattering.parasitic(rng, experiment, level))
    if rng.random() < settings.diffuse:
        drawn += scattering.draw_diffuse(rng, experiment, level)
    if rng.random() < settings.sample:
        drawn += draw_structures(rng, experiment, level)
    return drawn


def draw_structures(rng: Rng, experiment: Experiment, level: float) -> list[Component]:
    """Draw 1 + Poisson(0.3) structures of about `level` counts a pixel."""
    names = list(WEIGHTS)
    odds = np.array(list(WEIGHTS.values()))
    count = 1 + int(rng.poisson(0.3))
    drawn = rng.choice(len(names), size=count, p=odds / odds.sum())
    return [_DRAW[names[int(i)]](rng, experiment, level * 10.0 ** float(rng.normal(0.0, 0.3))) for i in drawn]


WEIGHTS: dict[str, float] = {
    "symmetry_ring": 0.02,
    "symmetry_halo": 0.06,
    "symmetry_rings": 0.1,
    "sphere": 0.06,
    "lattice": 0.27,
    "distorted_lattice": 0.02,
    "ad_hoc_rings": 0.27,
    "speckled_rings": 0.24,
    "coherent_halo": 0.18,
    "mesostructure": 0.07,
}
"""Relative odds of the structures: the paper's, shifted a little to keep its ratios of positive frames."""

_DRAW: dict[str, Callable[[Rng, Experiment, float], Component]] = {
    "symmetry_ring": structures.symmetry_ring,
    "symmetry_halo": structures.symmetry_halo,
    "symmetry_rings": structures.symmetry_rings,
    "sphere": crystals.sphere,
    "lattice": crystals.lattice,
    "distorted_lattice": crystals.distorted_lattice,
    "ad_hoc_rings": crystals.ad_hoc_rings,
    "speckled_rings": crystals.speckled_rings,
    "coherent_halo": structures.coherent_halo,
    "mesostructure": structures.mesostructure,
}
