"""Frames at grazing incidence by BornAgain: islands, lattices, films and gratings on detectors of pyFAI's.

Scattering is BornAgain's distorted-wave Born approximation, with reflection and refraction at every interface. Only
what the physics says is known of a frame: that it was taken at grazing incidence, and that it does not repeat after a
part of a turn, for there is nothing below the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.reproduction.independent_sets.bornagain_package import bornagain
from dvfb_stream.reproduction.independent_sets.experiments import beamstop
from dvfb_stream.reproduction.independent_sets.films import FILMS, Reach
from dvfb_stream.reproduction.independent_sets.mixture import BRIGHTEST
from dvfb_stream.reproduction.independent_sets.setup import Pose, Setup, binned_shape, build
from dvfb_stream.reproduction.independent_sets.visibility import (
    DIFFUSE_CONTRAST,
    DIFFUSE_DETECTION,
    DIFFUSE_PIXELS,
)

KNOWN = {
    "grazing": True,
    "two_fold": False,
    "four_fold": False,
    "six_fold": False,
    "misaligned": False,
}
"""What is known of every frame."""
DETECTORS = (
    "pilatus1m", "pilatus2m", "pilatus300k", "pilatus900k", "eiger1m", "eiger4m", "eiger500k", "rayonixsx165",
    "mar165", "lambda750k",
)  # fmt: skip
"""pyFAI's names."""
HIGHEST_HORIZON = 0.4
"""Share of what lies above the beam on a detector that the horizon may cut off: nobody moves it out of sight."""
FRAMES_PER_SETUP = 5
GRID = 180
"""Angles along the longer side that BornAgain computes; a beam's divergence leaves nothing finer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrazingFrame:
    """One frame and how it came about."""

    pixels: NDArray[np.int32]
    """(rows, columns) counts; 0 where the mask says invalid."""
    geometry: Geometry
    setup: int
    """Number of the set-up."""
    film: str
    """What lies on the substrate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidence:
    """How a sample stands in the beam of one set-up."""

    angle: float
    """Radians, between beam and surface."""
    quarter_turns: int
    """By which detector and sample are turned about the beam."""


def grazing_frames(seed: int, start: int, stop: int) -> Iterator[GrazingFrame]:
    """Yield frames `start` to `stop` - 1, each a function of the seed and its number.

    What shows no scattered intensity of the sample by the rule for diffuse scattering of docs/labels.md is drawn
    again.

    Raises
    ------
    SettingsError
        When `start` or the seed is negative.
    MissingExtraError
        When BornAgain or pyFAI is not installed.
    """
    if start < 0 or seed < 0:
        raise SettingsError(f"frames and seeds are numbered from 0, there are none of {start} and {seed}")
    current, drawn = -1, None
    for number in range(start, stop):
        wanted = number // FRAMES_PER_SETUP
        if drawn is None or wanted != current:
            current, drawn = wanted, _draw_setup(np.random.default_rng([seed, 2, wanted]))
        yield _frame(*drawn, wanted, np.random.default_rng([seed, 3, number]))


def _draw_setup(rng: Generator) -> tuple[Setup, Incidence]:
    """Draw a detector with its beam low on it, a beamstop and an angle; the sample's surface is up."""
    pose = Pose(
        detector=str(rng.choice(DETECTORS)),
        center=(float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.68, 0.97))),
        distance=float(np.exp(rng.uniform(np.log(1.5), np.log(6.0)))),
        wavelength=float(rng.uniform(0.8, 1.5)),
    )
    shape = binned_shape(pose.detector)
    shaded = beamstop(shape, pose, rng)
    transmission = np.where(shaded, rng.choice([0.0, 1e-3, 1e-2]), 1.0)
    mask = np.ones(shape, dtype=bool) if rng.random() < 0.5 else ~shaded
    turns = int(rng.choice([0, 1, 2, 3], p=[0.76, 0.1, 0.04, 0.1]))
    setup = build(pose, transmission, mask=mask)
    above_beam = float(exit_angles(setup, 0.0)[1].max())
    angle = min(math.radians(rng.uniform(0.12, 0.5)), HIGHEST_HORIZON * above_beam)
    return setup, Incidence(angle=angle, quarter_turns=turns)


def _frame(setup: Setup, incidence: Incidence, number: int, rng: Generator) -> GrazingFrame:
    while True:
        name = str(rng.choice(list(FILMS)))
        signal = scattered(setup, incidence, name, rng)
        exposure = 10 ** rng.uniform(-0.3, 2.5)
        typical = float(np.mean(np.sqrt(signal[signal > 0]))) ** 2
        signal = np.minimum(signal * exposure / typical, BRIGHTEST) * setup.received
        rest = _rest(setup, rng, exposure) * setup.received
        if _shows(signal, rest):
            break
    pixels = rng.poisson(np.minimum(signal + rest, BRIGHTEST)).astype(np.int32)
    pixels = np.where(setup.received > 0, pixels, 0)
    return GrazingFrame(
        pixels=np.ascontiguousarray(np.rot90(pixels, incidence.quarter_turns)),
        geometry=turned_geometry(setup.geometry, incidence.quarter_turns),
        setup=number,
        film=name,
    )


def scattered(setup: Setup, incidence: Incidence, film: str, rng: Generator) -> NDArray[np.float64]:
    """Return what a sample scatters above its horizon, (rows, columns) in arbitrary units, 0 below."""
    ba = bornagain()
    across, up = exit_angles(setup, incidence.angle)
    reach = Reach(
        wavelength=setup.pose.wavelength / 10.0,
        across=float(np.abs(across).max()),
        up=float(up.max()),
        incidence=incidence.angle,
    )
    columns, rows = _grid(np.ptp(across), reach.up)
    detector = ba.SphericalDetector(columns, across.min(), across.max(), rows, 0.0, reach.up)
    simulation = ba.ScatteringSimulation(
        ba.Beam(1.0, reach.wavelength, incidence.angle), FILMS[film](reach, rng), detector
    )
    simulation.options().setNumberOfThreads(1)
    with_specular = rng.random() < 0.5
    field = np.asarray(simulation.simulate().intensities(), dtype=float)
    if not np.isfinite(field).all() or field.max() <= 0:
        raise SettingsError(f"BornAgain gives no intensity for the film {film!r}")
    if with_specular:
        field = field + _specular(field, across, reach, rng)
    # A beam diverges, and no rod is sharper than it.
    field = gaussian_filter(field, rng.uniform(0.4, 0.9))
    at_column = (across - across.min()) / (across.max() - across.min()) * columns - 0.5
    at_row = up / reach.up * rows - 0.5
    spread = map_coordinates(field, [at_row, at_column], order=1, mode="nearest")
    return np.where(up > 0, np.maximum(spread, 0.0), 0.0)


def exit_angles(setup: Setup, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the angles across the plane of incidence and above the surface at each pixel, radians.

    The beam goes on, unscattered, to the geometry's centre, `angle` below the horizon.
    """
    y, x = np.indices(setup.geometry.shape, dtype=float)
    pixel = setup.pixel / setup.pose.distance
    aside, above = (x - setup.geometry.center_x) * pixel, (setup.geometry.center_y - y) * pixel
    return np.arctan(aside), np.arctan(above / np.hypot(1.0, aside)) - angle


def turned_geometry(geometry: Geometry, quarter_turns: int) -> Geometry:
    """Return the geometry of frames that `numpy.rot90` turned."""
    x, y = geometry.center_x, geometry.center_y
    rows, columns = geometry.shape
    for _ in range(quarter_turns % 4):
        x, y, rows, columns = y, columns - 1 - x, columns, rows
    mask = None if geometry.mask is None else np.ascontiguousarray(np.rot90(geometry.mask, quarter_turns))
    return Geometry(shape=(rows, columns), center_x=x, center_y=y, mask=mask)


def _grid(across: float, up: float) -> tuple[int, int]:
    """Return columns and rows of about square steps."""
    longest = max(across, up)
    return max(8, round(GRID * across / longest)), max(8, round(GRID * up / longest))


def _specular(
    field: NDArray[np.float64], across: NDArray[np.float64], reach: Reach, rng: Generator
) -> NDArray[np.float64]:
    """Return the reflected beam, which a stop or attenuator weakens as much as to be of the order of the rest."""
    rows, columns = field.shape
    beam = np.zeros_like(field)
    column = int(np.clip(-across.min() / np.ptp(across) * columns, 0, columns - 1))
    row = int(np.clip(reach.incidence / reach.up * rows, 0, rows - 1))
    beam[row, column] = field.max() * 10 ** rng.uniform(0.0, 2.0)
    return beam


def _rest(setup: Setup, rng: Generator, exposure: float) -> NDArray[np.float64]:
    """Return air and windows around the beam, on both sides of the horizon, and a flat background."""
    y, x = np.indices(setup.geometry.shape, dtype=float)
    r = np.hypot(x - setup.geometry.center_x, y - setup.geometry.center_y)
    size = max(setup.geometry.shape)
    glow = 10 ** rng.uniform(-1.0, 1.0) / (
        1.0 + (r / (rng.uniform(0.02, 0.06) * size)) ** rng.uniform(2.5, 4.0)
    )
    return np.asarray(exposure * (glow + 10 ** rng.uniform(-3.0, -1.0)))


def _shows(signal: NDArray[np.float64], rest: NDArray[np.float64]) -> bool:
    """Return whether the sample's scattering is visible, as docs/labels.md says of what is diffuse."""
    bright = signal > DIFFUSE_CONTRAST * rest
    least = DIFFUSE_PIXELS * (max(signal.shape) / 256.0) ** 2
    detection2 = float((signal[bright] ** 2 / (signal + rest)[bright]).sum())
    return bool(bright.sum() >= least and detection2 >= DIFFUSE_DETECTION**2)
