"""One experiment: all that consecutive frames share, with the maps of q and azimuth computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.frames import Geometry
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.settings import BINNINGS, SimulationSettings

Rng = np.random.Generator

ENERGY_KEV = 8.8984
WAVELENGTH = 12.398419843 / ENERGY_KEV
"""Å."""
DISTANCES_MM = (4755.0, 8000.0)
FIELD_OF_VIEW_MM = 1024 * 0.075
"""A detector of 1024 pixels of 75 µm: the paper's pixel, with the field that lets its q0 fall on the image."""
SECTORS = 72
"""Azimuthal bins of the visibility rule, 5° each."""
AZIMUTHS = 576
"""Azimuthal samples of a pattern before it is sampled on the pixels, 0.625° each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experiment:
    """Geometry, obstruction and exposure of one experiment, with the grids on which patterns are made.

    Patterns are made in polar coordinates, on `radii` x `azimuths`, and sampled at the pixels by bilinear
    interpolation; the visibility rule works on polar bins of one pixel by 5°.
    """

    number: int
    geometry: Geometry
    kind: str
    """``structured``, ``diffuse_only`` or ``blank``."""
    distance_mm: float
    pixel_mm: float
    binning: int
    """Detector pixels averaged into a pixel."""
    exposure: float
    """Counts in a pixel of a typical structure."""
    x: Tensor
    """Pixels from the beam to the right, (H, W)."""
    y: Tensor
    """Pixels from the beam down, (H, W)."""
    transmission: Tensor
    """What beamstop and window let through, 0 to 1, (H, W)."""
    radii: Tensor
    """Radii of a pattern's samples, every half pixel, (R,) pixels."""
    q: Tensor
    """q at `radii`, 1/Å; its first value is that of a quarter pixel, so that no law diverges."""
    azimuths: Tensor
    """Azimuths of a pattern's samples, (AZIMUTHS,) radians."""
    grid: Tensor
    """Where the pixels lie in a pattern, (1, H, W, 2), as torch's grid_sample reads it."""
    bins: Tensor
    """Polar bin of each valid pixel, flat index into (SECTORS, radial bins); the last is for invalid ones, (H*W,)."""
    bin_pixels: Tensor
    """Valid pixels in each polar bin, (SECTORS, B)."""
    bin_transmission: Tensor
    """Sum of their transmissions, (SECTORS, B)."""
    coverage: NDArray[np.float64]
    """Share of the circle at each radius that is seen, (B,)."""
    stop_radius: float
    """Pixels around the beam that the beamstop hides; 0 without one."""

    @property
    def scale(self) -> float:
        """Pixels here for each pixel of a 256 x 256 frame: lengths the paper gives in pixels are multiplied by it."""
        return self.geometry.shape[0] / 256.0

    def q_at(self, radius: float) -> float:
        """Return q in 1/Å at `radius` pixels from the beam."""
        return float(_q(torch.tensor(radius), self.pixel_mm, self.distance_mm))

    def radius_at(self, q: float) -> float:
        """Return the radius in pixels where q (1/Å) falls; infinite beyond 2θ = 90°."""
        half = q * WAVELENGTH / (4.0 * math.pi)
        if half >= math.sin(math.pi / 4.0):
            return math.inf
        return self.distance_mm * math.tan(2.0 * math.asin(half)) / self.pixel_mm

    def on_pixels(self, pattern: Tensor) -> Tensor:
        """Sample a pattern (AZIMUTHS, R) at the pixels, (H, W)."""
        closed = torch.cat((pattern, pattern[:1]))  # the circle closes: azimuth 2π is azimuth 0
        sampled = torch.nn.functional.grid_sample(
            closed[None, None], self.grid, mode="bilinear", padding_mode="border", align_corners=True
        )
        return sampled[0, 0]

    def in_bins(self, image: Tensor) -> Tensor:
        """Sum an image (H, W) over the valid pixels of each polar bin, (SECTORS, B)."""
        sums = torch.bincount(self.bins, weights=image.reshape(-1), minlength=self.bin_pixels.numel() + 1)
        return sums[:-1].reshape(self.bin_pixels.shape).float()


def draw_experiment(rng: Rng, number: int, settings: SimulationSettings) -> Experiment:
    """Draw an experiment from `rng`."""
    size = settings.size
    scale = size / 256.0
    mask = _draw_mask(rng, size, settings)
    low, high = (0.3, 0.7) if rng.random() < settings.middle else (-0.05, 1.05)
    center_x, center_y = (float(rng.uniform(low, high)) * size for _ in range(2))
    rows, columns = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    x, y = columns - center_x, rows - center_y
    radius = torch.hypot(x, y)

    transmission = torch.ones(size, size)
    stop_radius = 0.0
    if 0 <= center_x <= size - 1 and 0 <= center_y <= size - 1:
        shadow, stop_radius = _draw_beamstop(rng, x, y, scale)
        transmission = 1.0 - shadow * (1.0 - 10.0 ** rng.uniform(-3.5, -1.3))
        if rng.random() < settings.masked_beamstop:
            mask &= (shadow < 0.05).numpy()
    if rng.random() < settings.window:
        transmission = transmission * _draw_window(rng, x, y, scale)
    dead = rng.random((size, size)) < 10.0 ** rng.uniform(-6.0, -3.5)
    mask &= ~dead
    if not mask.any():  # a tiny frame may be hidden entirely; then its mask is not used
        mask = np.ones((size, size), dtype=np.bool_)

    kind = str(
        rng.choice(
            ("diffuse_only", "blank", "structured"),
            p=(settings.diffuse_only, settings.blank, 1.0 - settings.diffuse_only - settings.blank),
        )
    )
    exposure = math.exp(rng.uniform(math.log(settings.exposure[0]), math.log(settings.exposure[1])))
    binning = int(rng.choice(BINNINGS))
    distance = float(rng.choice(DISTANCES_MM))
    pixel = FIELD_OF_VIEW_MM / size

    count = math.ceil(float(radius.max())) + 2
    radii = torch.arange(2 * count + 1) * 0.5
    azimuth = torch.atan2(y, x)
    turn = torch.remainder(azimuth / (2.0 * math.pi), 1.0)
    grid = torch.stack((radius / (0.5 * radii[-1]) - 1.0, 2.0 * turn - 1.0), dim=-1)[None]
    valid = torch.from_numpy(mask)
    ring = torch.round(radius).long()
    sector = (turn * SECTORS).long().clamp(max=SECTORS - 1)
    bins = torch.where(valid, sector * (count + 1) + ring, SECTORS * (count + 1)).reshape(-1)

    def summed(image: Tensor) -> Tensor:
        sums = torch.bincount(bins, weights=image.reshape(-1), minlength=SECTORS * (count + 1) + 1)
        return sums[:-1].reshape(SECTORS, count + 1).float()

    bin_transmission = summed(transmission)
    circumference = 2.0 * math.pi * torch.arange(count + 1).clamp(min=0.2)
    return Experiment(
        number=number,
        geometry=Geometry(
            shape=(size, size), center_x=center_x, center_y=center_y, mask=None if mask.all() else mask
        ),
        kind=kind,
        distance_mm=distance,
        pixel_mm=pixel,
        binning=binning if settings.binning is None else settings.binning,
        exposure=exposure,
        x=x,
        y=y,
        transmission=transmission,
        radii=radii,
        q=_q(radii.clamp(min=0.25), pixel, distance),
        azimuths=torch.arange(AZIMUTHS) * (2.0 * math.pi / AZIMUTHS),
        grid=grid,
        bins=bins,
        bin_pixels=summed(torch.ones(size, size)),
        bin_transmission=bin_transmission,
        coverage=(bin_transmission.sum(dim=0) / circumference).double().numpy(),
        stop_radius=stop_radius,
    )


def _q(radius: Tensor, pixel_mm: float, distance_mm: float) -> Tensor:
    """Return q = (4π / λ) sin(½ arctan(r / D)) in 1/Å."""
    angle = torch.atan(radius * (pixel_mm / distance_mm))
    return (4.0 * math.pi / WAVELENGTH) * torch.sin(0.5 * angle)


def _draw_mask(rng: Rng, size: int, settings: SimulationSettings) -> NDArray[np.bool_]:
    if rng.random() < settings.gaps:
        modules = beamline.DETECTORS[str(rng.choice(sorted(beamline.DETECTORS)))]
        if rng.random() < 0.2:  # mounted on its side
            modules = beamline.Modules(
                shape=modules.shape[::-1], module=modules.module[::-1], gap=modules.gap[::-1]
            )
        centred = rng.random() < 0.5
        free = [size - round(length * size / max(modules.shape)) for length in modules.shape]
        return beamline.module_mask(
            modules, size=size, offset=(free[0] // 2, free[1] // 2) if centred else (0, 0)
        )
    mask = np.ones((size, size), dtype=np.bool_)
    if rng.random() < 0.15:  # a detector that is not square, without gaps
        padding = round(size * rng.uniform(0.03, 0.35))
        before = padding // 2 if rng.random() < 0.5 else 0
        lines = np.arange(size)
        keep = (lines >= before) & (lines < size - padding + before)
        mask = mask & (keep[:, None] if rng.random() < 0.5 else keep[None, :])
    return mask


def _draw_beamstop(rng: Rng, x: Tensor, y: Tensor, scale: float) -> tuple[Tensor, float]:
    # Holders mostly follow the detector's axes; some come at an angle.
    quarter = 0.5 * math.pi * float(rng.integers(4))
    direction = quarter + float(rng.normal(0.0, 0.05)) if rng.random() < 0.7 else float(rng.uniform(0.0, 6.3))
    shape = int(rng.integers(3))
    if shape == 0:
        reach = scale * float(rng.uniform(2.0, 7.5))
        distance = beamline.bar(x, y, direction=direction, half_width=reach)
    elif shape == 1:
        reach = scale * float(rng.uniform(2.0, 12.5))
        arm = scale * float(rng.uniform(0.5, 2.0))
        distance = beamline.disk_on_arm(x, y, direction=direction, radius=reach, arm=arm)
    else:
        reach = scale * float(rng.uniform(4.0, 12.0))
        half_angle = math.radians(float(rng.uniform(10.0, 20.0)))
        distance = beamline.wedge(x, y, direction=direction, half_angle=half_angle, overlap=reach)
    return torch.sigmoid(-distance / (scale * float(rng.uniform(0.15, 0.5)))), reach


def _draw_window(rng: Rng, x: Tensor, y: Tensor, scale: float) -> Tensor:
    radius = float(rng.uniform(0.3, 0.9)) * float(torch.hypot(x, y).max())
    shift_x, shift_y = (scale * float(shift) for shift in rng.normal(0.0, 8.0, 2))
    leak = 10.0 ** float(rng.uniform(-2.5, -0.5))
    inside = torch.sigmoid((radius - torch.hypot(x - shift_x, y - shift_y)) / (0.7 * scale))
    through: Tensor = inside + leak * (1.0 - inside)
    return through
