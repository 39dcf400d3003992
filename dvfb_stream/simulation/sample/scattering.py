"""Draws the diffuse scattering of a frame: what a sample without any order gives."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.components import Component, Feature, FeatureKind, Term
from dvfb_stream.simulation.experiment import Experiment
from dvfb_stream.simulation.physics import diffuse

Rng = np.random.Generator

ISOTROPIC = 0.14
ANISOTROPIC = 0.09
HIGH_Q = 0.26
"""Odds of each kind in a frame with diffuse scattering: the paper has 0.3, 0.15 and 0.2. Central lobes of
spheres and frames without structure add to the label at low q; at high q more hide below other things."""


def draw_diffuse(rng: Rng, experiment: Experiment, level: float) -> list[Component]:
    """Draw none, one or several kinds of diffuse scattering."""
    drawn = []
    if rng.random() < ISOTROPIC:
        drawn.append(isotropic_low_q(rng, experiment, level))
    if rng.random() < ANISOTROPIC:
        drawn.append(anisotropic_low_q(rng, experiment, level))
    if rng.random() < HIGH_Q:
        drawn.append(high_q(rng, experiment, level))
    return drawn


def draw_low_q_only(rng: Rng, experiment: Experiment, level: float) -> list[Component]:
    """Draw what a sample without structure shows."""
    if rng.random() < 0.25:
        return [anisotropic_low_q(rng, experiment, level)]
    return [isotropic_low_q(rng, experiment, level)]


def isotropic_low_q(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw a sum of the small-angle laws, each with even odds."""
    radial, parameters = _low_q(rng, experiment, level)
    term = Term(radial=radial)
    return Component(
        name="low_q",
        parameters=parameters,
        terms=(term,),
        features=(Feature(kind=FeatureKind.LOW_Q, term=term),),
    )


def anisotropic_low_q(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw a small-angle law stretched along one direction, as fibres and shear give."""
    radial, parameters = _low_q(rng, experiment, level)
    aspect = float(rng.uniform(1.3, 4.0))
    phase = float(rng.uniform(0.0, math.pi))
    radii = diffuse.stretched(
        experiment.radii[None, :], experiment.azimuths[:, None], aspect=aspect, phase=phase
    )
    at = (2.0 * radii).clamp(max=len(radial) - 1.001)
    below = at.long()
    share = at - below
    full = radial[below] * (1.0 - share) + radial[below + 1] * share
    term = Term(radial=radial, full=full)
    return Component(
        name="anisotropic_low_q",
        parameters={**parameters, "aspect": aspect, "phase": phase},
        terms=(term,),
        features=(Feature(kind=FeatureKind.LOW_Q, term=term, order=2, textured=True),),
    )


def parasitic(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw the glow that slits and windows leave around the beamstop, steep and mostly too small for a label."""
    exponent = float(rng.uniform(-6.0, -3.5))
    edge = experiment.q_at(max(experiment.stop_radius + 1.0, 4.0 * experiment.scale))
    height = level * 10.0 ** float(rng.uniform(-1.2, 0.5))
    radial = height * diffuse.power_law((experiment.q / edge).clamp(min=0.5), exponent=exponent)
    term = Term(radial=radial)
    return Component(
        name="parasitic",
        parameters={"exponent": exponent, "height": height},
        terms=(term,),
        features=(Feature(kind=FeatureKind.LOW_Q, term=term),),
    )


def high_q(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw diffuse scattering that rises away from the beam."""
    rise = float(rng.uniform(25.0, 110.0)) * experiment.scale
    length = 1.0 / experiment.q_at(rise)
    height = level * 10.0 ** float(rng.uniform(-0.6, 0.6))
    term = Term(radial=height * diffuse.high_q_rise(experiment.q, length=length))
    return Component(
        name="high_q",
        parameters={"length": length, "rise": rise, "height": height},
        terms=(term,),
        features=(Feature(kind=FeatureKind.HIGH_Q, term=term),),
    )


def _low_q(rng: Rng, experiment: Experiment, level: float) -> tuple[Tensor, dict[str, object]]:
    # Heights are set just outside the beamstop: what lies nearer to the beam is not seen anyway.
    reference = int(2 * max(8.0 * experiment.scale, experiment.stop_radius + 2.0))
    at = experiment.q[reference]
    radial = torch.zeros_like(experiment.q)
    laws: list[dict[str, object]] = []
    chosen = rng.random(4) < 0.5
    if not chosen.any():
        chosen[int(rng.integers(4))] = True
    for law in np.flatnonzero(chosen):
        if law == 0:
            exponent = float(rng.uniform(-4.5, -1.8))
            shape, described = diffuse.power_law(experiment.q / at, exponent=exponent), {"exponent": exponent}
        elif law == 3:
            gyration = math.exp(rng.uniform(math.log(100.0), math.log(1000.0)))
            shape = diffuse.guinier(experiment.q, radius_of_gyration=gyration)
            described = {"radius_of_gyration": gyration}
        else:
            length = 1.0 / experiment.q_at(float(rng.uniform(4.0, 40.0)) * experiment.scale)
            function = diffuse.ornstein_zernike if law == 1 else diffuse.debye_bueche
            shape, described = function(experiment.q, length=length), {"length": length}
        height = level * 10.0 ** float(rng.uniform(-0.3, 1.6))
        # A narrow Guinier law is nearly nothing at the reference; it must not blow up at the centre.
        radial = radial + height * shape / float(shape[reference].clamp(min=0.01))
        laws.append({"law": LAWS[int(law)], "height": height, **described})
    return radial.clamp(max=1e7), {"laws": laws}


LAWS = ("power_law", "ornstein_zernike", "debye_bueche", "guinier")
