"""Draws particles and crystals: spheres, nanoparticle lattices, powders and a few grains."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.components import Component, Feature, FeatureKind, Term
from dvfb_stream.simulation.experiment import Experiment
from dvfb_stream.simulation.physics import lattices, particles, rings
from dvfb_stream.simulation.sample.structures import MAX_ORDERS, MIN_FWHM, draw_phase, draw_radius, peak

Rng = np.random.Generator

MIN_SPOT_FWHM = math.radians(1.6)
"""Narrower spots fall between the azimuthal samples."""


def sphere(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw the form factor of spheres: a central lobe, and rings between its minima."""
    first_minimum = draw_radius(rng, experiment, low=8.0, reach=0.4)
    size = 4.493409 / experiment.q_at(first_minimum)
    spread = float(rng.uniform(0.01, 0.12))
    shape = particles.polydisperse_sphere(experiment.q, radius=size, spread=spread)
    # `level` is the height of the first ring, which in a perfect sphere is 1/134 of the centre.
    intensity = shape * min(134.0 * level, 2e6)
    minima, features = _minima(intensity), []
    for low, high in itertools.pairwise(minima):
        between = intensity[low : high + 1]
        share = torch.linspace(0.0, 1.0, len(between))
        base = torch.exp((1.0 - share) * torch.log(between[0]) + share * torch.log(between[-1]))
        excess = torch.zeros_like(intensity)
        excess[low : high + 1] = (between - base).clamp(min=0.0)
        top = int(excess.argmax())
        features.append(
            Feature(
                kind=FeatureKind.RING,
                term=Term(radial=excess),
                radius=0.5 * top,
                width=0.5 * float((excess > 0.5 * excess[top]).sum()),
            )
        )
    lobe = intensity.clone()
    if minima:
        lobe[minima[0] :] = 0.0
    features.append(Feature(kind=FeatureKind.LOW_Q, term=Term(radial=lobe)))
    return Component(
        name="sphere",
        parameters={
            "sphere_radius": size,
            "spread": spread,
            "first_minimum": first_minimum,
            "height": level,
        },
        terms=(Term(radial=intensity),),
        features=tuple(features),
    )


def _minima(intensity: Tensor) -> list[int]:
    inner = intensity[1:-1]
    found = torch.nonzero((inner < intensity[:-2]) & (inner <= intensity[2:]))[:, 0] + 1
    return [int(i) for i in found[: MAX_ORDERS + 1]]


def lattice(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw a nanoparticle lattice, as a powder or oriented."""
    return _lattice(rng, experiment, level, growth=0.0)


def distorted_lattice(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw a lattice with disorder of the second kind: its reflections broaden with the square of their order."""
    return _lattice(rng, experiment, level, growth=float(rng.uniform(0.3, 1.0)))


@functools.cache
def _lattices() -> tuple[lattices.Lattice, ...]:
    return (
        lattices.lamellar(),
        lattices.hexagonal(),
        lattices.body_centred_cubic(axis="001"),
        lattices.body_centred_cubic(axis="111"),
        lattices.face_centred_cubic(axis="001"),
        lattices.face_centred_cubic(axis="111"),
    )


def _lattice(rng: Rng, experiment: Experiment, level: float, *, growth: float) -> Component:
    choice = int(rng.choice(6, p=(0.3, 0.2, 0.15, 0.1, 0.15, 0.1)))
    kind = _lattices()[choice]
    radius = draw_radius(rng, experiment, reach=0.55)
    width = max(radius * math.exp(rng.uniform(math.log(0.01), math.log(0.12))), MIN_FWHM * experiment.scale)
    disorder = float(rng.uniform(0.005, 0.15))
    oriented = bool(rng.random() < 0.25)
    sharpness, phase = float(rng.uniform(0.4, 0.92)), draw_phase(rng)
    shown = [r for r in kind.reflections if r.angles] if oriented else list(kind.reflections)
    first = shown[0]
    features = []
    for reflection in shown:
        ratio = reflection.ratio / first.ratio
        strength = (
            len(reflection.angles) / len(first.angles)
            if oriented
            # A powder's ring spreads its reflections over a circle and over the sphere: 1/q² together.
            else (reflection.multiplicity / first.multiplicity / ratio**2)
        )
        height = strength * rings.order_damping(ratio, disorder=disorder)
        place = radius * ratio
        if height < 0.01 or place > len(experiment.coverage):
            continue
        angular = None
        if oriented:
            profiles = [
                rings.angular_profile(
                    experiment.azimuths, order=kind.order, sharpness=sharpness, phase=phase + angle
                )
                for angle in reflection.angles
            ]
            angular = torch.stack(profiles).mean(dim=0)
        broadened = width * (1.0 + growth * (ratio**2 - 1.0))
        term = Term(
            radial=peak(experiment, radius=place, width=broadened, height=level * height * width / broadened),
            angular=angular,
        )
        features.append(
            Feature(
                kind=FeatureKind.RING if broadened < 0.3 * place else FeatureKind.HALO,
                term=term,
                radius=place,
                width=broadened,
                order=kind.order if oriented else 0,
                textured=oriented,
            )
        )
    return Component(
        name="distorted_lattice" if growth else "lattice",
        parameters={
            "lattice": kind.name,
            "oriented": oriented,
            "order": kind.order if oriented else 0,
            "radius": radius,
            "q": experiment.q_at(radius),
            "width": width,
            "growth": growth,
            "sharpness": sharpness if oriented else 0.0,
            "phase": phase,
            "disorder": disorder,
            "height": level,
        },
        terms=tuple(feature.term for feature in features),
        features=tuple(features),
    )


def _oblique_radii(rng: Rng, experiment: Experiment) -> list[float]:
    """Radii of 3 to 9 rings of one lattice without symmetry."""
    kind = lattices.oblique(
        axis_ratio=float(rng.uniform(1.0, 1.8)), angle=math.radians(float(rng.uniform(60.0, 90.0)))
    )
    radius = draw_radius(rng, experiment, reach=0.45)
    count = int(rng.integers(3, 10))
    return [radius * reflection.ratio for reflection in kind.reflections[:count]]


def ad_hoc_rings(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw isotropic rings of a powder at no simple ratio, of uneven strength."""
    radii = _oblique_radii(rng, experiment)
    width = max(radii[0] * math.exp(rng.uniform(math.log(0.01), math.log(0.12))), MIN_FWHM * experiment.scale)
    heights = [level * float(rng.lognormal(0.0, 0.6)) for _ in radii]
    terms = [
        Term(radial=peak(experiment, radius=radius, width=width, height=height))
        for radius, height in zip(radii, heights, strict=True)
    ]
    return Component(
        name="ad_hoc_rings",
        parameters={"radii": radii, "width": width, "heights": heights},
        terms=tuple(terms),
        features=tuple(
            Feature(kind=FeatureKind.RING, term=term, radius=radius, width=width)
            for term, radius in zip(terms, radii, strict=True)
        ),
    )


def speckled_rings(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw the rings of a few crystalline grains, each with 2, 4 or 6 spots on every ring."""
    radii = _oblique_radii(rng, experiment)
    width = max(
        radii[0] * math.exp(rng.uniform(math.log(0.015), math.log(0.08))), MIN_FWHM * experiment.scale
    )
    k = int(rng.choice((2, 4, 6), p=(0.42, 0.32, 0.26)))
    features, grains = [], []
    for radius in radii:
        count = int(rng.integers(2, 15))
        grains.append(count)
        spot = max(float(rng.uniform(1.0, 2.5)) * width / radius, MIN_SPOT_FWHM)
        angular = rings.grain_profile(
            experiment.azimuths,
            order=k,
            phases=torch.from_numpy(rng.uniform(0.0, 2.0 * math.pi, count)).float(),
            weights=torch.from_numpy(rng.lognormal(0.0, 0.5, count)).float(),
            fwhm=spot,
        )
        height = level * float(rng.lognormal(0.0, 0.4))
        term = Term(radial=peak(experiment, radius=radius, width=width, height=height), angular=angular)
        features.append(Feature(kind=FeatureKind.RING, term=term, radius=radius, width=width, order=k))
    return Component(
        name="speckled_rings",
        parameters={"radii": radii, "width": width, "order": k, "grains": grains, "height": level},
        terms=tuple(feature.term for feature in features),
        features=tuple(features),
    )
