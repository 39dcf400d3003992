"""Draws fibres: an equatorial streak, layer lines, and the reflections of how the fibrils are packed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import PolarTable
from dvfb_stream.simulation.components import Diffuse, Drawn, Pattern, Terms, on, oriented, peaks
from dvfb_stream.simulation.draws import Reals
from dvfb_stream.simulation.physics import intensities
from dvfb_stream.simulation.sample.structure_request import StructureRequest, draw_radius, ring_width

MOST_LAYERS = 8
PACKING = np.array([1.0, np.sqrt(3.0), 2.0])
"""Radii of the equatorial reflections of hexagonally packed fibrils over that of the first."""


def fibre(drawn: Drawn, wanted: StructureRequest) -> None:
    """Draw oriented fibres: diffuse scattering with a two-fold symmetry, reflections on the equator of some."""
    draws, experiment, frame, structure, level = wanted
    # Fibres are mounted upright or lying, hardly ever exactly; others lie as they lie.
    mounted = draws.integers(0, 2) * 0.5 * np.pi + draws.normal(0.0, 0.05)
    axis = np.where(draws.happens(0.5), mounted, draws.uniform(0.0, np.pi))
    zoom = experiment.zoom
    thickness, misalignment = (
        draws.log_uniform(1.2, 8.0) * max(min(zoom, 1.0), 0.5),
        np.radians(draws.log_uniform(0.5, 6.0)),
    )
    decay, height = draws.log_uniform(6.0, 50.0) * zoom, level * 10.0 ** draws.uniform(0.0, 1.6)
    spacing = draws.log_uniform(10.0, 60.0) * zoom
    layers = np.where(draws.happens(0.7), draws.integers(1, MOST_LAYERS + 1), 0)
    share, damping = 10.0 ** draws.uniform(-2.0, -0.5), draws.uniform(0.0, 0.6)
    extent, hollow = draws.log_uniform(8.0, 50.0) * zoom, draws.happens(0.5).astype(np.float64)
    # The height is that of the streak just outside the beamstop.
    edge = max(8.0 * min(zoom, 1.0), experiment.stop_radius + 2.0)
    top = height * (1.0 + (edge / decay) ** 2) ** 2

    def streak(table: PolarTable) -> Tensor:
        across, along = _turned(table, axis)
        line = intensities.layer_line(
            across,
            along,
            place=0.0,
            thickness=_each(table, thickness),
            misalignment=_each(table, misalignment),
        )
        return _each(table, top) * intensities.debye_bueche(across, length=1.0 / _each(table, decay)) * line

    def lines(table: PolarTable) -> Tensor:
        def each(values: Reals) -> Tensor:
            return _each(table, values[lined])

        across, along = _turned(table, axis[lined])
        result = torch.zeros_like(across)
        for number in range(1, int(layers.max()) + 1):
            shown = np.flatnonzero(layers >= number)
            rows = torch.from_numpy(np.searchsorted(lined, shown)).to(across.device)
            strength = height * share * np.exp(-damping * (number - 1))
            result[rows] += _each(table, strength[shown]) * intensities.layer_line(
                across[rows],
                along[rows],
                place=_each(table, (number * spacing)[shown]),
                thickness=_each(table, thickness[shown]),
                misalignment=_each(table, misalignment[shown]),
            )
        profile = intensities.ornstein_zernike(across, length=1.0 / each(extent))
        # A molecule without matter on its axis scatters none along the meridian.
        off_axis = across**2 / (across**2 + each(0.5 * extent) ** 2)
        return result * torch.where(each(hollow) > 0.0, profile * off_axis, profile)

    lined = np.flatnonzero(layers)
    for pattern, smooth in (
        (Pattern(frame=frame, full=streak), True),
        (Pattern(frame=frame[lined], full=lines), False),
    ):
        if len(pattern.frame):
            drawn.patterns.append(pattern)
            drawn.diffuse.append(Diffuse(intensity=pattern, rises=False, order=2, smooth=smooth))
    packed, radius = draws.happens(0.5), draw_radius(draws, experiment, reach=0.45)
    width = ring_width(radius, draws.log_uniform(0.02, 0.15))
    sharpness, relative = draws.uniform(0.7, 0.93), draws.uniform(0.1, 0.6, count=len(PACKING))
    place, peak = radius[:, None] * PACKING, level[:, None] * relative
    row, number = np.nonzero(packed[:, None] & (place < len(experiment.bins.coverage)))
    order = np.full(len(row), 2)
    drawn.add_maxima(
        Terms(
            frame=frame[row],
            radial=peaks(place[row, number], width[row], peak[row, number]),
            angular=oriented(order, sharpness[row], (axis + 0.5 * np.pi)[row]),
        ),
        structure=structure[row],
        radius=place[row, number],
        width=width[row],
        order=order,
        textured=True,
    )
    drawn.record(
        "fibre",
        frame,
        order=2,
        axis=axis,
        thickness=thickness,
        misalignment=misalignment,
        decay=decay,
        height=height,
        layers=layers,
        spacing=np.where(layers > 0, spacing, np.nan),
        radius=np.where(packed, radius, np.nan),
        q=np.where(packed, experiment.q_of_radii(radius), np.nan),
        width=np.where(packed, width, np.nan),
    )


def _each(table: PolarTable, values: Reals) -> Tensor:
    """Return parameters for patterns, (n, 1, 1)."""
    return on(table, values)[:, :, None]


def _turned(table: PolarTable, axis: Reals) -> tuple[Tensor, Tensor]:
    """Return how far the table's places lie across and along fibres' axes, view pixels, (n, AZIMUTHS, R)."""
    azimuth = table.azimuths[None, :, None] - _each(table, axis)
    return table.radii * torch.sin(azimuth), table.radii * torch.cos(azimuth)
