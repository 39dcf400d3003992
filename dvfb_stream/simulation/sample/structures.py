"""Draws what has no lattice: textured rings and haloes, and the form factor of spheres."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Diffuse, Drawn, Maxima, Terms, on, oriented, peaks
from dvfb_stream.simulation.draws import Reals
from dvfb_stream.simulation.physics import intensities
from dvfb_stream.simulation.sample.structure_request import (
    MAX_ORDERS,
    StructureRequest,
    draw_order,
    draw_phase,
    draw_radius,
    ring_width,
)

MOST_ROW = 16
"""Orders of a row of arcs; collagen shows as many."""


def symmetry_ring(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw one textured ring a frame."""
    _textured_rings("symmetry_ring", drawn, wanted, orders=1)


def symmetry_rings(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw textured rings at q0, 2 q0, 3 q0, ..., damped by disorder."""
    _textured_rings("symmetry_rings", drawn, wanted, orders=MAX_ORDERS)


def _textured_rings(name: str, drawn: Drawn, wanted: StructureRequest, *, orders: int) -> None:
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, reach=0.75 if orders == 1 else 0.45)
    width = np.minimum(ring_width(radius, draws.log_uniform(0.01, 0.2)), 0.28 * radius)
    order, sharpness, phase = draw_order(draws), draws.uniform(0.2, 0.95), draw_phase(draws, experiment)
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
    drawn.record(
        name,
        frame,
        radius=radius,
        q=experiment.q_of_radii(radius),
        width=width,
        order=order,
        sharpness=sharpness,
        phase=phase,
        disorder=disorder,
        height=level,
    )


def single_ring(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw one ring a frame and no higher orders, isotropic or weakly oriented."""
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment)
    width = np.minimum(ring_width(radius, draws.log_uniform(0.02, 0.28)), 0.28 * radius)
    kind, order = draws.choice((0.5, 0.35, 0.15)), draw_order(draws)
    order = np.where(kind == 0, 0, np.where(kind == 1, 2, order))
    sharpness, phase = draws.uniform(0.03, 0.6), draw_phase(draws, experiment)
    terms = Terms(frame=frame, radial=peaks(radius, width, level), angular=oriented(order, sharpness, phase))
    drawn.add_maxima(terms, structure=structure, radius=radius, width=width, order=order, textured=order > 0)
    drawn.record(
        "single_ring",
        frame,
        radius=radius,
        q=experiment.q_of_radii(radius),
        width=width,
        order=order,
        sharpness=np.where(order > 0, sharpness, 0.0),
        phase=phase,
        height=level,
    )


def oriented_orders(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw a row of short arcs at q0, 2 q0, 3 q0, ... along one axis, as collagen and layers on edge give."""
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, low=6.0, reach=0.25)
    width = ring_width(radius, draws.log_uniform(0.02, 0.12))
    sharpness, phase = draws.uniform(0.85, 0.97), draw_phase(draws, experiment)
    damping = draws.uniform(0.0, 0.5)
    uneven = draws.lognormal(0.0, 0.7, count=MOST_ROW)
    multiple = np.arange(1.0, MOST_ROW + 1.0)
    place = radius[:, None] * multiple
    height = level[:, None] * uneven * np.exp(-damping[:, None] * (multiple - 1.0))
    row, number = np.nonzero((height > 0.01 * level[:, None]) & (place < len(experiment.bins.coverage)))
    order = np.full(len(row), 2)
    drawn.add_maxima(
        Terms(
            frame=frame[row],
            radial=peaks(place[row, number], width[row], height[row, number]),
            angular=oriented(order, sharpness[row], phase[row]),
        ),
        structure=structure[row],
        radius=place[row, number],
        width=width[row],
        order=order,
        textured=True,
    )
    drawn.record(
        "oriented_orders",
        frame,
        radius=radius,
        q=experiment.q_of_radii(radius),
        width=width,
        order=2,
        sharpness=sharpness,
        phase=phase,
        heights=height,
    )


def symmetry_halo(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw one broad oriented ring a frame."""
    _halo("symmetry_halo", drawn, wanted, isotropic=0.0)


def coherent_halo(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw a halo broken into speckles by a coherent beam."""
    draws, frame = wanted.draws, wanted.frame
    contrast, grain = draws.uniform(0.05, 0.7), draws.uniform(2.0, 6.0)
    # The beam makes the speckles: two haloes of one frame have the same.
    _, first, of_frame = np.unique(frame, return_index=True, return_inverse=True)
    contrast, grain = contrast[first][of_frame], grain[first][of_frame]
    drawn.speckles |= {
        int(position): (float(contrast[row]), float(grain[row])) for row, position in enumerate(frame)
    }
    _halo("coherent_halo", drawn, wanted, isotropic=0.2, speckle={"contrast": contrast, "grain": grain})


def _halo(
    name: str,
    drawn: Drawn,
    wanted: StructureRequest,
    *,
    isotropic: float,
    speckle: dict[str, Reals] | None = None,
) -> None:
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, low=16.0, reach=0.6)
    width = radius * draws.uniform(0.3, 0.6)
    order, sharpness, phase = draw_order(draws), draws.uniform(0.02, 0.4), draw_phase(draws, experiment)
    order = np.where(draws.happens(isotropic), 0, order)
    terms = Terms(
        frame=frame,
        radial=peaks(radius, width, level),
        angular=oriented(order, sharpness, phase),
        speckled=speckle is not None,
    )
    drawn.add_maxima(terms, structure=structure, radius=radius, width=width, order=order, textured=True)
    drawn.record(
        name,
        frame,
        radius=radius,
        q=experiment.q_of_radii(radius),
        width=width,
        order=order,
        sharpness=np.where(order > 0, sharpness, 0.0),
        phase=phase,
        height=level,
        **speckle or {},
    )


def mesostructure(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw the correlation peak of a disordered mesophase, often oriented."""
    draws, experiment, frame, structure, level = wanted
    radius = draw_radius(draws, experiment, low=16.0, reach=0.6)
    floor = draws.uniform(0.09, 0.28)
    order = np.where(draws.happens(0.6), draw_order(draws), 0)
    sharpness, phase = draws.uniform(0.05, 0.5), draw_phase(draws, experiment)

    def peak(table: PolarTable) -> Tensor:
        return on(table, level) * intensities.correlation_peak(
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
        width=radius * intensities.correlation_peak_width(torch.from_numpy(floor)).numpy(),
        order=order,
        textured=True,
    )
    drawn.record(
        "mesostructure",
        frame,
        radius=radius,
        q=experiment.q_of_radii(radius),
        width=drawn.maxima[-1].width,
        floor=floor,
        order=order,
        sharpness=np.where(order > 0, sharpness, 0.0),
        phase=phase,
        height=level,
    )


MINIMA = np.array(
    [
        4.493409,
        7.725252,
        10.904122,
        14.066194,
        17.220755,
        20.371303,
        23.519452,
        26.666054,
        29.811599,
        32.956389,
    ]
)
"""q R where the form factor vanishes: the solutions of tan x = x."""
FIRST_RING = 134.0
"""Intensity at the centre over that of the first ring, of equal spheres."""


def sphere(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw the form factor of spheres: a central lobe, and rings between its minima."""
    draws, experiment, frame, structure, level = wanted
    first = draw_radius(draws, experiment, low=8.0, reach=0.3)
    size = MINIMA[0] / experiment.q_of_radii(first)
    spread = draws.uniform(0.01, 0.12)
    height = np.minimum(FIRST_RING * level, 2e6)

    def intensity(table: PolarTable) -> Tensor:
        shape = intensities.polydisperse_sphere(
            table.q, radius=on(table, size)[:, 0], spread=on(table, spread)[:, 0]
        )
        return on(table, height) * shape

    whole = Terms(frame=frame, radial=intensity)
    drawn.terms.append(whole)

    table = experiment.view_table
    curve = intensity(table)
    spacing = float(table.radii[1])
    minima = on(table, 1.0 / size) * torch.from_numpy(MINIMA).to(curve.device)  # (n, 10) in q
    at = torch.searchsorted(table.q, minima).clamp(max=len(table.q) - 1)
    before = torch.arange(len(table.q), device=curve.device) < at[:, :1]
    drawn.diffuse.append(
        Diffuse(intensity=Terms(frame=frame, radial=lambda _: torch.where(before, curve, 0.0)), rises=False)
    )
    rows, rings, excess = [], [], []
    for ring in range(MAX_ORDERS):
        low, high = at[:, ring], at[:, ring + 1]
        inside = torch.nonzero(high < len(table.q) - 1)[:, 0]
        if not len(inside):
            break
        rows.append(inside)
        rings.append(torch.full_like(inside, ring))
        excess.append(_above_the_line(curve[inside], low[inside], high[inside]))
    if rows:
        row, above = torch.cat(rows), torch.cat(excess)
        top, tallest = above.argmax(dim=1), above.max(dim=1, keepdim=True).values
        index = row.cpu().numpy()
        drawn.maxima.append(
            Maxima(
                terms=Terms(frame=frame[index], radial=lambda _: above),
                structure=structure[index],
                radius=(spacing * top).double().cpu().numpy(),
                width=(spacing * (above > 0.5 * tallest).sum(dim=1)).double().cpu().numpy(),
                order=np.zeros(len(index), dtype=np.int64),
                textured=np.zeros(len(index), dtype=np.bool_),
            )
        )
    drawn.record("sphere", frame, sphere_radius=size, spread=spread, first_minimum=first, height=level)


def _above_the_line(curve: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return what rises above the straight line, in log intensity, from one minimum to the next, (n, R)."""
    index = torch.arange(curve.shape[1], device=curve.device)
    share = (index - low[:, None]) / (high - low).clamp(min=1)[:, None]
    logarithm = torch.log(curve.clamp(min=1e-30))
    first, last = (logarithm.gather(1, at[:, None]) for at in (low, high))
    line = torch.exp((1.0 - share) * first + share * last)
    inside = (share >= 0.0) & (share <= 1.0)
    return torch.where(inside, (curve - line).clamp(min=0.0), 0.0)
