"""Samples with directions: oriented particles and single crystals of particles, by sasmodels' planar models.

A sample is a function (setup, rng) -> components.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.reproduction.independent_sets.component import (
    AZIMUTH,
    AZIMUTHS,
    Component,
    Table,
    smeared,
    turned,
)
from dvfb_stream.reproduction.independent_sets.samples.kernels import planar
from dvfb_stream.reproduction.independent_sets.setup import Setup

EVERY = 2
"""Columns between those that the planar models are computed for: smearing leaves nothing finer."""

TRIAD = math.degrees(math.acos(math.sqrt(1.0 / 3.0)))
"""Between a cube's edge and its body diagonal."""
AXES: dict[str, dict[str, float]] = {
    "100": {"theta": 0.0, "phi": 0.0, "psi": 0.0},
    "110": {"theta": 45.0, "phi": 0.0, "psi": 0.0},
    "111": {"theta": TRIAD, "phi": -90.0, "psi": 135.0},
}
"""sasmodels' angles that bring a crystal's axis into the beam."""
FIRST_REFLECTION = {
    "sc_paracrystal": 1.0,
    "bcc_paracrystal": math.sqrt(1.5),
    "fcc_paracrystal": math.sqrt(1.5),
}
"""q of the first reflection in units of 2π over the distance of neighbours: (100), (110), (111)."""


def oriented_particles(setup: Setup, rng: Generator) -> list[Component]:
    """Draw rods, discs and ellipsoids in the detector's plane, aligned: two-fold."""
    short = 3.0 / setup.at(rng.uniform(0.2, 0.7))
    long = short * rng.uniform(2.0, 6.0)
    lying = {"theta": 90.0, "phi": 0.0}
    match rng.integers(6):
        case 0:
            table = _half_computed(setup, "cylinder", radius=short, length=2.0 * long, **lying)
        case 1:
            table = _half_computed(setup, "ellipsoid", radius_polar=long, radius_equatorial=short, **lying)
        case 2:
            shell = {"thickness": 0.4 * short, "sld_core": 1.0, "sld_shell": 3.0, "sld_solvent": 0.0}
            table = _half_computed(
                setup, "core_shell_cylinder", radius=short, length=2.0 * long, **shell, **lying
            )
        case 3:
            table = _half_computed(
                setup, "stacked_disks", thick_core=0.5 * short, thick_layer=0.4 * short, radius=long,
                n_stacking=float(rng.integers(4, 12)), sigma_d=0.08 * short, sld_layer=2.0, **lying,
            )  # fmt: skip
        case 4:
            table = _half_computed(
                setup, "parallelepiped", length_a=2.0 * short, length_b=2.0 * short, length_c=2.0 * long, **lying
            )  # fmt: skip
        case _:
            table = _half_computed(setup, "triaxial_ellipsoid", radius_equat_minor=short, radius_polar=long,
                                   radius_equat_major=1.3 * short, **lying)  # fmt: skip
    return [aligned("form_factor", table, rng, mosaic=(3.0, 25.0), blur=(2.0, 6.0))]


def cubes_on_a_face(setup: Setup, rng: Generator) -> list[Component]:
    """Draw square prisms that stand with their four-fold axis in the beam."""
    edge = 2.0 * math.pi * 1.43 / setup.at(rng.uniform(0.2, 0.5))
    model = str(rng.choice(["parallelepiped", "rectangular_prism", "hollow_rectangular_prism"]))
    sizes = {"length_a": edge, "length_b": edge, "length_c": edge} if model == "parallelepiped" else {
        "length_a": edge, "b2a_ratio": 1.0, "c2a_ratio": 1.0,
    }  # fmt: skip
    if model == "hollow_rectangular_prism":
        sizes["thickness"] = 0.15 * edge
    table = _half_computed(setup, model, theta=0.0, phi=0.0, psi=0.0, **sizes)
    return [aligned("form_factor", table, rng, mosaic=(2.0, 8.0), blur=(2.0, 6.0))]


def crystal(setup: Setup, rng: Generator) -> list[Component]:
    """Draw a lattice of spheres along one of its axes, single, twinned, or a few grains about that axis."""
    model = str(rng.choice(list(FIRST_REFLECTION)))
    axis = str(rng.choice(list(AXES), p=[0.4, 0.15, 0.45]))
    neighbours = 2.0 * math.pi * FIRST_REFLECTION[model] / setup.at(rng.uniform(0.15, 0.4))
    table = _half_computed(
        setup, model, dnn=neighbours, d_factor=rng.uniform(0.05, 0.1),
        radius=rng.uniform(0.2, 0.4) * neighbours, **AXES[axis],
    )  # fmt: skip
    # Their disorder is along three axes that the four-fold one does not exchange: both twins of it are.
    table = table + turned(table, 90) if axis == "100" else table
    grains = rng.random() < 0.3
    if grains:
        turns, weights = rng.integers(0, 360, 4), rng.uniform(0.3, 1.0, 4)
        table = sum(
            (w * turned(table, int(t)) for w, t in zip(weights, turns, strict=True)), np.zeros_like(table)
        )
    # A grain has less mosaic than a film, or its spots would be arcs.
    mosaic = (1.0, 2.5) if grains else (1.5, 7.0)
    return [aligned("lattice", table, rng, mosaic=mosaic, blur=(1.5, 4.0), grains=grains)]


def aligned(
    kind: str,
    table: Table,
    rng: Generator,
    *,
    mosaic: tuple[float, float],
    blur: tuple[float, float],
    **flags: Any,
) -> Component:
    """Return a pattern turned about the beam, with a Gaussian spread of directions, degrees, and blurred along q."""
    spread, width = rng.uniform(*mosaic), rng.uniform(*blur)
    return Component(
        kind=kind, table=smeared(turned(table, int(rng.integers(360))), azimuth=spread, q=width), **flags
    )


def _half_computed(setup: Setup, model: str, **parameters: float) -> Table:
    """Return a planar model over all azimuths; it is centrosymmetric, so half of them are computed."""
    return refined(setup, planar(model, setup.q[::EVERY], AZIMUTH[: AZIMUTHS // 2], **parameters))


def refined(setup: Setup, half: NDArray[np.float64]) -> Table:
    """Return a centrosymmetric table of which half the azimuths and one column in `EVERY` are known."""
    at = np.minimum(np.arange(len(setup.q)) / EVERY, half.shape[1] - 1.001)
    left = at.astype(int)
    fine = half[:, left] + (half[:, left + 1] - half[:, left]) * (at - left)
    return np.concatenate((fine, fine))
