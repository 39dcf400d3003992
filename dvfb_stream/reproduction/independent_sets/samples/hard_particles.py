"""Particles by BornAgain's form factors, all alike in direction, in Born approximation.

A sample is a function (setup, rng) -> components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.reproduction.independent_sets.bornagain_package import bornagain
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, AZIMUTHS, Component, Table
from dvfb_stream.reproduction.independent_sets.samples.oriented import EVERY, aligned, refined
from dvfb_stream.reproduction.independent_sets.setup import Setup

FIRST_SIDE_MAXIMUM = 4.5
"""q times half the width of a slab; round ones have it farther out, and their labels follow from where it is seen."""

FormFactor = Callable[[float, float], complex]
"""Amplitude at (qx, qy), both across the beam."""


def standing(setup: Setup, rng: Generator) -> list[Component]:
    """Draw prisms and pyramids that stand with their axis in the beam: four-fold, six-fold, or rings of cylinders."""
    half = _half_width(setup, rng)
    height = half * rng.uniform(0.5, 3.0)
    ba = bornagain()
    shape = (
        lambda: ba.Box(2.0 * half, 2.0 * half, height),
        lambda: ba.Prism6(half, height),
        lambda: ba.Pyramid4(2.0 * half, 0.5 * half, math.radians(rng.uniform(55.0, 80.0))),
        lambda: ba.Pyramid6(half, 0.5 * half, math.radians(rng.uniform(55.0, 80.0))),
        lambda: ba.Cylinder(half, height),
        lambda: ba.TruncatedCube(2.0 * half, 0.3 * half),
    )[int(rng.integers(6))]()
    table = intensity(setup, lambda qx, qy: amplitude(shape, qx, qy, 0.0))
    return [aligned("form_factor", table, rng, mosaic=(2.0, 8.0), blur=(2.0, 6.0))]


def lying(setup: Setup, rng: Generator) -> list[Component]:
    """Draw elongated particles with their axis across the beam, aligned: two-fold."""
    half = _half_width(setup, rng)
    length = half * rng.uniform(4.0, 12.0)
    ba = bornagain()
    shape = (
        lambda: ba.Cylinder(half, length),
        lambda: ba.Spheroid(half, 0.5 * length),
        lambda: ba.Box(2.0 * half, 2.0 * half, length),
        lambda: ba.Prism6(half, length),
        lambda: ba.EllipsoidalCylinder(half, 1.3 * half, length),
    )[int(rng.integers(5))]()
    # The particle's own z lies along the detector's rows.
    table = intensity(setup, lambda qx, qy: amplitude(shape, 0.0, qy, qx))
    return [aligned("form_factor", table, rng, mosaic=(3.0, 25.0), blur=(2.0, 6.0))]


def amplitude(shape: Any, qx: float, qy: float, qz: float) -> complex:
    """Return BornAgain's amplitude of a particle; lengths and q in inverse units of each other."""
    return complex(shape.formfactorAtBottom(bornagain().C3(qx, qy, qz)))


def intensity(setup: Setup, form_factor: FormFactor) -> Table:
    """Return |F|² over azimuth and q; centrosymmetric, so every other row of half of it is computed."""
    q = setup.q[::EVERY]
    known: NDArray[np.float64] = np.array(
        [
            [abs(form_factor(k * math.cos(azimuth), k * math.sin(azimuth))) ** 2 for k in q]
            for azimuth in AZIMUTH[: AZIMUTHS // 2 : 2]
        ]
    )
    between = (known + np.roll(known, -1, axis=0)) / 2.0
    return refined(setup, np.stack((known, between), axis=1).reshape(AZIMUTHS // 2, -1))


def _half_width(setup: Setup, rng: Generator) -> float:
    return FIRST_SIDE_MAXIMUM / float(setup.at(rng.uniform(0.2, 0.6)))
