"""Samples without long-range order: particles in solution, gels, polymers, one broad correlation.

Profiles are sasmodels' averages over all orientations; an orientation distribution on top of them stands for
alignment by flow, stretching or a field. A sample is a function (setup, rng) -> components.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.reproduction.independent_sets.component import (
    AZIMUTH,
    AZIMUTHS,
    Component,
    march_dollase,
    textured,
)
from dvfb_stream.reproduction.independent_sets.samples.kernels import radial
from dvfb_stream.reproduction.independent_sets.setup import Setup

FIRST_SIDE_MAXIMUM = 5.763
"""q R of a sphere."""


def orientation(rng: Generator, *, share: float, strength: tuple[float, float]) -> NDArray[np.float64]:
    """Return a distribution over the azimuth, (AZIMUTHS, 1), of mean 1: oriented with a probability of `share`.

    A part of the sample, up to a half, stays isotropic.
    """
    if rng.random() >= share:
        return np.ones((AZIMUTHS, 1))
    order, phase = int(rng.choice([2, 4, 6, 8], p=[0.4, 0.28, 0.24, 0.08])), rng.uniform(0.0, math.pi)
    if order == 2 and rng.random() < 0.4:
        distribution = march_dollase(AZIMUTH, compression=rng.uniform(0.35, 0.8), phase=phase)
    else:
        distribution = textured(order, AZIMUTH, strength=rng.uniform(*strength), phase=phase)
    rest = rng.uniform(0.0, 0.5)
    return np.asarray(rest + (1.0 - rest) * distribution)[:, None]


def particles(setup: Setup, rng: Generator) -> list[Component]:
    """Draw dilute particles of nearly one size: lobes of a form factor."""
    radius = FIRST_SIDE_MAXIMUM / setup.at(rng.uniform(0.12, 0.6))
    spread = {"radius_pd": rng.uniform(0.01, 0.09), "radius_pd_n": 41, "radius_pd_nsigma": 3}
    match rng.integers(4):
        case 0 | 1:
            profile = radial("sphere", setup.q, radius=radius, **spread)
        case 2:
            core = rng.uniform(0.5, 0.9)
            profile = radial(
                "core_shell_sphere", setup.q, radius=core * radius, thickness=(1.0 - core) * radius,
                sld_core=1.0, sld_shell=rng.uniform(-1.0, 3.0), sld_solvent=0.0, **spread,
            )  # fmt: skip
        case _:
            profile = radial(
                "vesicle", setup.q, radius=radius, thickness=rng.uniform(0.1, 0.4) * radius, **spread
            )
    return [Component(kind="form_factor", table=np.tile(profile, (AZIMUTHS, 1)))]


def crowded_particles(setup: Setup, rng: Generator) -> list[Component]:
    """Draw hard spheres at high concentration: a correlation halo, the tails of their form factor."""
    distance = 2.0 * math.pi / setup.at(rng.uniform(0.12, 0.6))
    packing = rng.uniform(0.25, 0.45)
    profile = radial(
        "sphere@hardsphere",
        setup.q,
        radius=0.5 * distance * (packing / 0.64) ** (1 / 3),
        volfraction=packing,
        radius_pd=rng.uniform(0.05, 0.15),
        radius_pd_n=31,
    )
    return [Component(kind="correlation", table=profile * orientation(rng, share=0.2, strength=(0.3, 1.2)))]


def correlated(setup: Setup, rng: Generator) -> list[Component]:
    """Draw bicontinuous phases, spinodal decomposition, ionomers: one broad maximum, often oriented."""
    place = float(setup.at(rng.uniform(0.12, 0.6)))
    match rng.integers(4):
        case 0:
            length = 2.0 * math.pi / place
            profile = radial("teubner_strey", setup.q, d=length, xi=rng.uniform(0.35, 0.8) * length)
        case 1:
            profile = radial("spinodal", setup.q, q_0=place, gamma=rng.uniform(3.0, 6.0))
        case 2:
            # Full width 2/ξ at half maximum for exponents (2, 1).
            profile = radial(
                "broad_peak", setup.q, porod_scale=0.0, peak_pos=place,
                correlation_length=2.0 / (rng.uniform(0.33, 0.7) * place), width_exp=2.0, shape_exp=1.0,
            )  # fmt: skip
        case _:
            profile = radial("gaussian_peak", setup.q, peak_pos=place, sigma=rng.uniform(0.14, 0.28) * place)
    return [Component(kind="correlation", table=profile * orientation(rng, share=0.65, strength=(0.3, 1.4)))]


def diffuse_low_q(setup: Setup, rng: Generator) -> list[Component]:
    """Draw gels, coils, fractals, two-phase media: intensity that falls from the beam."""
    size = rng.uniform(1.5, 6.0) / setup.at(rng.uniform(0.1, 0.45))
    match rng.integers(8):
        case 0:
            profile = radial("dab", setup.q, cor_length=size)
        case 1:
            profile = radial("lorentz", setup.q, cor_length=size)
        case 2:
            profile = radial(
                "guinier_porod", setup.q, rg=size, s=rng.uniform(0.0, 1.0), porod_exp=rng.uniform(3, 4)
            )
        case 3:
            profile = radial("poly_gauss_coil", setup.q, rg=size, polydispersity=rng.uniform(1.2, 2.5))
        case 4:
            profile = radial("polymer_excl_volume", setup.q, rg=size, porod_exp=rng.uniform(1.7, 3.0))
        case 5:
            profile = radial(
                "mass_fractal", setup.q, radius=0.1 * size, cutoff_length=size, fractal_dim_mass=2.2
            )
        case 6:
            profile = radial("correlation_length", setup.q, cor_length=size, porod_scale=0.0, lorentz_exp=2.5)
        case _:
            profile = radial("power_law", setup.q, power=rng.uniform(2.0, 4.0))
    return [Component(kind="diffuse", table=np.tile(profile, (AZIMUTHS, 1)))]


def diffuse_high_q(setup: Setup, rng: Generator) -> list[Component]:
    """Draw the inner flank of a maximum beyond the detector: amorphous packing, a liquid, short distances."""
    place = float(setup.far * rng.uniform(1.05, 1.3))
    match rng.integers(3):
        case 0:
            profile = radial("gaussian_peak", setup.q, peak_pos=place, sigma=rng.uniform(0.2, 0.4) * place)
        case 1:
            profile = radial(
                "hardsphere", setup.q, radius_effective=3.3 / place, volfraction=rng.uniform(0.25, 0.4)
            )
        case _:
            profile = radial("spinodal", setup.q, q_0=place, gamma=3.0)
    return [Component(kind="diffuse", table=np.tile(profile, (AZIMUTHS, 1)))]
