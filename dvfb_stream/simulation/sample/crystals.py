"""Draws lattices: nanoparticles on a lattice, powders, and a few crystalline grains."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Drawn, Integers, Terms, on, peaks
from dvfb_stream.simulation.draws import Draws, Reals
from dvfb_stream.simulation.physics import intensities, lattices
from dvfb_stream.simulation.sample.structure_request import (
    MAX_ORDERS,
    StructureRequest,
    draw_phase,
    draw_radius,
    ring_width,
)

MIN_SPOT_FWHM = math.radians(1.6)
"""Narrower spots fall between the azimuthal samples."""
MOST_GRAINS = 14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reflections:
    """Reflections of all lattices in arrays, (lattices, reflections); ratio is NaN where there is none."""

    names: tuple[str, ...]
    order: NDArray[np.int64]
    ratio: Reals
    """q over that of the first reflection of the powder."""
    multiplicity: Reals
    spots: NDArray[np.int64]
    """Spots of the oriented crystal in one period."""
    angles: Reals
    """Azimuths of the spots, (lattices, reflections, most spots)."""


@functools.cache
def _reflections() -> _Reflections:
    kinds = (
        lattices.lamellar(),
        lattices.hexagonal(),
        lattices.body_centred_cubic(axis="001"),
        lattices.body_centred_cubic(axis="111"),
        lattices.face_centred_cubic(axis="001"),
        lattices.face_centred_cubic(axis="111"),
    )
    most = max(len(kind.reflections) for kind in kinds)
    deepest = max(len(reflection.angles) for kind in kinds for reflection in kind.reflections)
    ratio = np.full((len(kinds), most), np.nan)
    multiplicity, spots = np.zeros((len(kinds), most)), np.zeros((len(kinds), most), dtype=np.int64)
    angles = np.zeros((len(kinds), most, deepest))
    for i, kind in enumerate(kinds):
        for j, reflection in enumerate(kind.reflections):
            ratio[i, j], multiplicity[i, j] = reflection.ratio, reflection.multiplicity
            spots[i, j] = len(reflection.angles)
            angles[i, j, : len(reflection.angles)] = reflection.angles
    return _Reflections(
        names=tuple(kind.name for kind in kinds),
        order=np.array([kind.order for kind in kinds]),
        ratio=ratio,
        multiplicity=multiplicity,
        spots=spots,
        angles=angles,
    )


LATTICE_ODDS = (0.3, 0.2, 0.15, 0.1, 0.15, 0.1)


def lattice(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw nanoparticles on a lattice, as a powder or oriented."""
    _lattice("lattice", drawn, wanted)


def distorted_lattice(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw a lattice with disorder of the second kind: its reflections broaden with the square of their order."""
    _lattice("distorted_lattice", drawn, wanted)


def _lattice(name: str, drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw I = P(q) S(q), S = 1 + G (Z0 - 1) (Yager et al., J. Appl. Cryst. 47 (2014) 118) around its reflections.

    Each is as high as its multiplicity, the particles' form factor P and the Debye-Waller factor G make it, and as
    wide as the grains are small; P (1 - G), what the disorder takes from the reflections, lies between them.
    """
    draws, experiment, frame, structure, level = wanted
    known = _reflections()
    kind = draws.choice(LATTICE_ODDS)
    radius = draw_radius(draws, experiment, reach=0.4)
    width = ring_width(radius, draws.log_uniform(0.01, 0.12))
    disorder, oriented = draws.uniform(0.005, 0.08), draws.happens(0.25)
    sharpness, phase = draws.uniform(0.4, 0.92), draw_phase(draws, experiment)
    growth = draws.uniform(0.3, 1.0) if name == "distorted_lattice" else np.zeros(len(frame))
    # q1 R: spheres of a twentieth to a quarter of a layer's spacing, on cubic lattices of two to six tenths of the
    # distance at which they would touch.
    flat = kind < known.names.index("bcc")
    particle = np.where(flat, draws.uniform(0.4, 1.5), draws.uniform(0.8, 2.2))
    spread = draws.uniform(0.05, 0.12)
    between = draws.log_uniform(0.003, 0.06)

    spots = known.spots[kind]
    shown = np.where(oriented[:, None], spots > 0, ~np.isnan(known.ratio[kind]))
    first = shown.argmax(axis=1)[:, None]
    ratio = known.ratio[kind] / np.take_along_axis(known.ratio[kind], first, axis=1)
    ratio = np.where(shown, ratio, 1.0)
    # A powder's ring spreads its reflections over a circle and over the sphere: 1/q² together.
    strength = np.where(oriented[:, None], spots, known.multiplicity[kind] / ratio**2)
    strength = strength / np.take_along_axis(strength, first, axis=1)
    form = _form_factor(ratio, particle, spread)
    height = strength * form * np.exp(-disorder[:, None] * (ratio**2 - 1.0))
    place = radius[:, None] * ratio
    row, number = np.nonzero(shown & (height >= 0.01) & (place < len(experiment.bins.coverage)))
    order = np.where(oriented, known.order[kind], 0)
    broadened = width[row] * (1.0 + growth[row] * (ratio[row, number] ** 2 - 1.0))
    terms = Terms(
        frame=frame[row],
        radial=peaks(
            place[row, number], broadened, level[row] * height[row, number] * width[row] / broadened
        ),
        angular=_spots(
            order[row], sharpness[row], phase[row], known.angles[kind[row], number], spots[row, number]
        ),
    )

    def disordered(table: PolarTable) -> Tensor:
        relative = table.radii / on(table, radius)
        shape = intensities.sphere_form_factor(relative, radius=on(table, particle)) / on(
            table, _form_factor_at_first(particle, spread)
        )
        lost = 1.0 - lattices.debye_waller(relative, displacement=on(table, np.sqrt(disorder)))
        return on(table, level * between) * shape * lost

    drawn.add_maxima(
        terms,
        structure=structure[row],
        radius=place[row, number],
        width=broadened,
        order=order[row],
        textured=oriented[row],
    )
    drawn.terms.append(Terms(frame=frame, radial=disordered))
    q = experiment.q_of_radii(radius)
    drawn.record(
        name,
        frame,
        lattice=np.array(known.names)[kind],
        oriented=oriented,
        order=order,
        radius=radius,
        q=q,
        width=width,
        grain_size=lattices.scherrer_fwhm(
            torch.from_numpy(experiment.q_of_radii(radius + width) - q)
        ).numpy(),
        growth=growth,
        sharpness=np.where(oriented, sharpness, 0.0),
        phase=phase,
        disorder=disorder,
        particle_radius=particle / q,
        spread=spread,
        diffuse_share=between,
        height=level,
    )


def _form_factor(ratio: Reals, particle: Reals, spread: Reals) -> Reals:
    """P at reflections (n, k) in units of the first, over that at the first; `particle` is q1 R, (n,)."""
    size, uneven = (torch.from_numpy(np.repeat(v, ratio.shape[1])) for v in (particle, spread))
    at = torch.from_numpy(ratio.reshape(-1))
    # One reflection a row: q R is all that counts.
    shape = intensities.polydisperse_sphere(
        torch.ones(1, dtype=torch.float64), radius=at * size, spread=uneven
    )
    result: Reals = shape.numpy().reshape(ratio.shape) / _form_factor_at_first(particle, spread)[:, None]
    return result


def _form_factor_at_first(particle: Reals, spread: Reals) -> Reals:
    one = torch.ones(1, dtype=torch.float64)
    shape = intensities.polydisperse_sphere(
        one, radius=torch.from_numpy(particle), spread=torch.from_numpy(spread)
    )
    result: Reals = shape.numpy()[:, 0]
    return result


def _spots(
    order: Integers, sharpness: Reals, phase: Reals, angles: Reals, count: Integers
) -> Callable[[PolarTable], Tensor]:
    """Return mean Poisson kernels at the angles of each reflection's spots; order 0 is isotropic."""

    def angular(table: PolarTable) -> Tensor:
        total = torch.zeros(
            len(order), len(table.azimuths), dtype=torch.float64, device=table.azimuths.device
        )
        share = 1.0 / np.maximum(count, 1)
        for spot in range(angles.shape[1]):
            there = np.where(order > 0, spot < count, spot == 0)
            profile = intensities.angular_profile(
                table.azimuths,
                order=on(table, np.maximum(order, 1)),
                sharpness=on(table, np.where(order > 0, sharpness, 0.0)),
                phase=on(table, phase + angles[:, spot]),
            )
            total += on(table, there * np.where(order > 0, share, 1.0)) * profile
        return total

    return angular


def _oblique_radii(draws: Draws, experiment: Experiment) -> Reals:
    """Return radii of 3 to 9 rings of one lattice without symmetry, (n, 9), NaN where there is none."""
    axis_ratio = draws.uniform(1.0, 1.8)[:, None]
    angle = np.radians(draws.uniform(60.0, 90.0))[:, None]
    radius = draw_radius(draws, experiment, reach=0.45)
    count = draws.integers(3, MAX_ORDERS + 1)
    # Half the plane: the other half has the same lengths.
    h, k = np.array([(h, k) for h in range(5) for k in range(-4, 5) if (h, k) > (0, 0)]).T
    lengths = np.hypot(h + k * axis_ratio * np.cos(angle), k * axis_ratio * np.sin(angle))
    lengths = np.sort(lengths, axis=1)[:, :MAX_ORDERS]
    result: Reals = radius[:, None] * lengths / lengths[:, :1]
    result[np.arange(MAX_ORDERS) >= count[:, None]] = np.nan
    return result


def ad_hoc_rings(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw isotropic rings of a powder at no simple ratio, of uneven strength."""
    draws, experiment, frame, structure, level = wanted
    radii = _oblique_radii(draws, experiment)
    width = ring_width(radii[:, 0], draws.log_uniform(0.01, 0.12))
    heights = level[:, None] * draws.lognormal(0.0, 0.6, count=MAX_ORDERS)
    row, number = np.nonzero(radii < 2.0 * len(experiment.bins.coverage))
    terms = Terms(frame=frame[row], radial=peaks(radii[row, number], width[row], heights[row, number]))
    drawn.add_maxima(terms, structure=structure[row], radius=radii[row, number], width=width[row])
    drawn.record(
        "ad_hoc_rings", frame, radii=radii, width=width, heights=np.where(np.isnan(radii), np.nan, heights)
    )


def speckled_rings(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw the rings of a few crystalline grains, each with 2, 4 or 6 spots on every ring."""
    _spotted_rings("speckled_rings", drawn, wanted, orders=(2, 4, 6))


def powder_grains(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw the rings of a coarse powder: each of its grains puts one spot somewhere, and nothing repeats."""
    _spotted_rings("powder_grains", drawn, wanted, orders=(1, 1, 1))


def _spotted_rings(
    name: str, drawn: Drawn, wanted: StructureRequest, *, orders: tuple[int, int, int]
) -> None:
    draws, experiment, frame, structure, level = wanted
    radii = _oblique_radii(draws, experiment)
    width = ring_width(radii[:, 0], draws.log_uniform(0.015, 0.08))
    order = np.array(orders)[draws.choice((0.44, 0.31, 0.25))]
    grains = draws.integers(2, MOST_GRAINS + 1, count=MAX_ORDERS)
    stretch = draws.uniform(1.0, 2.5, count=MAX_ORDERS)
    heights = level[:, None] * draws.lognormal(0.0, 0.4, count=MAX_ORDERS)
    phases = draws.uniform(0.0, 2.0 * np.pi, count=MAX_ORDERS * MOST_GRAINS)
    weights = draws.lognormal(0.0, 0.5, count=MAX_ORDERS * MOST_GRAINS)
    row, number = np.nonzero(radii < 2.0 * len(experiment.bins.coverage))
    phases, weights = (v.reshape(-1, MAX_ORDERS, MOST_GRAINS)[row, number] for v in (phases, weights))
    weights = np.where(np.arange(MOST_GRAINS) < grains[row, number][:, None], weights, 0.0)
    spot = np.maximum(stretch[row, number] * width[row] / radii[row, number], MIN_SPOT_FWHM)

    def angular(table: PolarTable) -> Tensor:
        values = (order[row], phases, weights, spot)
        k, turned, weighted, fwhm = (on(table, value)[:, 0] for value in values)
        return intensities.grain_profile(table.azimuths, order=k, phases=turned, weights=weighted, fwhm=fwhm)

    terms = Terms(
        frame=frame[row], radial=peaks(radii[row, number], width[row], heights[row, number]), angular=angular
    )
    drawn.add_maxima(
        terms, structure=structure[row], radius=radii[row, number], width=width[row], order=order[row]
    )
    drawn.record(
        name,
        frame,
        radii=radii,
        width=width,
        order=order,
        grains=np.where(np.isnan(radii), np.nan, grains),
        heights=np.where(np.isnan(radii), np.nan, heights),
    )
