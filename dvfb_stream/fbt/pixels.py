"""Which pixels the estimate sees: block averages of valid pixels, window, disk (8) and mask (12)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """The pixels after averaging over blocks of `downsample` x `downsample`, and the beam centre among them.

    A block at the far edge may be smaller where the shape is no multiple of `downsample`.
    """

    shape: tuple[int, int]
    """(rows, columns) of working pixels."""
    center_x: float
    center_y: float
    """Direct beam in working pixels; pixel centres at integers."""

    @classmethod
    def of(cls, shape: tuple[int, int], center_x: float, center_y: float, downsample: int) -> WorkingGrid:
        """Return the grid of a view of `shape` whose beam centre is given in pixels of the view."""
        rows, columns = (math.ceil(length / downsample) for length in shape)
        # The first block's centre lies (d - 1) / 2 pixels from the first pixel's.
        offset = (downsample - 1) / 2
        return cls((rows, columns), (center_x - offset) / downsample, (center_y - offset) / downsample)

    def polar(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return r and azimuth = atan2(y - center_y, x - center_x) of every working pixel, (rows, columns)."""
        y, x = np.ogrid[: self.shape[0], : self.shape[1]]
        dy, dx = y - self.center_y, x - self.center_x
        return np.hypot(dy, dx), np.arctan2(dy + 0 * dx, dx + 0 * dy)

    def disk_radius(self) -> float:
        """Return the radius of D in (8), max(x, W - x, y, H - y): the distance to the farthest edge."""
        rows, columns = self.shape
        return max(self.center_x, columns - self.center_x, self.center_y, rows - self.center_y)


def block_sum(images: Tensor, downsample: int) -> Tensor:
    """Sum (..., H, W) over blocks of `downsample` x `downsample`; a partial block at the edge sums what it has."""
    if downsample == 1:
        return images
    rows, columns = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (0, -columns % downsample, 0, -rows % downsample))
    return padded.unfold(-2, downsample, downsample).unfold(-2, downsample, downsample).sum((-2, -1))
