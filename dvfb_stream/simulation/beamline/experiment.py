"""One experiment: all that consecutive frames share, with the maps of radius and azimuth computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.simulation.beamline.circumstances import Circumstances, draw_circumstances, linear_beamstop
from dvfb_stream.simulation.beamline.detectors import DetectorModel
from dvfb_stream.simulation.beamline.obstruction import Obstruction, draw_obstruction
from dvfb_stream.simulation.beamline.raster import VIEW_PIXELS, Bins, PolarTable, Raster
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.physics.geometry import DetectorPose, GrazingIncidence, q_of, two_theta_of
from dvfb_stream.simulation.settings import DETECTOR, SimulationSettings

ENERGY_KEV = 8.8984
WAVELENGTH = 12.398419843 / ENERGY_KEV
"""Å."""
DISTANCES_MM = (4755.0, 8000.0)
"""The paper's, for the field of view below; larger detectors stand farther away and see the same q."""
FIELD_OF_VIEW_MM = 1024 * 0.075
"""A detector of 1024 pixels of 75 µm: the paper's pixel, with the field that lets its q0 fall on the image."""
COLUMNS = 96
"""Random numbers of an experiment."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experiment:
    """Geometry, obstruction and exposure of one experiment, with the rasters on which frames are made.

    Lengths are in view pixels, 1/256 of the detector's longer side, whatever the raster. The radius of a pixel
    is that of the same scattering angle on an untilted detector, D tan 2θ, so that rings are circles.
    """

    number: int
    kind: str
    """``structured``, ``diffuse_only`` or ``blank``."""
    detector: DetectorModel
    distance_mm: float
    view_pixel_mm: float
    tilt: tuple[float, float]
    """rot1 and rot2, radians."""
    exposure: float
    """Counts in a detector pixel of a typical structure."""
    obstruction: Obstruction
    grazing: GrazingIncidence | None
    circumstances: Circumstances
    film: bool
    """Whether the sample is a film at grazing incidence, with structures aligned to its surface."""
    reference_mm: float
    """Distance at which a view pixel of 0.3 mm would see what the paper's detector saw."""
    raster: Raster
    """What frames are made of."""
    table: PolarTable
    """Where patterns are evaluated for `raster`."""
    view_table: PolarTable
    """The same for a 256 x 256 view; labels are decided there. The same object where the raster is that view."""
    bins: Bins
    """Polar bins of the 256 x 256 view."""

    @property
    def stop_radius(self) -> float:
        """View pixels around the beam that the beamstop hides; 0 without one."""
        return self.obstruction.stop_radius

    @property
    def zoom(self) -> float:
        """How large patterns are on this detector, in units of their usual size."""
        return self.circumstances.zoom

    @property
    def shrinkage(self) -> float:
        """Lengths in Å of the paper's samples are divided by this, so that they show on this detector."""
        return self.q_at(100.0) / float(
            _q(torch.tensor(100.0, dtype=torch.float64), FIELD_OF_VIEW_MM / VIEW_PIXELS, self.reference_mm)
        )

    def q_at(self, radius: float) -> float:
        """Return q in 1/Å at `radius` view pixels from the beam."""
        return float(_q(torch.tensor(radius, dtype=torch.float64), self.view_pixel_mm, self.distance_mm))

    def q_of_radii(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return q in 1/Å at radii in view pixels, any shape."""
        return _q(torch.from_numpy(radius), self.view_pixel_mm, self.distance_mm).numpy()

    def radius_of_paper(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the radius in view pixels at which the paper's detector saw q (1/Å)."""
        angle = two_theta_of(torch.from_numpy(q), WAVELENGTH).numpy()
        radius: NDArray[np.float64] = self.reference_mm * np.tan(angle) * VIEW_PIXELS / FIELD_OF_VIEW_MM
        return radius

    def to(self, device: torch.device) -> Experiment:
        """Return the experiment with its maps on `device`."""
        view_table = self.view_table.to(device)
        return replace(
            self,
            raster=self.raster.to(device),
            view_table=view_table,
            table=view_table if self.table is self.view_table else self.table.to(device),
            bins=self.bins.to(device),
        )

    def described(self) -> dict[str, object]:
        """Return what an experiment is, JSON-ready."""
        return {
            "number": self.number,
            "kind": self.kind,
            "detector": self.detector.name,
            "shape": list(self.detector.shape),
            "pixel_mm": self.detector.pixel_mm,
            "energy_kev": ENERGY_KEV,
            "distance_mm": self.distance_mm,
            "rot1": self.tilt[0],
            "rot2": self.tilt[1],
            "exposure": self.exposure,
            "beamstop": self.obstruction.described,
            "grazing_incidence": None if self.grazing is None else self.grazing.described(),
            **self.circumstances.described(),
        }


def draw_experiment(seed: int, number: int, settings: SimulationSettings) -> Experiment:
    """Draw experiment `number` of a seed."""
    draws = Draws(seed, Stream.EXPERIMENT, [number], COLUMNS)
    circumstances = draw_circumstances(seed, number, settings)
    spread = _spread_evenly(seed, number)
    models = settings.detector_models()
    weights = np.cumsum([weight for _, weight in models])
    detector = models[int(np.searchsorted(weights / weights[-1], spread[0], side="right"))][0]
    if draws.happens(settings.sideways)[0]:
        detector = detector.sideways
    kind = (
        "diffuse_only"
        if spread[1] < settings.diffuse_only
        else "blank"
        if spread[1] < settings.diffuse_only + settings.blank
        else "structured"
    )
    low, high = (math.log(level) for level in settings.exposure)
    exposure = math.exp(low + (high - low) * spread[2])
    rows, columns = detector.shape
    low, high = (0.3, 0.7) if spread[3] < settings.middle else (-0.05, 1.05)
    center_x = (low + (high - low) * spread[4]) * columns - 0.5
    center_y = (low + (high - low) * spread[5]) * rows - 0.5
    if circumstances.beam is not None:
        center_x, center_y = (circumstances.beam[0] * columns - 0.5, circumstances.beam[1] * rows - 0.5)
    windowed = bool(spread[6] < settings.window)
    grazing = bool(spread[7] < settings.grazing)
    wide = bool(draws.happens(settings.wide_angle)[0]) and not grazing

    side_mm = max(detector.shape) * detector.pixel_mm
    reference = DISTANCES_MM[int(draws.integers(0, 2)[0])]
    distance = reference * side_mm / FIELD_OF_VIEW_MM
    near = 0.5 * side_mm / math.tan(math.radians(float(draws.uniform(10.0, 32.0)[0])))
    tilt = draws.normal(0.0, math.radians(5.0), count=2)[0].clip(-0.35, 0.35)
    tilted = bool(draws.happens(settings.tilted)[0]) and not grazing
    if wide:
        distance = near
    rot1, rot2 = (float(tilt[0]), float(tilt[1])) if tilted else (0.0, 0.0)

    scale = max(detector.shape) / VIEW_PIXELS
    incidence = _draw_grazing(draws) if grazing else None
    film = None if incidence is None else circumstances.film
    arm = circumstances.arm
    if film is not None and incidence is not None:
        across, down = film.beam(incidence.normal)
        center_x, center_y = across * columns - 0.5, down * rows - 0.5
        distance *= film.nearer
        arm = linear_beamstop(film.bar, direction=incidence.normal) if film.bar else arm
    pose = DetectorPose(
        center_x=center_x,
        center_y=center_y,
        distance_mm=distance,
        pixel_mm=(detector.pixel_mm, detector.pixel_mm),
        rot1=rot1,
        rot2=rot2,
    )
    on_detector = 0 <= center_x <= columns - 1 and 0 <= center_y <= rows - 1
    obstruction = draw_obstruction(
        draws, settings, stopped=on_detector, windowed=windowed, farthest=1.1 * VIEW_PIXELS
    ).amid(arm, circumstances.shadows)
    gains, steps = draws.normal(0.0, 1.0, count=24)[0], draws.log_uniform(0.001, 0.02)
    gains = gains * (circumstances.blemishes.panel_steps or steps)
    dead = float(draws.log_uniform(1e-6, 10**-3.5)[0])
    polarised = float(draws.uniform(0.9, 0.99)[0])
    flat = wide or tilted

    def raster_of(shape: tuple[int, int], *, step: float) -> Raster:
        return Raster.of(
            detector,
            pose,
            shape=shape,
            step=step,
            scale=scale,
            obstruction=obstruction,
            grazing=incidence,
            polarised=polarised if flat else None,
            gains=gains,
            dead=dead,
            noise=np.random.default_rng((seed, 7, number)),
            outline=circumstances.outline,
            misalignment=circumstances.misalignment,
            counts_per_unit=1.0 / circumstances.readout.found_unit,
            blemishes=circumstances.blemishes,
        )

    view = raster_of((VIEW_PIXELS, VIEW_PIXELS), step=1.0)

    def q_at(radius: Tensor) -> Tensor:
        return _q(radius, detector.pixel_mm * scale, distance)

    view_table = PolarTable.of(view, q_at)
    if settings.raster == DETECTOR:
        raster = raster_of(detector.shape, step=1.0 / scale)
    elif settings.size != VIEW_PIXELS:
        raster = raster_of((settings.size, settings.size), step=VIEW_PIXELS / settings.size)
    else:
        raster = view
    return Experiment(
        number=number,
        kind=kind,
        detector=detector,
        distance_mm=distance,
        view_pixel_mm=detector.pixel_mm * scale,
        tilt=(rot1, rot2),
        exposure=exposure,
        obstruction=obstruction,
        grazing=incidence,
        circumstances=circumstances,
        film=film is not None,
        reference_mm=reference,
        raster=raster,
        table=view_table if raster is view else PolarTable.of(raster, q_at),
        view_table=view_table,
        bins=Bins.of(view),
    )


def _draw_grazing(draws: Draws) -> GrazingIncidence:
    normal = (-0.5 * math.pi, -0.5 * math.pi, -0.5 * math.pi, 0.0, math.pi)[int(draws.integers(0, 5)[0])]
    return GrazingIncidence(
        incidence=math.radians(float(draws.uniform(0.08, 0.35)[0])),
        critical=math.radians(float(draws.uniform(0.1, 0.25)[0])),
        absorption=float(draws.log_uniform(1e-9, 1e-7)[0]),
        normal=normal + float(draws.normal(0.0, 0.02)[0]),
    )


def _spread_evenly(seed: int, number: int) -> NDArray[np.float64]:
    """Return eight numbers from 0 to 1 that cover the cube evenly as `number` runs: shares hold in short sets, too.

    An additive recurrence with powers of the generalised golden ratio (Roberts 2018), begun anywhere by the seed.
    """
    start = Draws(seed, Stream.EXPERIMENT, [2**40], 8).uniform(count=8)[0]
    golden = 1.0
    for _ in range(60):  # the positive root of x^9 = x + 1
        golden = (1.0 + golden) ** (1.0 / 9.0)
    steps = golden ** -np.arange(1.0, 9.0)
    # Numbers up to 2^40 leave 12 binary digits; reduced first, the product keeps all.
    result: NDArray[np.float64] = np.mod(
        start
        + np.mod(number % 2**20 * steps, 1.0)
        + np.mod(number // 2**20 * np.mod(2.0**20 * steps, 1.0), 1.0),
        1.0,
    )
    return result


def _q(radius: Tensor, pixel_mm: float, distance_mm: float) -> Tensor:
    """Return q = (4π / λ) sin(½ arctan(r / D)) in 1/Å."""
    return q_of(torch.atan(radius * (pixel_mm / distance_mm)), WAVELENGTH)
