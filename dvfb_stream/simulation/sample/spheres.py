"""Draws particles without a lattice: the form factor of spheres."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Diffuse, Drawn, Maxima, Record, Terms, on
from dvfb_stream.simulation.physics import particles
from dvfb_stream.simulation.sample.places import MAX_ORDERS, draw_radius
from dvfb_stream.simulation.sample.wanted import Wanted

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


def sphere(drawn: Drawn, wanted: Wanted) -> None:
    """Draw the form factor of spheres: a central lobe, and rings between its minima."""
    draws, experiment, frame, structure, level = wanted
    first = draw_radius(draws, experiment, low=8.0, reach=0.3)
    size = MINIMA[0] / experiment.q_of_radii(first)
    spread = draws.uniform(0.01, 0.12)
    height = np.minimum(FIRST_RING * level, 2e6)

    def intensity(table: PolarTable) -> Tensor:
        shape = particles.polydisperse_sphere(
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
    drawn.records.append(
        Record(
            name="sphere",
            frame=frame,
            values={"sphere_radius": size, "spread": spread, "first_minimum": first, "height": level},
        )
    )


def _above_the_line(curve: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return what rises above the straight line, in log intensity, from one minimum to the next, (n, R)."""
    index = torch.arange(curve.shape[1], device=curve.device)
    share = (index - low[:, None]) / (high - low).clamp(min=1)[:, None]
    logarithm = torch.log(curve.clamp(min=1e-30))
    first, last = (logarithm.gather(1, at[:, None]) for at in (low, high))
    line = torch.exp((1.0 - share) * first + share * last)
    inside = (share >= 0.0) & (share <= 1.0)
    return torch.where(inside, (curve - line).clamp(min=0.0), 0.0)
