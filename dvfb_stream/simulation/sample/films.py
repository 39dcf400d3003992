"""Draws what a film gives at grazing incidence: a specular rod, rods of its in-plane order, a Yoneda stripe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.components import Drawn, Integers
from dvfb_stream.simulation.draws import Draws, Reals

MOST_RODS = 5
"""At either side of the specular one."""
ROWS = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, math.sqrt(3.0), 2.0, math.sqrt(7.0), 3.0]])
"""Places of rods over that of the first: lamellae that stand upright, and hexagonally packed cylinders."""
ALONE = 0.6
"""Share of films that show no structure but rods."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rods:
    """Rods along the normal of a surface, (n, ...) for n frames; lengths in view pixels.

    The intensity is Σ h exp(-(|x| - p)² / (2 w²)) / (1 + (max(z - z0, 0) / l)²)^(e/2) over rods, x along the surface
    and z along its normal from the direct beam, z0 the horizon; what the surface lets out is not part of it.
    """

    frame: Integers
    """(n,) position in the batch."""
    normal: float
    """Azimuth of the surface's normal, radians."""
    horizon: float
    specular: float
    """z of the specular reflection."""
    yoneda: float
    """z of the Yoneda line."""
    place: Reals
    """(n, 1 + MOST_RODS): p, 0 for the specular rod."""
    width: Reals
    """(n, 1 + MOST_RODS): w."""
    length: Reals
    """(n, 1 + MOST_RODS): l."""
    height: Reals
    """(n, 1 + MOST_RODS): h, counts; 0 where there is no rod."""
    exponent: Reals
    """(n, 1 + MOST_RODS): e."""
    reflection: Reals
    """(n,) height of the specular reflection, counts."""
    stripe: Reals
    """(n, 2): height of the stripe along the Yoneda line, counts, and its half-width along the surface."""

    def at(self, x: Tensor, y: Tensor, row: int, *, step: float) -> Tensor:
        """Return the counts of one frame's rods at points (x, y) view pixels from the beam, averaged over `step`."""
        cosine, sine = math.cos(self.normal), math.sin(self.normal)
        along, across = x * cosine + y * sine, (y * cosine - x * sine).abs()
        above = (along - self.horizon).clamp(min=0.0)
        total = torch.zeros_like(x)
        for rod in np.flatnonzero(self.height[row]):
            width = float(self.width[row, rod])
            seen = math.hypot(width, step / math.sqrt(12.0))
            profile = torch.exp(-0.5 * ((across - float(self.place[row, rod])) / seen) ** 2)
            fall = (1.0 + (above / float(self.length[row, rod])) ** 2) ** (
                -0.5 * float(self.exponent[row, rod])
            )
            total += float(self.height[row, rod]) * width / seen * profile * fall
        spot = ((along - self.specular) ** 2 + across**2) / (2.0 * float(self.width[row, 0]) ** 2)
        total += float(self.reflection[row]) * torch.exp(-spot)
        height, half = (float(value) for value in self.stripe[row])
        if height:
            total += (
                height * torch.exp(-0.5 * ((along - self.yoneda) / 2.0) ** 2) / (1.0 + (across / half) ** 2)
            )
        return total


def film(drawn: Drawn, draws: Draws, experiment: Experiment, frame: Integers, level: Reals) -> None:
    """Draw the rods of films; `experiment` is one at grazing incidence."""
    surface = experiment.grazing
    if surface is None:
        raise ValueError("a film has rods at grazing incidence only")

    def high(angle: float) -> float:
        return math.tan(angle) * experiment.distance_mm / experiment.view_pixel_mm

    count = np.where(draws.happens(0.65), draws.integers(1, MOST_RODS + 1), 0)
    row = ROWS[draws.integers(0, 2)]
    first = draws.log_uniform(5.0, 60.0) * experiment.zoom
    place = np.concatenate([np.zeros((len(frame), 1)), first[:, None] * row], axis=1)
    width = draws.log_uniform(0.6, 2.5, count=1 + MOST_RODS)
    length = draws.log_uniform(8.0, 120.0, count=1 + MOST_RODS)
    height = level[:, None] * 10.0 ** draws.uniform(-0.7, 1.0, count=1 + MOST_RODS)
    # Higher orders are weaker; the specular rod is the brightest of all.
    height *= np.concatenate([np.full((len(frame), 1), 10.0), row**-1.5], axis=1)
    there = np.arange(1 + MOST_RODS) <= count[:, None]
    exponent = draws.uniform(1.5, 4.0, count=1 + MOST_RODS)
    reflection = level * 10.0 ** draws.uniform(0.0, 3.0)
    stripe = np.where(draws.happens(0.6), level * 10.0 ** draws.uniform(-0.7, 0.8), 0.0)
    rods = Rods(
        frame=frame,
        normal=surface.normal,
        horizon=high(surface.incidence),
        specular=high(2.0 * surface.incidence),
        yoneda=high(surface.incidence + surface.critical),
        place=place,
        width=width,
        length=length,
        height=np.where(there, height, 0.0),
        exponent=exponent,
        reflection=reflection,
        stripe=np.stack([stripe, draws.log_uniform(6.0, 80.0)], axis=1),
    )
    drawn.figures.append(rods)
    drawn.record(
        "film",
        frame,
        rods=count,
        first_rod=np.where(count > 0, first, np.nan),
        height=rods.height[:, 0],
        reflection=reflection,
        stripe=stripe,
    )
