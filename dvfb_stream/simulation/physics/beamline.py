"""What the beamline adds to the scattering of a sample: beam, beamstop, gaps, window, streaks, zingers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Parameter, like

Rng = np.random.Generator


def gaussian_beam(radius: Tensor, *, sigma: Parameter, peak: Parameter) -> Tensor:
    """Direct beam, peak · exp(-r² / (2 σ²)); `radius` and `sigma` in pixels."""
    return peak * torch.exp(-0.5 * (radius / sigma) ** 2)


def bar(x: Tensor, y: Tensor, *, direction: Parameter, half_width: Parameter) -> Tensor:
    """Signed distance (pixels, negative inside) to a bar that comes from `direction` and ends past the beam."""
    along, across = _along_and_across(x, y, direction)
    return torch.maximum(across.abs() - half_width, -along - half_width)


def disk_on_arm(x: Tensor, y: Tensor, *, direction: Parameter, radius: Parameter, arm: Parameter) -> Tensor:
    """Signed distance to a disk on the beam, held by an arm of half-width `arm`."""
    return torch.minimum(torch.hypot(x, y) - radius, bar(x, y, direction=direction, half_width=arm))


def wedge(x: Tensor, y: Tensor, *, direction: Parameter, half_angle: Parameter, overlap: Parameter) -> Tensor:
    """Signed distance to a wedge whose tip lies `overlap` pixels past the beam."""
    along, across = _along_and_across(x, y, direction)
    angle = like(half_angle, x)
    return across.abs() * torch.cos(angle) - (along + overlap) * torch.sin(angle)


def slit_streak(x: Tensor, y: Tensor, *, direction: Parameter, width: Parameter, length: Parameter) -> Tensor:
    """Streak of parasitic scattering from a slit blade: Gaussian across, Lorentzian along, 1 at the beam."""
    along, across = _along_and_across(x, y, direction)
    return torch.exp(-0.5 * (across / width) ** 2) / (1.0 + (along / length) ** 2)


def smooth_background(
    x: Tensor, y: Tensor, *, slope: Parameter, direction: Parameter, scale: Parameter
) -> Tensor:
    """Air scattering and fluorescence: flat but for a slow slope, about 1; `scale` in pixels."""
    along, _ = _along_and_across(x, y, direction)
    return torch.exp(slope * torch.tanh(along / scale))


def _along_and_across(x: Tensor, y: Tensor, direction: Parameter) -> tuple[Tensor, Tensor]:
    angle = like(direction, x)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def point_spread(image: Tensor, sigma: Parameter) -> Tensor:
    """Blur images by the Gaussian point spread of a detector.

    A pixel's share in one k pixels away is proportional to exp(-k² / (2 σ²)) along each axis, up to 4 σ; the
    shares add up to 1, so that counts move but none appear. Beyond the border the outermost pixels go on.

    Parameters
    ----------
    image
        (B, H, W).
    sigma
        Pixels, a number or (B,); 0 leaves an image as it is.
    """
    # Below 0.05 the neighbours get nothing (exp(-200)); the bound keeps 0 from dividing.
    width = like(sigma, image).clamp(min=0.05)
    reach = math.ceil(4.0 * float(width.max()))
    steps = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    shares = torch.exp(-0.5 * (steps / width[..., None]) ** 2)
    shares = shares / shares.sum(dim=-1, keepdim=True)
    return _blur_rows(_blur_rows(image, shares).mT, shares).mT


def _blur_rows(image: Tensor, shares: Tensor) -> Tensor:
    """Convolve every row with `shares`, (2 r + 1,) or (B, 2 r + 1); by shifts, which no TF32 kernel rounds."""
    columns, reach = image.shape[-1], shares.shape[-1] // 2
    padded = torch.nn.functional.pad(image, (reach, reach), mode="replicate")
    blurred = torch.zeros_like(image)
    for start, share in enumerate(shares.unbind(dim=-1)):
        blurred += share[..., None, None] * padded[..., start : start + columns]
    return blurred


def add_zingers(rng: Rng, counts: NDArray[np.float32], *, brightness: float) -> None:
    """Add cosmic rays in place: bright single pixels and short tracks, about `brightness` counts each."""
    rows, columns = counts.shape
    for _ in range(int(rng.integers(3, 40))):
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        track = 1 if rng.random() < 0.8 else int(rng.integers(2, 9))
        angle = rng.uniform(0.0, math.pi)
        strength = np.float32(round(brightness * rng.lognormal(0.0, 1.0)))
        for step in range(track):
            at = row + round(step * math.sin(angle)), column + round(step * math.cos(angle))
            if 0 <= at[0] < rows and 0 <= at[1] < columns:
                counts[at] += strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """Arrangement of a detector's modules, in its own pixels."""

    shape: tuple[int, int]
    """Rows and columns of the whole detector."""
    module: tuple[int, int]
    """Rows and columns of a module."""
    gap: tuple[int, int]
    """Rows and columns between modules."""


DETECTORS: dict[str, Modules] = {
    "pilatus_300k": Modules(shape=(619, 487), module=(195, 487), gap=(17, 7)),
    "pilatus_1m": Modules(shape=(1043, 981), module=(195, 487), gap=(17, 7)),
    "pilatus_2m": Modules(shape=(1679, 1475), module=(195, 487), gap=(17, 7)),
    "eiger_1m": Modules(shape=(1065, 1030), module=(514, 1030), gap=(37, 10)),
    "eiger_4m": Modules(shape=(2167, 2070), module=(514, 1030), gap=(37, 10)),
}
"""Dectris user manuals: Pilatus modules 195 x 487 with gaps of 17 and 7, Eiger 514 x 1030 with 37 and 10."""


def module_mask(modules: Modules, *, size: int, offset: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the valid pixels of a `size` x `size` view of a detector, its longer side filling the view.

    A view pixel is valid where at least half of its detector pixels, by rows and by columns, are not in a
    gap; rows and columns beyond the detector are padding. `offset` (rows, columns) moves the detector into
    the padding.
    """
    scale = max(modules.shape) / size
    rows, columns = (
        _valid_lines(modules.shape[axis], modules.module[axis], modules.gap[axis], size, scale, offset[axis])
        for axis in (0, 1)
    )
    return rows[:, None] & columns[None, :]


def _valid_lines(
    length: int, module: int, gap: int, size: int, scale: float, offset: int
) -> NDArray[np.bool_]:
    lines = np.arange(length) % (module + gap) < module
    cumulative = np.concatenate(([0.0], np.cumsum(lines)))
    edges = (np.arange(size + 1) - offset) * scale
    covered = np.interp(edges, np.arange(length + 1), cumulative)
    valid: NDArray[np.bool_] = np.diff(covered) >= 0.5 * scale
    return valid
