"""What the beamline adds to the scattering of a sample: beam, beamstop, gaps, window, streaks, zingers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.physics import Parameter, like


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


def add_zingers(counts: Tensor, *, count: int, brightness: float, seed: int) -> None:
    """Add cosmic rays to (H, W) counts in place: bright pixels and short tracks, about `brightness` counts each."""
    rng = np.random.default_rng(seed)
    rows, columns = counts.shape
    for _ in range(count):
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        track = 1 if rng.random() < 0.8 else int(rng.integers(2, 9))
        angle = rng.uniform(0.0, math.pi)
        strength = float(round(brightness * rng.lognormal(0.0, 1.0)))
        for step in range(track):
            at = row + round(step * math.sin(angle)), column + round(step * math.cos(angle))
            if 0 <= at[0] < rows and 0 <= at[1] < columns:
                counts[at] += strength
