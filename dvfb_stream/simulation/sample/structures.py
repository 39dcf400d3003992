"""Draws textured rings and haloes, and what every structure has: the place of its maximum and its order."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.components import Component, Feature, FeatureKind, Term
from dvfb_stream.simulation.experiment import Experiment
from dvfb_stream.simulation.physics import rings

Rng = np.random.Generator

MAX_ORDERS = 9
MIN_FWHM = 1.6
"""Pixels; the beam and the detector's point spread let no ring be narrower."""


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


def draw_phase(rng: Rng) -> float:
    """Draw a direction, radians."""
    return float(rng.uniform(0.0, 2.0 * math.pi))


def peak(experiment: Experiment, *, radius: float, width: float, height: float) -> Tensor:
    """Return the radial profile of a maximum at `radius`, of full width `width` (pixels) and `height` counts."""
    profile: Tensor = height * rings.gaussian_peak(experiment.radii, center=radius, fwhm=width)
    return profile


def _textured_rings(rng: Rng, experiment: Experiment, level: float, *, orders: int) -> Component:
    radius = draw_radius(rng, experiment)
    width = max(radius * math.exp(rng.uniform(math.log(0.01), math.log(0.2))), MIN_FWHM * experiment.scale)
    width = min(width, 0.28 * radius)
    k, sharpness, phase = draw_order(rng), float(rng.uniform(0.2, 0.95)), draw_phase(rng)
    disorder = float(rng.uniform(0.01, 0.25))
    angular = rings.angular_profile(experiment.azimuths, order=k, sharpness=sharpness, phase=phase)
    features = []
    for i in range(1, orders + 1):
        height = rings.order_damping(float(i), disorder=disorder)
        if height < 0.01 or i * radius > len(experiment.coverage):
            break
        term = Term(
            radial=peak(experiment, radius=i * radius, width=width, height=level * height), angular=angular
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
    k, sharpness, phase = draw_order(rng), float(rng.uniform(0.02, 0.4)), draw_phase(rng)
    if rng.random() < isotropic:
        k, sharpness = 0, 0.0
    angular = (
        rings.angular_profile(experiment.azimuths, order=k, sharpness=sharpness, phase=phase) if k else None
    )
    term = Term(radial=peak(experiment, radius=radius, width=width, height=level), angular=angular)
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
    sharpness, phase = float(rng.uniform(0.05, 0.5)), draw_phase(rng)
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
