"""How often each domain shows which sample, how brightly, and in what surroundings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.reproduction.independent_sets.component import AZIMUTHS, Component
from dvfb_stream.reproduction.independent_sets.samples import (
    electron_diffraction,
    hard_particles,
    ordered,
    oriented,
    smooth,
)
from dvfb_stream.reproduction.independent_sets.samples.kernels import radial
from dvfb_stream.reproduction.independent_sets.setup import Setup

Sample = Callable[[Setup, Generator], list[Component]]

BRIGHTEST = 1e6
"""Counts: a pixel of a counter does not go farther."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What the frames of a domain show."""

    odds: dict[Sample, float]
    """Of each sample, in arbitrary units."""
    nothing: float
    """Share of frames without a sample."""
    second: float
    """Share of the others in which a second sample lies in the beam."""
    low_q: float
    """Share of frames with diffuse scattering at low q besides, and at high q."""
    high_q: float
    exposure: tuple[float, float]
    """Counts in a pixel of typical brightness, spread over its decades."""
    coherent: float
    """Share of frames with speckles."""


SINGLE = Mixture(
    odds={
        ordered.lamellae: 0.2,
        ordered.mesophase: 0.24,
        smooth.particles: 0.14,
        smooth.crowded_particles: 0.08,
        smooth.correlated: 0.08,
        oriented.crystal: 0.16,
        oriented.oriented_particles: 0.1,
    },
    nothing=0.05,
    second=0.12,
    low_q=0.25,
    high_q=0.0,
    exposure=(0.3, 300.0),
    coherent=0.5,
)
"""Films of block copolymers and nanoparticles in a coherent beam."""

MIXED = Mixture(
    odds={
        ordered.lamellae: 0.14,
        ordered.mesophase: 0.14,
        ordered.powder: 0.22,
        smooth.particles: 0.08,
        smooth.crowded_particles: 0.07,
        smooth.correlated: 0.17,
        oriented.crystal: 0.1,
        oriented.oriented_particles: 0.06,
        oriented.cubes_on_a_face: 0.02,
    },
    nothing=0.06,
    second=0.25,
    low_q=0.25,
    high_q=0.18,
    exposure=(0.1, 2000.0),
    coherent=0.15,
)
"""Whatever comes to beamlines for small and wide angles."""

CRYSTALS = replace(
    MIXED, odds={electron_diffraction.powder: 0.5, electron_diffraction.single_crystal: 0.5}, second=0.1
)
"""Powders and crystals by diffsims, in the surroundings of `MIXED`."""

PARTICLES = replace(MIXED, odds={hard_particles.standing: 0.5, hard_particles.lying: 0.5}, second=0.1)
"""Aligned particles by BornAgain, in the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """All that is in a frame."""

    components: list[Component]
    """Tables in expected counts a pixel."""
    speckle_modes: float
    """Of the beam's coherence; infinite: none."""


def draw(mixture: Mixture, setup: Setup, rng: Generator) -> Scene:
    """Return a scene of a domain."""
    exposure = 10 ** rng.uniform(*np.log10(mixture.exposure))
    components = []
    if rng.random() >= mixture.nothing:
        components += _sample(mixture, setup, rng, exposure)
        if rng.random() < mixture.second:
            components += _sample(mixture, setup, rng, exposure * 10 ** rng.uniform(-0.8, 0.3))
    for share, sample in ((mixture.low_q, smooth.diffuse_low_q), (mixture.high_q, smooth.diffuse_high_q)):
        if rng.random() < share:
            components += _scaled(sample(setup, rng), setup, exposure * 10 ** rng.uniform(-0.7, 0.4))
    components += _surroundings(setup, rng, exposure)
    modes = 10 ** rng.uniform(0.7, 2.0) if rng.random() < mixture.coherent else math.inf
    return Scene(components, modes)


def counted(scene: Scene, setup: Setup, rng: Generator) -> NDArray[np.int32]:
    """Return counted photons, (rows, columns), 0 where invalid."""
    expected = setup.image(np.sum([component.table for component in scene.components], axis=0))
    if math.isfinite(scene.speckle_modes):
        expected *= rng.standard_gamma(scene.speckle_modes, expected.shape) / scene.speckle_modes
    pixels = rng.poisson(np.minimum(expected, BRIGHTEST))
    # A few pixels that no mask knows yet, dead or hot.
    faulty = rng.integers(0, pixels.size, int(rng.integers(0, 12)))
    pixels.flat[faulty] = rng.choice([0, 0, 1000, 60000], len(faulty))
    return np.where(setup.received > 0, pixels, 0).astype(np.int32)


def _sample(mixture: Mixture, setup: Setup, rng: Generator, level: float) -> list[Component]:
    samples, odds = list(mixture.odds), np.array(list(mixture.odds.values()))
    return _scaled(samples[int(rng.choice(len(odds), p=odds / odds.sum()))](setup, rng), setup, level)


def _scaled(components: list[Component], setup: Setup, level: float) -> list[Component]:
    """Return components with `level` counts in a typical pixel of the first.

    Typical is the square of the mean root, of which neither the one bright pixel at the beamstop nor the empty ones
    between rings make the most.
    """
    weight = setup.seen.sum(axis=0)
    root = np.sqrt(components[0].table.mean(axis=0))
    scale = level / max(float((root @ weight / weight.sum()) ** 2), 1e-300)
    return [replace(component, table=component.table * scale) for component in components]


def _surroundings(setup: Setup, rng: Generator, exposure: float) -> list[Component]:
    """Return air, windows and detector, and the glow of slits around the beamstop."""
    level = exposure * 10 ** rng.uniform(-2.0, -0.4)
    air = radial("guinier_porod", setup.q, rg=rng.uniform(0.1, 0.5) / setup.far, s=0.0, porod_exp=3.0)
    profile = level * (rng.uniform(0.2, 1.0) + air / air.max())
    if rng.random() < 0.6:
        # As bright as the sample at the edge of the beamstop or brighter, and gone soon: a label by its size only.
        edge = setup.q[np.flatnonzero(setup.seen.sum(axis=0))[0]]
        glow = radial("power_law", np.maximum(setup.q, edge), power=rng.uniform(4.0, 7.0))
        profile += exposure * 10 ** rng.uniform(-0.5, 1.2) * glow / glow.max()
    return [Component(kind="surroundings", table=np.tile(profile, (AZIMUTHS, 1)))]
