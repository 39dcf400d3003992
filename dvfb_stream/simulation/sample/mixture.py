"""Draws what a frame's sample scatters, in the paper's proportions as far as its ratios of labels need them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.components import Drawn, Integers
from dvfb_stream.simulation.draws import Draws, Reals, Stream
from dvfb_stream.simulation.sample import crystals, diffuse, fibres, films, structures
from dvfb_stream.simulation.sample.structure_request import StructureRequest
from dvfb_stream.simulation.settings import SimulationSettings

MOST_STRUCTURES = 4
"""In a frame; with 0.3 besides the first, more come once in 4,000."""
SCATTERING_COLUMNS = 24
"""Random numbers of each kind of diffuse scattering."""
STRUCTURE_COLUMNS = 360
"""Random numbers of a structure; nine rings of 14 grains need most."""


DrawStructure = Callable[[Drawn, StructureRequest], None]
"""Adds structures to what was drawn."""

STRUCTURES: dict[str, DrawStructure] = {
    "symmetry_ring": structures.symmetry_ring,
    "symmetry_halo": structures.symmetry_halo,
    "symmetry_rings": structures.symmetry_rings,
    "sphere": structures.sphere,
    "lattice": crystals.lattice,
    "distorted_lattice": crystals.distorted_lattice,
    "ad_hoc_rings": crystals.ad_hoc_rings,
    "speckled_rings": crystals.speckled_rings,
    "coherent_halo": structures.coherent_halo,
    "mesostructure": structures.mesostructure,
    "fibre": fibres.fibre,
    "single_ring": structures.single_ring,
    "oriented_orders": structures.oriented_orders,
    "powder_grains": crystals.powder_grains,
}
BENEATH = frozenset({"fibre", "oriented_orders", "single_ring"})
"""Structures of tissues and solutions, which hardly come without isotropic scattering at low q."""
FILM_COLUMNS = 40
ADDITION_COLUMNS = 128
"""Random numbers of what a frame of a real beamline has besides."""


def draw_sample(
    draws: Draws,
    experiment: Experiment,
    indices: Integers,
    level: Reals,
    settings: SimulationSettings,
    *,
    seed: int,
) -> Drawn:
    """Draw all that the samples of some frames of an experiment scatter.

    Parameters
    ----------
    draws
        A row a frame.
    experiment
        Of all frames.
    indices
        The frames' numbers, (n,).
    level
        Counts in a pixel of a typical structure, (n,).
    settings
        The mixture.
    seed
        Of the simulator.
    """
    drawn = Drawn()
    structured = experiment.kind == "structured"
    may_be_diffuse = draws.happens(settings.diffuse) & structured
    low_q = may_be_diffuse & draws.happens(settings.low_q)
    stretched = may_be_diffuse & draws.happens(settings.anisotropic_low_q)
    if experiment.kind == "diffuse_only":
        something, along = draws.happens(0.9), draws.happens(0.25)
        low_q, stretched = something & ~along, something & along
    for chosen, draw in (
        (draws.happens(settings.parasitic) & structured, diffuse.parasitic),
        (low_q, diffuse.isotropic_low_q),
        (stretched, diffuse.anisotropic_low_q),
        (may_be_diffuse & draws.happens(settings.high_q), diffuse.high_q),
    ):
        frame, own = np.flatnonzero(chosen), draws.apart(SCATTERING_COLUMNS)
        if len(frame):
            draw(drawn, own.chosen(frame), experiment, frame, level[frame])
    count = np.where(
        draws.happens(settings.sample) & structured,
        (1 + draws.poisson(settings.more_structures)).clip(max=MOST_STRUCTURES),
        0,
    )
    additions = Draws(seed, Stream.ADDITIONS, indices, ADDITION_COLUMNS) if _has_additions(settings) else None
    if additions is not None and experiment.film:
        filmed = np.full(len(level), structured) & additions.happens(settings.sample)
        count[filmed & additions.happens(films.ALONE)] = 0
        frame, own = np.flatnonzero(filmed), additions.apart(FILM_COLUMNS)
        if len(frame):
            films.film(drawn, own.chosen(frame), experiment, frame, level[frame])
    frame, slot = np.nonzero(np.arange(MOST_STRUCTURES) < count[:, None])
    items = indices[frame] * MOST_STRUCTURES + slot
    own = Draws(seed, Stream.STRUCTURE, items, STRUCTURE_COLUMNS)
    names = list(STRUCTURES)
    kind = own.choice([settings.structures.get(name, 0.0) for name in names])
    heights = level[frame] * 10.0 ** own.normal(0.0, 0.3)
    for number, name in enumerate(names):
        row = np.flatnonzero(kind == number)
        if len(row):
            STRUCTURES[name](
                drawn, StructureRequest(own.chosen(row), experiment, frame[row], row, heights[row])
            )
    if additions is not None:
        laid = np.isin(kind, [number for number, name in enumerate(names) if name in BENEATH])
        beneath = np.zeros(len(level), dtype=np.bool_)
        beneath[frame[laid]] = True
        _draw_additions(
            drawn,
            Draws(seed, Stream.ADDITIONS, indices, ADDITION_COLUMNS),
            experiment,
            level,
            settings,
            beneath,
        )
    return drawn


def _has_additions(settings: SimulationSettings) -> bool:
    return bool(settings.glow or settings.low_q_beneath or settings.films)


def _draw_additions(
    drawn: Drawn,
    draws: Draws,
    experiment: Experiment,
    level: Reals,
    settings: SimulationSettings,
    beneath: NDArray[np.bool_],
) -> None:
    """Draw what frames of real beamlines have besides; `beneath`: which frames may have low q beneath."""
    for chosen, draw in (
        (draws.happens(settings.glow), diffuse.glow),
        (draws.happens(settings.low_q_beneath) & beneath, diffuse.isotropic_low_q),
    ):
        frame, own = np.flatnonzero(chosen), draws.apart(SCATTERING_COLUMNS)
        if len(frame):
            draw(drawn, own.chosen(frame), experiment, frame, level[frame])
