"""Draws the structure a sample shows: rings, haloes, particles and lattices, with the paper's odds."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation import particles, rings
from dvfb_stream.simulation.components import Component, Feature, FeatureKind, Term
from dvfb_stream.simulation.experiment import Experiment

Rng = np.random.Generator

MAX_ORDERS = 9
MIN_FWHM = 1.6
"""Pixels; the beam and the detector's point spread let no ring be narrower."""
MIN_SPOT_FWHM = math.radians(1.6)
"""Narrower spots fall between the azimuthal samples."""


def draw_structures(rng: Rng, experiment: Experiment, level: float) -> list[Component]:
    """Draw 1 + Poisson(0.3) structures of about `level` counts a pixel."""
    names = list(WEIGHTS)
    odds = np.array(list(WEIGHTS.values()))
    count = 1 + int(rng.poisson(0.3))
    drawn = rng.choice(len(names), size=count, p=odds / odds.sum())
    return [_DRAW[names[int(i)]](rng, experiment, level * 10.0 ** float(rng.normal(0.0, 0.3))) for i in drawn]


def draw_radius(rng: Rng, experiment: Experiment, *, low: float = 9.0, reach: float = 0.75) -> float:
    """Draw the radius (pixels) of a first maximum: q0 from N(0.02, 0.04) 1/Å, where enough of it can be seen."""
    low = max(low * experiment.scale, experiment.stop_radius + 3.0 * experiment.scale)
    high = max(reach * (len(experiment.coverage) - 3), low + 2.0)
    for _ in range(40):
        radius = experiment.radius_at(abs(float(rng.normal(0.02, 0.04))) + 1e-4)
        if low < radius < high and experiment.coverage[round(radius)] > 0.15:
            return radius
    seen = np.flatnonzero(experiment.coverage[: int(high)] > 0.1)
    seen = seen[seen > low]
    return float(rng.choice(seen)) if len(seen) else low + 1.0


def draw_order(rng: Rng) -> int:
    """Draw k = 2 round(lognormal(0, 0.75)), from 2 to 20."""
    return int(np.clip(2 * round(float(rng.lognormal(0.0, 0.75))), 2, 20))


def _phase(rng: Rng) -> float:
    return float(rng.uniform(0.0, 2.0 * math.pi))


def _peak(experiment: Experiment, *, radius: float, width: float, height: float) -> Tensor:
    return height * rings.gaussian_peak(experiment.radii, center=radius, fwhm=width)


def _textured_rings(rng: Rng, experiment: Experiment, level: float, *, orders: int) -> Component:
    radius = draw_radius(rng, experiment)
    width = max(radius * math.exp(rng.uniform(math.log(0.01), math.log(0.2))), MIN_FWHM * experiment.scale)
    width = min(width, 0.28 * radius)
    k, sharpness, phase = draw_order(rng), float(rng.uniform(0.2, 0.95)), _phase(rng)
    disorder = float(rng.uniform(0.01, 0.25))
    angular = rings.angular_profile(experiment.azimuths, order=k, sharpness=sharpness, phase=phase)
    features = []
    for i in range(1, orders + 1):
        height = rings.order_damping(float(i), disorder=disorder)
        if height < 0.01 or i * radius > len(experiment.coverage):
            break
        term = Term(
            radial=_peak(experiment, radius=i * radius, width=width, height=level * height), angular=angular
        )
        features.append(
            Feature(kind=FeatureKind.RING, term=term, radius=i * radius, width=width, order=k, textured=True)
        )
    return Component(
        name="symmetry_rings" if orders > 1 else "symmetry_ring",
        parameters={
            "radius": radius,
            "q": experiment.q_at(radius),
            "width": width,
            "order": k,
            "sharpness": sharpness,
            "phase": phase,
            "disorder": disorder,
            "height": level,
        },
        terms=tuple(feature.term for feature in features),
        features=tuple(features),
    )


def symmetry_ring(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw one textured ring."""
    return _textured_rings(rng, experiment, level, orders=1)


def symmetry_rings(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw textured rings at q0, 2 q0, 3 q0, ..., damped by disorder."""
    return _textured_rings(rng, experiment, level, orders=MAX_ORDERS)


def _halo(
    rng: Rng, experiment: Experiment, level: float, *, isotropic: float
) -> tuple[Feature, dict[str, float]]:
    radius = draw_radius(rng, experiment, low=16.0, reach=0.6)
    width = radius * float(rng.uniform(0.3, 0.6))
    k, sharpness, phase = draw_order(rng), float(rng.uniform(0.02, 0.4)), _phase(rng)
    if rng.random() < isotropic:
        k, sharpness = 0, 0.0
    angular = (
        rings.angular_profile(experiment.azimuths, order=k, sharpness=sharpness, phase=phase) if k else None
    )
    term = Term(radial=_peak(experiment, radius=radius, width=width, height=level), angular=angular)
    feature = Feature(kind=FeatureKind.HALO, term=term, radius=radius, width=width, order=k, textured=True)
    parameters = {
        "radius": radius,
        "q": experiment.q_at(radius),
        "width": width,
        "order": k,
        "sharpness": sharpness,
        "phase": phase,
        "height": level,
    }
    return feature, parameters


def symmetry_halo(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw one broad oriented ring."""
    feature, parameters = _halo(rng, experiment, level, isotropic=0.0)
    return Component(name="symmetry_halo", parameters=parameters, terms=(feature.term,), features=(feature,))


def coherent_halo(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw a halo broken into speckles by a coherent beam."""
    feature, parameters = _halo(rng, experiment, level, isotropic=0.2)
    contrast = float(rng.uniform(0.05, 0.7))
    grain = experiment.scale * float(rng.uniform(2.0, 6.0))
    return Component(
        name="coherent_halo",
        parameters={**parameters, "contrast": contrast, "grain": grain},
        terms=(feature.term,),
        features=(feature,),
        speckle=speckle_field(rng, size=experiment.geometry.shape[0], grain=grain, contrast=contrast),
    )


def speckle_field(rng: Rng, *, size: int, grain: float, contrast: float) -> Tensor:
    """Speckle of a coherent beam: 1 + β (|z|² - 1), z a complex Gaussian field with grains of `grain` pixels.

    |z|² has the negative exponential distribution of fully developed speckle (Goodman, Speckle Phenomena
    in Optics, 2007, section 3.2), mean 1; β is the contrast that partial coherence leaves.
    """
    # |z|² of a field with correlation exp(-r²/(4 σ²)) has exp(-r²/(2 σ²)): its grains are as wide as the kernel.
    sigma = grain / rings.FWHM_PER_SIGMA
    reach = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    side = size + 2 * reach
    white = torch.from_numpy(rng.standard_normal((2, 1, side, side), dtype=np.float32))
    rows = torch.nn.functional.conv2d(white, kernel[None, None, :, None])
    smooth = torch.nn.functional.conv2d(rows, kernel[None, None, None, :])
    intensity = (smooth**2).sum(dim=0)[0]
    return 1.0 + contrast * (intensity / intensity.mean() - 1.0)


def mesostructure(rng: Rng, experiment: Experiment, level: float) -> Component:
    """Draw the correlation peak of a disordered mesophase, often oriented."""
    radius = draw_radius(rng, experiment, low=16.0, reach=0.6)
    floor = float(rng.uniform(0.09, 0.28))
    k = draw_order(rng) if rng.random() < 0.6 else 0
    sharpness, phase = float(rng.uniform(0.05, 0.5)), _phase(rng)
    angular = (
        rings.angular_profile(experiment.azimuths, order=k, sharpness=sharpness, phase=phase) if k else None
    )
    radial = level * rings.correlation_peak(experiment.radii, center=radius, floor=floor)
    terms: tuple[Term, ...] = (Term(radial=radial),)
    if angular is not None:
        # The orientation belongs to the peak; towards the beam the disorder has no direction.
        share = experiment.radii**4 / (experiment.radii**4 + (0.5 * radius) ** 4)
        terms = (Term(radial=radial * share, angular=angular), Term(radial=radial * (1.0 - share)))
    width = radius * rings.correlation_peak_width(floor)
    return Component(
        name="mesostructure",
        parameters={
            "radius": radius,
            "q": experiment.q_at(radius),
            "width": width,
            "floor": floor,
            "order": k,
            "sharpness": sharpness if k else 0.0,
            "phase": phase,
            "height": level,
        },
        terms=terms,
        features=(
            Feature(kind=FeatureKind.HALO, term=terms[0], radius=radius, width=width, order=k, textured=True),
        ),
    )


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
def _lattices() -> tuple[particles.Lattice, ...]:
    return (
        particles.lamellar(),
        particles.hexagonal(),
        particles.body_centred_cubic(axis="001"),
        particles.body_centred_cubic(axis="111"),
        particles.face_centred_cubic(axis="001"),
        particles.face_centred_cubic(axis="111"),
    )


def _lattice(rng: Rng, experiment: Experiment, level: float, *, growth: float) -> Component:
    choice = int(rng.choice(6, p=(0.3, 0.2, 0.15, 0.1, 0.15, 0.1)))
    kind = _lattices()[choice]
    radius = draw_radius(rng, experiment, reach=0.55)
    width = max(radius * math.exp(rng.uniform(math.log(0.01), math.log(0.12))), MIN_FWHM * experiment.scale)
    disorder = float(rng.uniform(0.005, 0.15))
    oriented = bool(rng.random() < 0.25)
    sharpness, phase = float(rng.uniform(0.4, 0.92)), _phase(rng)
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
            radial=_peak(
                experiment, radius=place, width=broadened, height=level * height * width / broadened
            ),
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
    kind = particles.oblique(
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
        Term(radial=_peak(experiment, radius=radius, width=width, height=height))
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
        term = Term(radial=_peak(experiment, radius=radius, width=width, height=height), angular=angular)
        features.append(Feature(kind=FeatureKind.RING, term=term, radius=radius, width=width, order=k))
    return Component(
        name="speckled_rings",
        parameters={"radii": radii, "width": width, "order": k, "grains": grains, "height": level},
        terms=tuple(feature.term for feature in features),
        features=tuple(features),
    )


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
    "symmetry_ring": symmetry_ring,
    "symmetry_halo": symmetry_halo,
    "symmetry_rings": symmetry_rings,
    "sphere": sphere,
    "lattice": lattice,
    "distorted_lattice": distorted_lattice,
    "ad_hoc_rings": ad_hoc_rings,
    "speckled_rings": speckled_rings,
    "coherent_halo": coherent_halo,
    "mesostructure": mesostructure,
}
