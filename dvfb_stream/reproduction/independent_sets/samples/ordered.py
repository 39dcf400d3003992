"""Samples with long-range order seen as rings: lamellae, mesophases, powders of pyFAI's calibrants.

A sample is a function (setup, rng) -> components.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, AZIMUTHS, Component, Table
from dvfb_stream.reproduction.independent_sets.samples.kernels import radial
from dvfb_stream.reproduction.independent_sets.samples.smooth import orientation
from dvfb_stream.reproduction.independent_sets.setup import Setup

SEQUENCES = {
    "hexagonal": [1.0, 3.0, 4.0, 7.0, 9.0, 12.0, 13.0],
    "body_centred": [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0],
    "face_centred": [3.0, 4.0, 8.0, 11.0, 12.0, 16.0, 19.0],
    "gyroid": [6.0, 8.0, 14.0, 16.0, 20.0, 22.0, 24.0],
    "diamond": [2.0, 3.0, 4.0, 6.0, 8.0, 9.0, 10.0],
    "square": [1.0, 2.0, 4.0, 5.0, 8.0, 9.0, 10.0],
}
"""Squares of the allowed reflections' q in units of 2π over the cell's edge (Hamley, The Physics of Block Copolymers
(1998), chapter 2; International Tables for Crystallography A)."""

CALIBRANTS = (
    "AgBh", "Al", "Au", "C14H30O", "CeO2", "Cr2O3", "LaB6", "NaCl", "Ni", "PBBA", "Pt", "Si", "TiO2", "ZnO",
    "alpha_Al2O3", "hydrocerussite", "lysozyme", "quartz", "vanadinite",
)  # fmt: skip


def lamellae(setup: Setup, rng: Generator) -> list[Component]:
    """Draw stacks of layers, as a powder or oriented."""
    spacing = 2.0 * math.pi / setup.at(rng.uniform(0.08, 0.45))
    tail = rng.uniform(0.1, 0.25) * spacing
    if rng.random() < 0.5:
        model = "lamellar_stack_paracrystal"
        layers = {"thickness": 1.6 * tail, "sigma_d": rng.uniform(0.02, 0.09)}
    else:
        model = "lamellar_hg_stack_caille"
        head = rng.uniform(0.3, 0.9) * tail
        layers = {"length_tail": tail, "length_head": head, "Caille_parameter": 10 ** rng.uniform(-2.5, -1.0)}
    # Stacks differ in height; those of one show fringes between their maxima that no sample has.
    heights = np.unique(np.round(rng.uniform(8.0, 30.0) * np.linspace(0.4, 1.6, 13)))
    profile = np.mean(
        [radial(model, setup.q, d_spacing=spacing, Nlayers=height, **layers) for height in heights], axis=0
    )
    # The models average over all directions, 1/q²; a flat stack in the beam has none of it.
    profile *= (setup.q * spacing) ** rng.uniform(0.0, 2.0)
    return [Component(kind="lamellar", table=profile * orientation(rng, share=0.6, strength=(0.6, 5.0)))]


def mesophase(setup: Setup, rng: Generator) -> list[Component]:
    """Draw block copolymers and superlattices: reflections of a lattice and the form factor of its spheres."""
    squares = np.array(SEQUENCES[str(rng.choice(list(SEQUENCES)))])
    first = float(setup.at(rng.uniform(0.1, 0.5)))
    places = first * np.sqrt(squares / squares[0])
    heights = rng.uniform(0.3, 1.0, len(places)) * np.exp(
        -rng.uniform(0.05, 0.6) * (squares / squares[0] - 1.0)
    )
    table = _rings(setup, places, heights, width=10 ** rng.uniform(-2.0, -0.9) * first)
    spheres = radial("sphere", setup.q, radius=rng.uniform(0.8, 2.2) / first, radius_pd=0.12, radius_pd_n=31)
    table *= (0.05 + spheres / spheres.max()) * orientation(rng, share=0.55, strength=(0.6, 5.0))
    # What disorder takes from the reflections lies between them, in no direction.
    disordered = rng.uniform(0.0, 0.05) * float(table.max()) * spheres / spheres.max()
    return [Component(kind="mesophase", table=table + disordered)]


def powder(setup: Setup, rng: Generator) -> list[Component]:
    """Draw a calibrant: fine powder, textured, or so coarse that its grains are spots."""
    places = calibrant_q(str(rng.choice(CALIBRANTS)))
    inside = places[(places > setup.near) & (places < setup.far)]
    if len(inside) == 0:
        # A crystal of the same lattice and larger cells, such as nanoparticles arrange themselves in.
        places = places * (setup.at(rng.uniform(0.15, 0.5)) / places[0])
        inside = places[places < setup.far]
    # Where rings crowd, as in crystals of low symmetry seen from near, the strongest are those that show.
    chosen = np.sort(rng.permutation(inside)[: rng.integers(3, 25)]) if len(inside) > 30 else inside
    heights = rng.lognormal(0.0, 0.6, len(chosen)) * np.exp(
        -rng.uniform(0.0, 2.5) * (chosen / setup.far) ** 2
    )
    width = 10 ** rng.uniform(-2.3, -1.5) * setup.far
    if rng.random() < 0.3:
        table = _spotted(setup, chosen, heights, width, rng)
        return [Component(kind="powder", table=table, grains=True)]
    table = _rings(setup, chosen, heights, width)
    return [Component(kind="powder", table=table * orientation(rng, share=0.35, strength=(0.5, 4.0)))]


@cache
def _spacings(calibrant: str) -> tuple[float, ...]:
    try:
        from pyFAI.calibrant import get_calibrant
    except ImportError:
        raise MissingExtraError("pyFAI", "evaluate") from None
    return tuple(float(spacing) for spacing in get_calibrant(calibrant).dspacing)


def calibrant_q(calibrant: str) -> NDArray[np.float64]:
    """Return where the rings of one of pyFAI's calibrants lie, 1/Å, the innermost first."""
    return 2.0 * math.pi / np.array(sorted(_spacings(calibrant), reverse=True))


def _peaks(setup: Setup, places: NDArray[np.float64], heights: NDArray[np.float64], width: float) -> Table:
    """Return pseudo-Voigt peaks of full width `width` at half maximum, (places, q)."""
    # No ring is narrower than a few columns: detectors spread it as well.
    width = max(width, 2.5 * float(setup.q[1] - setup.q[0]))
    x = (setup.q - places[:, None]) / (0.5 * width)
    return heights[:, None] * (0.97 * np.exp(-math.log(2.0) * x**2) + 0.03 / (1.0 + x**2))


def _rings(setup: Setup, places: NDArray[np.float64], heights: NDArray[np.float64], width: float) -> Table:
    return np.tile(_peaks(setup, places, heights, width).sum(axis=0), (AZIMUTHS, 1))


def _spotted(
    setup: Setup, places: NDArray[np.float64], heights: NDArray[np.float64], width: float, rng: Generator
) -> Table:
    """Return rings of which single grains of random directions make spots, over what the fine ones leave."""
    number, size = int(rng.integers(12, 90)), math.radians(rng.uniform(1.2, 3.0))
    fine = rng.uniform(0.0, 0.3)
    around = np.empty((len(places), AZIMUTHS))
    for ring in range(len(places)):
        spots, strength = rng.uniform(0.0, 2.0 * math.pi, number), rng.exponential(1.0, number)
        apart = np.sin(0.5 * (AZIMUTH[:, None] - spots)) / (0.5 * size)
        grains = np.exp(-2.77 * (0.5 * apart) ** 2) @ strength
        around[ring] = fine + (1.0 - fine) * grains / grains.mean()
    return around.T @ _peaks(setup, places, heights, width)
