"""Draws textured rings and haloes: what has a preferred direction and no lattice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Drawn, Record, Terms, on, oriented, peaks
from dvfb_stream.simulation.draws import Reals
from dvfb_stream.simulation.physics import rings
from dvfb_stream.simulation.sample.places import MAX_ORDERS, draw_order, draw_phase, draw_radius, ring_width
from dvfb_stream.simulation.sample.wanted import Wanted


def symmetry_ring(drawn: Drawn, wanted: Wanted) -> None:
    """Draw one textured ring a frame."""
    _textured_rings("symmetry_ring", drawn, wanted, orders=1)


def symmetry_rings(drawn: Drawn, wanted: Wanted) -> None:
    """Draw textured rings at q0, 2 q0, 3 q0, ..., damped by disorder."""
    _textured_rings("symmetry_rings", drawn, wanted, orders=MAX_ORDERS)


def _textured_rings(
    name: str,
    drawn: Drawn,
    wanted: Wanted,
    *,
    orders: int,
) -> None:
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, reach=0.75 if orders == 1 else 0.45)
    width = np.minimum(ring_width(radius, draws.log_uniform(0.01, 0.2)), 0.28 * radius)
    order, sharpness, phase = draw_order(draws), draws.uniform(0.2, 0.95), draw_phase(draws)
    disorder = draws.uniform(0.01, 0.25)
    multiple = np.arange(1.0, orders + 1.0)
    damping = np.exp(-disorder[:, None] * (multiple**2 - 1.0))
    place = radius[:, None] * multiple
    # Orders are counted while the peak exceeds a hundredth of the first.
    row, number = np.nonzero(
        (np.minimum.accumulate(damping, axis=1) >= 0.01) & (place < len(experiment.bins.coverage))
    )
    terms = Terms(
        frame=frame[row],
        radial=peaks(place[row, number], width[row], (level[:, None] * damping)[row, number]),
        angular=oriented(order[row], sharpness[row], phase[row]),
    )
    drawn.add_maxima(
        terms,
        structure=structure[row],
        radius=place[row, number],
        width=width[row],
        order=order[row],
        textured=True,
    )
    drawn.records.append(
        Record(
            name=name,
            frame=frame,
            values={
                "radius": radius,
                "q": experiment.q_of_radii(radius),
                "width": width,
                "order": order,
                "sharpness": sharpness,
                "phase": phase,
                "disorder": disorder,
                "height": level,
            },
        )
    )


def symmetry_halo(drawn: Drawn, wanted: Wanted) -> None:
    """Draw one broad oriented ring a frame."""
    _halo("symmetry_halo", drawn, wanted, isotropic=0.0)


def coherent_halo(drawn: Drawn, wanted: Wanted) -> None:
    """Draw a halo broken into speckles by a coherent beam."""
    draws, frame = wanted.draws, wanted.frame
    contrast, grain = draws.uniform(0.05, 0.7), draws.uniform(2.0, 6.0)
    # The beam makes the speckles: two haloes of one frame have the same.
    _, first, of_frame = np.unique(frame, return_index=True, return_inverse=True)
    contrast, grain = contrast[first][of_frame], grain[first][of_frame]
    drawn.speckles |= {
        int(position): (float(contrast[row]), float(grain[row])) for row, position in enumerate(frame)
    }
    _halo(
        "coherent_halo",
        drawn,
        wanted,
        isotropic=0.2,
        speckle={"contrast": contrast, "grain": grain},
    )


def _halo(
    name: str,
    drawn: Drawn,
    wanted: Wanted,
    *,
    isotropic: float,
    speckle: dict[str, Reals] | None = None,
) -> None:
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, low=16.0, reach=0.6)
    width = radius * draws.uniform(0.3, 0.6)
    order, sharpness, phase = draw_order(draws), draws.uniform(0.02, 0.4), draw_phase(draws)
    order = np.where(draws.happens(isotropic), 0, order)
    terms = Terms(
        frame=frame,
        radial=peaks(radius, width, level),
        angular=oriented(order, sharpness, phase),
        speckled=speckle is not None,
    )
    drawn.add_maxima(
        terms,
        structure=structure,
        radius=radius,
        width=width,
        order=order,
        textured=True,
    )
    drawn.records.append(
        Record(
            name=name,
            frame=frame,
            values={
                "radius": radius,
                "q": experiment.q_of_radii(radius),
                "width": width,
                "order": order,
                "sharpness": np.where(order > 0, sharpness, 0.0),
                "phase": phase,
                "height": level,
                **(speckle or {}),
            },
        )
    )


def mesostructure(drawn: Drawn, wanted: Wanted) -> None:
    """Draw the correlation peak of a disordered mesophase, often oriented."""
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, low=16.0, reach=0.6)
    floor = draws.uniform(0.09, 0.28)
    order = np.where(draws.happens(0.6), draw_order(draws), 0)
    sharpness, phase = draws.uniform(0.05, 0.5), draw_phase(draws)

    def peak(table: PolarTable) -> Tensor:
        return on(table, level) * rings.correlation_peak(
            table.radii, center=on(table, radius), floor=on(table, floor)
        )

    def direction(table: PolarTable) -> Tensor:
        # The orientation belongs to the peak; towards the beam the disorder has no direction.
        fourth = table.radii**4
        return torch.where(on(table, order > 0), fourth / (fourth + on(table, 0.5 * radius) ** 4), 1.0)

    directed = Terms(
        frame=frame,
        radial=lambda table: peak(table) * direction(table),
        angular=oriented(order, sharpness, phase),
    )
    rest = Terms(frame=frame, radial=lambda table: peak(table) * (1.0 - direction(table)))
    drawn.terms.append(rest)
    drawn.add_maxima(
        directed,
        structure=structure,
        radius=radius,
        width=radius * rings.correlation_peak_width(torch.from_numpy(floor)).numpy(),
        order=order,
        textured=True,
    )
    drawn.records.append(
        Record(
            name="mesostructure",
            frame=frame,
            values={
                "radius": radius,
                "q": experiment.q_of_radii(radius),
                "width": drawn.maxima[-1].width,
                "floor": floor,
                "order": order,
                "sharpness": np.where(order > 0, sharpness, 0.0),
                "phase": phase,
                "height": level,
            },
        )
    )
