"""Grids of pixels: where each lies in scattering angle and azimuth, what reaches it, and how it counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.frames import Geometry
from dvfb_stream.simulation.beamline.blemishes import Blemishes
from dvfb_stream.simulation.beamline.detectors import DetectorModel, covered_lines
from dvfb_stream.simulation.beamline.obstruction import Obstruction
from dvfb_stream.simulation.beamline.outline import Outline
from dvfb_stream.simulation.physics.geometry import DetectorPose, GrazingIncidence

VIEW_PIXELS = 256
"""All lengths are in view pixels: 1/256 of the detector's longer side."""
SECTORS = 72
"""Azimuthal bins of the visibility rule, 5° each."""
AZIMUTHS = 576
"""Azimuthal samples of a pattern before it is sampled on the pixels, 0.625° each."""
FARTHEST = 720
"""View pixels from the beam beyond which nothing is simulated: four times the middle's to the corner."""
LEAST_COVERAGE = 0.25 - 1e-5
"""Share of a view pixel's area that must be valid, as views ask for it (`dvfb_stream.view`)."""
FOOTPRINT = 2.0 * math.sqrt(2.0 * math.log(2.0) / 12.0)
"""Full width at half maximum, in pixels, of the Gaussian that is as wide as a pixel: its variance is 1/12."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """Pixels of a detector or of a view of it; maps are (H, W) float32."""

    geometry: Geometry
    step: float
    """View pixels from one pixel to the next."""
    view_center: tuple[float, float]
    """Direct beam (x, y) in the 256 x 256 view."""
    x: Tensor
    """View pixels from the beam to the right, in the detector's plane."""
    y: Tensor
    """View pixels from the beam down, in the detector's plane."""
    radius: Tensor
    """D tan 2θ in view pixels; `FARTHEST` at most."""
    azimuth: Tensor
    """About the beam, radians."""
    transmission: Tensor
    """What reaches a pixel, 0 to 1: beamstop, window, solid angle, polarisation."""
    from_sample: Tensor | None
    """What of the sample's scattering leaves it, at grazing incidence; None: all."""
    response: Tensor
    """Response of the pixels, about 1: what a flat-field correction leaves."""
    depth: Tensor
    """Detector pixels that a value averages, valid ones."""
    blur: float
    """Standard deviation of the detector's point spread in pixels of the raster; 0 where it does not show."""
    hot: Tensor | None = None
    """Counts that hot pixels add to those that a value averages; None: there are none."""

    @classmethod
    def of(
        cls,
        detector: DetectorModel,
        pose: DetectorPose,
        *,
        shape: tuple[int, int],
        step: float,
        scale: float,
        obstruction: Obstruction,
        grazing: GrazingIncidence | None,
        polarised: float | None,
        gains: NDArray[np.float64],
        dead: float,
        noise: np.random.Generator,
        outline: Outline | None = None,
        misalignment: tuple[float, float] = (0.0, 0.0),
        counts_per_unit: float = 1.0,
        blemishes: Blemishes | None = None,
    ) -> Raster:
        """Return the raster of a detector.

        Parameters
        ----------
        detector, pose
            What is looked at, in its own pixels.
        shape
            Rows and columns of the raster.
        step
            View pixels from one of its pixels to the next.
        scale
            Detector pixels a view pixel of the 256 x 256 view.
        obstruction, grazing
            Beamstop, window and sample surface.
        polarised
            Degree of polarisation of the beam; None: angles are so small that solid angle and polarisation do
            not show.
        gains
            (24,) deviations of modules from the mean response.
        dead
            Share of pixels that are dead.
        noise
            For pixels that differ one by one.
        outline
            What of the detector sees anything; None: all.
        misalignment
            What the geometry states as the beam centre, less where it is, view pixels.
        counts_per_unit
            What the geometry of a view states; that of a detector states nothing.
        blemishes
            Hot pixels and steps between modules; None: neither.
        """
        rows, columns = detector.shape
        ratio = step * scale  # detector pixels a pixel of the raster
        # A view is square, with the detector in its middle.
        top, left = (shape[0] - rows / ratio) / 2, (shape[1] - columns / ratio) / 2
        own_rows = (torch.arange(shape[0], dtype=torch.float64) + 0.5 - top) * ratio - 0.5
        own_columns = (torch.arange(shape[1], dtype=torch.float64) + 0.5 - left) * ratio - 0.5
        at_y, at_x = torch.meshgrid(own_rows, own_columns, indexing="ij")
        two_theta, azimuth = pose.two_theta(at_x, at_y), pose.azimuth(at_x, at_y)
        view_pixel_mm = detector.pixel_mm * scale
        forward = two_theta < 0.49 * math.pi
        radius = torch.where(
            forward,
            torch.tan(two_theta.clamp(max=0.49 * math.pi)) * (pose.distance_mm / view_pixel_mm),
            FARTHEST,
        ).clamp(max=FARTHEST)
        x, y = ((at_x - pose.center_x) / scale).float(), ((at_y - pose.center_y) / scale).float()

        transmission = obstruction.through(x, y)
        if polarised is not None:
            transmission = (
                transmission * pose.solid_angle(at_x, at_y) * pose.polarisation(at_x, at_y, polarised)
            ).float()
        mask, depth = _coverage(detector, shape, ratio, top, left)
        if obstruction.masked:
            mask &= ~obstruction.invalid(x, y).numpy()
        if outline is not None:
            inside = outline.inside(at_x, at_y, detector.shape)
            if outline.declared:
                mask &= inside.numpy()
            else:
                transmission = transmission * inside
        if ratio < 1.5:  # a dead pixel does not make an average of many invalid
            mask &= noise.random(shape) >= dead
        if not mask.any():  # a small detector may be hidden entirely; then its mask is not used
            mask = depth > 0
        module = detector.module or detector.shape
        if blemishes is not None and blemishes.panel_steps and detector.module is None:
            module = (rows // 2, columns // 2)  # the quadrants of a CCD are read apart
        row_gain = gains[(own_rows.numpy().clip(0) // (module[0] + detector.gap[0])).astype(int) % 24]
        column_gain = gains[
            (5 * (own_columns.numpy().clip(0) // (module[1] + detector.gap[1])) + 11).astype(int) % 24
        ]
        steps = 1.0 + 0.7 * (row_gain[:, None] + column_gain[None, :])
        uneven = noise.standard_normal(shape, dtype=np.float32) * (
            detector.uniformity / np.sqrt(np.maximum(depth, 1.0))
        )
        blur = detector.point_spread / ratio
        return cls(
            geometry=Geometry(
                shape=shape,
                center_x=(pose.center_x + 0.5) / ratio + left - 0.5 + misalignment[0] / step,
                center_y=(pose.center_y + 0.5) / ratio + top - 0.5 + misalignment[1] / step,
                mask=None if mask.all() else mask,
                # Means over pixels are no integers, and scatter less than counts do.
                counts_per_unit=None if ratio == 1 else counts_per_unit,
            ),
            step=step,
            view_center=(
                (pose.center_x + 0.5) / scale + (VIEW_PIXELS - columns / scale) / 2 - 0.5,
                (pose.center_y + 0.5) / scale + (VIEW_PIXELS - rows / scale) / 2 - 0.5,
            ),
            x=x,
            y=y,
            radius=radius.float(),
            azimuth=azimuth.float(),
            transmission=transmission,
            from_sample=None if grazing is None else grazing.transmission(two_theta, azimuth).float(),
            response=torch.from_numpy((steps * (1.0 + uneven)).clip(0.2).astype(np.float32)),
            depth=torch.from_numpy(np.maximum(depth, 1.0).astype(np.float32)),
            blur=blur if blur > 0.3 else 0.0,
            hot=None
            if blemishes is None
            else blemishes.hot_counts(detector.shape, shape, ratio=ratio, top=top, left=left),
        )

    @property
    def valid(self) -> Tensor:
        """(H, W) bool."""
        mask = self.geometry.mask
        return (
            torch.ones(self.geometry.shape, dtype=torch.bool)
            if mask is None
            else torch.from_numpy(mask.copy())
        )

    def to(self, device: torch.device) -> Raster:
        """Return the raster with its maps on `device`."""
        maps = ("x", "y", "radius", "azimuth", "transmission", "from_sample", "response", "depth", "hot")
        moved: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name).to(device) for name in maps
        }
        return replace(self, **moved)


def _coverage(
    detector: DetectorModel, shape: tuple[int, int], ratio: float, top: float, left: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which pixels of a raster are valid, and how many valid detector pixels each averages."""
    if shape == detector.shape:
        mask = detector.mask
        return mask, np.ones(shape)
    valid_rows, valid_columns = detector.valid_rows, detector.valid_columns
    rows = covered_lines(len(valid_rows), valid_rows.tobytes(), ratio, top, shape[0])
    columns = covered_lines(len(valid_columns), valid_columns.tobytes(), ratio, left, shape[1])
    all_rows = covered_lines(len(valid_rows), b"\1" * len(valid_rows), ratio, top, shape[0])
    all_columns = covered_lines(len(valid_columns), b"\1" * len(valid_columns), ratio, left, shape[1])
    covered, area = np.outer(rows, columns), np.outer(all_rows, all_columns)
    return (covered > LEAST_COVERAGE * area) & (area > 1e-5), covered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolarTable:
    """Where patterns are evaluated before they are sampled on the pixels of a raster, by bilinear interpolation."""

    step: float
    """View pixels from one pixel of the raster to the next: what it averages over."""
    radii: Tensor
    """(R,) view pixels, every half pixel of the raster; float64."""
    q: Tensor
    """q at `radii`, (R,) 1/Å; its first value is that of a quarter pixel, so that no law diverges; float64."""
    azimuths: Tensor
    """(AZIMUTHS,) radians; float64."""
    grid: Tensor
    """Where the pixels lie in a pattern, (1, H, W, 2) float32, as torch's grid_sample reads it."""

    @classmethod
    def of(cls, raster: Raster, q_at: Callable[[Tensor], Tensor]) -> PolarTable:
        """Return the table of a raster; `q_at` says q in 1/Å at radii in view pixels."""
        spacing = 0.5 * raster.step
        count = math.ceil(float(raster.radius.max()) / spacing) + 8
        count += -count % 16  # rows of whole vectors: no element is computed otherwise than its neighbours
        radii = torch.arange(count, dtype=torch.float64) * spacing
        turn = torch.remainder(raster.azimuth / (2.0 * math.pi), 1.0)
        grid = torch.stack((raster.radius / (0.5 * float(radii[-1])) - 1.0, 2.0 * turn - 1.0), dim=-1)[None]
        azimuths = torch.arange(AZIMUTHS, dtype=torch.float64) * (2.0 * math.pi / AZIMUTHS)
        return cls(step=raster.step, radii=radii, q=q_at(radii.clamp(min=0.25)), azimuths=azimuths, grid=grid)

    def to(self, device: torch.device) -> PolarTable:
        """Return the table on `device`."""
        maps = ("radii", "q", "azimuths", "grid")
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in maps}
        return replace(self, **moved)

    def on_pixels(self, closed: Tensor) -> Tensor:
        """Sample patterns (B, AZIMUTHS + 1, R) at the pixels, (B, H, W); the last azimuth repeats the first."""
        sampled = torch.nn.functional.grid_sample(
            closed[:, None],
            self.grid.expand(len(closed), -1, -1, -1),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return sampled[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bins:
    """Polar bins of a view, one view pixel by 5°, on which the visibility rule works; float64."""

    pixels: Tensor
    """Valid pixels in each bin, (SECTORS, B)."""
    seen: Tensor
    """Sum of what reaches them of the sample's scattering, (SECTORS, B)."""
    seen_beamline: Tensor
    """The same of what does not come from the sample, (SECTORS, B)."""
    depth: float
    """Detector pixels that a pixel averages, typically."""
    coverage: NDArray[np.float64]
    """Share of the circle at each radius that is seen, (B,)."""

    @classmethod
    def of(cls, raster: Raster) -> Bins:
        """Return the bins of a 256 x 256 view."""
        valid = raster.valid
        count = math.ceil(float(raster.radius.max())) + 2
        ring = torch.round(raster.radius).long()
        turn = torch.remainder(raster.azimuth / (2.0 * math.pi), 1.0)
        sector = (turn * SECTORS).long().clamp(max=SECTORS - 1)
        flat = torch.where(valid, sector * count + ring, SECTORS * count).reshape(-1)

        def summed(image: Tensor) -> Tensor:
            sums = torch.bincount(flat, weights=image.reshape(-1).double(), minlength=SECTORS * count + 1)
            return sums[:-1].reshape(SECTORS, count)

        beamline = summed(raster.transmission)
        seen = beamline if raster.from_sample is None else summed(raster.transmission * raster.from_sample)
        circumference = 2.0 * math.pi * torch.arange(count).clamp(min=0.2)
        return cls(
            pixels=summed(torch.ones_like(raster.radius)),
            seen=seen,
            seen_beamline=beamline,
            depth=float(raster.depth[valid].median()),
            coverage=(seen.clamp(max=1e9).sum(dim=0) / circumference).numpy(),
        )

    def to(self, device: torch.device) -> Bins:
        """Return the bins on `device`."""
        return replace(
            self,
            pixels=self.pixels.to(device),
            seen=self.seen.to(device),
            seen_beamline=self.seen_beamline.to(device),
        )
