"""Crystals by diffsims: kinematic electron diffraction of powders, textured films and single crystals.

Structure factors, extinctions and excitation errors are diffsims'; what it computes at 200 kV is laid out on the
detector as any other sample is, its first reflections near the beam. A sample is a function (setup, rng) ->
components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.reproduction.independent_sets.component import AZIMUTHS, Component, Table, smeared
from dvfb_stream.reproduction.independent_sets.samples.smooth import orientation
from dvfb_stream.reproduction.independent_sets.setup import Setup

VOLTAGE = 200.0
"""kV."""
FARTHEST = 1.5
"""1/Å, reflections that diffsims is asked for."""
EXCITATION_ERROR = 0.02
"""1/Å: how far a reflection may be from Ewald's sphere and still be lit, as of crystals some nanometres thick."""
FAINTEST = 1e-3
"""Share of the brightest below which a reflection is left out."""


@dataclass(frozen=True, slots=True)
class Crystal:
    """A structure of diffsims' input: space group, cell (Å, degrees) and the atoms that the group repeats."""

    space_group: int
    a: float
    c: float
    gamma: float
    atoms: tuple[tuple[str, tuple[float, float, float]], ...]


CRYSTALS = {
    "gold": Crystal(225, 4.078, 4.078, 90.0, (("Au", (0.0, 0.0, 0.0)),)),
    "iron": Crystal(229, 2.866, 2.866, 90.0, (("Fe", (0.0, 0.0, 0.0)),)),
    "silicon": Crystal(227, 5.431, 5.431, 90.0, (("Si", (0.0, 0.0, 0.0)),)),
    "rock salt": Crystal(225, 5.640, 5.640, 90.0, (("Na", (0.0, 0.0, 0.0)), ("Cl", (0.5, 0.5, 0.5)))),
    "caesium chloride": Crystal(221, 4.123, 4.123, 90.0, (("Cs", (0.0, 0.0, 0.0)), ("Cl", (0.5, 0.5, 0.5)))),
    "magnesium": Crystal(194, 3.209, 5.211, 120.0, (("Mg", (1 / 3, 2 / 3, 0.25)),)),
    "rutile": Crystal(136, 4.594, 2.959, 90.0, (("Ti", (0.0, 0.0, 0.0)), ("O", (0.305, 0.305, 0.0)))),
}
"""Lattice constants of the Crystallography Open Database's common entries, to a thousandth."""

ZONES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "gold": ((0, 0, 1), (1, 1, 0), (1, 1, 1)),
    "iron": ((0, 0, 1), (1, 1, 0), (1, 1, 1)),
    "silicon": ((0, 0, 1), (1, 1, 0), (1, 1, 1)),
    "rock salt": ((0, 0, 1), (1, 1, 0)),
    "caesium chloride": ((0, 0, 1), (1, 1, 0), (1, 1, 1)),
    "magnesium": ((0, 0, 1), (1, 0, 0)),
    "rutile": ((0, 0, 1), (1, 0, 0)),
}
"""Directions [uvw] of the beam. The first three have four, two and six folds in cubic crystals."""


def powder(setup: Setup, rng: Generator) -> list[Component]:
    """Draw a powder, fine or textured."""
    spacings, heights = powder_lines(str(rng.choice(list(CRYSTALS))))
    places = spacings * float(setup.at(rng.uniform(0.15, 0.5))) / spacings[0]
    # The factor of displaced atoms; without it kinematic reflections go on to the edge.
    heights = heights * np.exp(-rng.uniform(0.0, 1.5) * (places / setup.far) ** 2)
    width = max(10 ** rng.uniform(-2.2, -1.5) * setup.far, 2.5 * float(setup.q[1] - setup.q[0]))
    inside = places < setup.q[-1]
    x = (setup.q - places[inside, None]) / (0.5 * width)
    profile = (heights[inside, None] * np.exp(-math.log(2.0) * x**2)).sum(axis=0)
    around = orientation(rng, share=0.4, strength=(0.6, 4.0))
    return [Component(kind="powder", table=profile * around)]


def single_crystal(setup: Setup, rng: Generator) -> list[Component]:
    """Draw a crystal along one of its axes, with the mosaic of a film."""
    name = str(rng.choice(list(CRYSTALS)))
    axes = ZONES[name]
    spots = zone(name, axes[int(rng.integers(len(axes)))])
    first = float(np.hypot(spots[:, 0], spots[:, 1]).min())
    scale = float(setup.at(rng.uniform(0.15, 0.45))) / first
    table = spotted(setup, spots, scale=scale, turn=rng.uniform(0.0, 2.0 * math.pi))
    return [
        Component(
            kind="lattice",
            table=smeared(table, azimuth=rng.uniform(1.5, 7.0), q=rng.uniform(1.5, 4.0)),
        )
    ]


def spotted(setup: Setup, spots: NDArray[np.float64], *, scale: float, turn: float) -> Table:
    """Return spots (x, y, intensity) as a table, each in the cells around it.

    Parameters
    ----------
    setup
        Of the frame.
    spots
        (spots, 3): place in 1/Å of diffsims, and intensity.
    scale
        1/Å of the frame for each of diffsims'.
    turn
        About the beam, radians.
    """
    x, y, intensity = spots.T
    row = np.degrees(np.arctan2(y, x) + turn) % 360.0 * (AZIMUTHS / 360.0)
    q = scale * np.hypot(x, y)
    column = q / float(setup.q[1] - setup.q[0]) - 0.5
    table = np.zeros((AZIMUTHS, len(setup.q)))
    inside = (column >= 0) & (column < len(setup.q) - 1)
    for at, across, each, far in zip(row[inside], column[inside], intensity[inside], q[inside], strict=True):
        down, right = int(at), int(across)
        for rows, vertical in ((down, 1.0 - at + down), (down + 1, at - down)):
            for columns, horizontal in ((right, 1.0 - across + right), (right + 1, across - right)):
                # A spot's cells are the wider the farther it is from the beam.
                table[rows % AZIMUTHS, columns] += each * vertical * horizontal / far
    return table


@cache
def powder_lines(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places, 1/Å ascending, and intensities of a powder's reflections.

    Raises
    ------
    MissingExtraError
        When diffsims is not installed.
    """
    generator, phase = _generator(), _phase(name)
    found = generator.calculate_diffraction1d(phase, reciprocal_radius=FARTHEST)
    places, heights = np.asarray(found.reciprocal_spacing, float), np.asarray(found.intensities, float)
    kept = heights > FAINTEST * heights.max()
    order = np.argsort(places[kept])
    return places[kept][order], heights[kept][order]


@cache
def zone(name: str, axis: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return what a crystal shows along an axis [uvw], (spots, 3): x and y in 1/Å, intensity.

    Raises
    ------
    MissingExtraError
        When diffsims is not installed.
    """
    generator, phase = _generator(), _phase(name)
    from orix.quaternion import Rotation
    from orix.vector import Miller, Vector3d

    along = Miller(uvw=[axis], phase=phase)
    rotation = Rotation.from_align_vectors(Vector3d([[0, 0, 1]]), Vector3d(along.data))
    found = generator.calculate_diffraction2d(
        phase,
        rotation=~rotation,
        reciprocal_radius=FARTHEST,
        with_direct_beam=False,
        max_excitation_error=EXCITATION_ERROR,
    ).coordinates
    intensity = np.asarray(found.intensity, float)
    spots = np.column_stack((np.asarray(found.data, float)[:, :2], intensity))
    return np.asarray(spots[intensity > FAINTEST * intensity.max()])


@cache
def _generator() -> Any:
    try:
        from diffsims.generators.simulation_generator import SimulationGenerator
    except ImportError:
        raise MissingExtraError("diffsims", "evaluate") from None
    return SimulationGenerator(accelerating_voltage=VOLTAGE)


@cache
def _phase(name: str) -> Any:
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    crystal = CRYSTALS[name]
    cell = Lattice(crystal.a, crystal.a, crystal.c, 90.0, 90.0, crystal.gamma)
    atoms = [Atom(element, list(place)) for element, place in crystal.atoms]
    phase = Phase(name=name, space_group=crystal.space_group, structure=Structure(atoms=atoms, lattice=cell))
    return phase.expand_asymmetric_unit()
