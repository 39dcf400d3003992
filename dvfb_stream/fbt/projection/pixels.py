"""Which pixels the estimate sees: block averages of valid pixels, window, disk (8) and mask (12)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.errors import FrameError, GeometryError

CPU_BYTES = 4 << 20
"""Bytes of float32 images that are averaged and folded at a time on a processor, whose caches they fit."""

GPU_BYTES = 512 << 20
"""The same on a GPU, which wants many and has no such caches."""


SQUARES_VANISH = 1e-15
"""Norm below which squares begin to drop out of float32, far below any intensity; summing in float64 at once would
cost every image four times as much."""


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


@dataclass(frozen=True, slots=True)
class WorkingImages:
    """Images as the fit sees them."""

    averages: Tensor
    """(B, rows, columns) block averages over valid pixels; zero where a working pixel is not fitted."""
    energies: Tensor
    """(B,) ‖y‖², the sum of their squares; float64."""


class FittedPixels:
    """The working pixels that enter the fit, and their intensities in an image.

    Parameters
    ----------
    grid
        Working pixels and beam centre.
    valid
        (H, W) boolean, True = valid: the mask (12) on the window P of (7), in pixels of the image.
    disk
        (rows, columns) boolean: the working pixels inside the disk (8) and the support of (4).
    downsample
        Side of the blocks that are averaged.
    device
        Where images are averaged.

    Attributes
    ----------
    fitted
        (rows, columns) boolean map of working pixels.
    count
        n, how many these are.

    Raises
    ------
    GeometryError
        When none is fitted.
    """

    def __init__(
        self,
        grid: WorkingGrid,
        valid: NDArray[np.bool_],
        disk: NDArray[np.bool_],
        *,
        downsample: int,
        device: torch.device,
    ) -> None:
        self.grid = grid
        self.shape = (int(valid.shape[0]), int(valid.shape[1]))
        self._downsample = downsample
        self.device = device
        self._valid = torch.from_numpy(valid.copy()).to(device)
        self._counts = block_sum(self._valid.to(torch.float32), downsample)
        self.fitted: NDArray[np.bool_] = disk & (self._counts.cpu().numpy() > 0)
        if not self.fitted.any():
            offset = (downsample - 1) / 2
            x, y = (centre * downsample + offset for centre in (grid.center_x, grid.center_y))
            raise GeometryError(
                f"the beam centre x={x:g}, y={y:g} lies so far from the valid pixels of this {self.shape[1]} x "
                f"{self.shape[0]} (width x height) image that none is within the radius of the basis; check the "
                "centre and the mask"
            )
        self.count = int(np.count_nonzero(self.fitted))
        self._rows = torch.from_numpy(np.flatnonzero(self.fitted)).to(device)
        self._scratch = threading.local()
        # Mask, disk and the number of valid pixels of each block in one factor a pixel.
        per_block = torch.from_numpy(self.fitted).to(device) / self._counts.clamp_min(1).double()
        weights = _enlarged(per_block, downsample, self.shape) * self._valid
        self._weights = {torch.float64: weights, torch.float32: weights.float()}

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = (self._valid, self._counts, self._rows, *self._weights.values())
        return sum(tensor.nbytes for tensor in tensors) + self.fitted.nbytes

    def without(self, lost: NDArray[np.bool_]) -> FittedPixels:
        """Return what is left when further pixels of the image, (H, W), are invalid.

        Raises
        ------
        GeometryError
            When the shape is wrong or nothing is left.
        """
        if lost.shape != self.shape or lost.dtype != np.bool_:
            raise GeometryError(
                f"lost pixels must be boolean of shape {self.shape}, not {lost.dtype} {lost.shape}"
            )
        return FittedPixels(
            self.grid,
            self._valid.cpu().numpy() & ~lost,
            self.fitted,
            downsample=self._downsample,
            device=self.device,
        )

    def averages(self, images: ArrayLike | Tensor) -> Iterator[WorkingImages]:
        """Yield what is fitted of each image, a few images at a time: block averages, zero where none is fitted.

        What is computed from few stays in the processor's caches; new memory for many would cost more than the sums.
        Of no images there is one empty part.

        Parameters
        ----------
        images
            (B, H, W), NumPy or torch, integer or floating. float64 stays float64, all else becomes float32.

        Raises
        ------
        FrameError
            When the shape or type is wrong, a valid pixel is not finite, or squares overflow. Pixels that are
            not valid may hold anything.
        """
        images = self._checked(images)
        at_once = CPU_BYTES if self.device.type == "cpu" else GPU_BYTES
        step = max(1, at_once // (4 * self.shape[0] * self.shape[1]))
        for first in range(0, max(1, len(images)), step):
            yield self._averages(_as_floating(images[first : first + step], self.device), first)

    def _averages(self, images: Tensor, first: int) -> WorkingImages:
        averages = self._weighted_sums(images)
        energies = energies_of(averages)
        # What is not finite, masked or not, shows in the sum of squares: nobody pays for looking at pixels twice
        # but those who have such pixels.
        if not bool(torch.isfinite(energies).all()):
            averages = self._weighted_sums(self._finite(images, first))
            energies = energies_of(averages)
            overflown = ~torch.isfinite(energies)
            if bool(overflown.any()):
                raise FrameError(
                    f"image {first + int(overflown.nonzero()[0])} holds values too large to be squared and summed in "
                    f"{averages.dtype}; scale the images"
                )
        return WorkingImages(averages, energies)

    def values(self, averages: Tensor) -> Tensor:
        """Return the fitted pixels alone, (B, n), row-major, of (B, rows, columns)."""
        return averages.flatten(1)[:, self._rows]

    def _checked(self, images: ArrayLike | Tensor) -> Tensor | NDArray[Any]:
        """Return the images as they are, in an array that can be cut into parts, or raise FrameError."""
        if not isinstance(images, Tensor):
            if isinstance(images, np.ma.MaskedArray):
                raise FrameError(
                    "images are masked arrays; hand over their data, and the mask to the estimator"
                )
            try:
                images = np.asarray(images)
            except ValueError as error:  # images of different shapes in one list
                raise FrameError(f"images must be one array of shape (B, H, W): {error}") from error
            if images.dtype.kind not in "iufb":
                raise FrameError(f"images must be integer or floating, not {images.dtype}")
        elif images.is_complex():
            raise FrameError("images must be real")
        if images.ndim != 3 or tuple(images.shape[1:]) != self.shape:
            raise FrameError(
                f"images must have shape (B, {self.shape[0]}, {self.shape[1]}), not {tuple(images.shape)}"
            )
        return images

    def _weighted_sums(self, images: Tensor) -> Tensor:
        """Sum each block, pixel by pixel weighted: one pass over the images in memory, the others over caches."""
        weights, d = self._weights[images.dtype], self._downsample
        rows, columns = self.shape
        if rows % d or columns % d:
            padding = (0, -columns % d, 0, -rows % d)
            images, weights = (torch.nn.functional.pad(t, padding) for t in (images, weights))
        if d == 1:
            return images * weights
        return block_sum(torch.mul(images, weights, out=self._scratch_for(images)), d)

    def _scratch_for(self, images: Tensor) -> Tensor:
        """Return a tensor like `images`, this thread's own: new memory would cost more than the sums put into it."""
        scratch: Tensor | None = getattr(self._scratch, "tensor", None)
        if scratch is None or scratch.shape != images.shape or scratch.dtype != images.dtype:
            scratch = torch.empty(images.shape, dtype=images.dtype, device=images.device)
            if scratch.nbytes <= CPU_BYTES:
                self._scratch.tensor = scratch
        return scratch

    def _finite(self, images: Tensor, first: int) -> Tensor:
        """Return `images` with zeros under the mask.

        Raises
        ------
        FrameError
            When a valid pixel is not finite.
        """
        images = torch.where(self._valid, images, torch.zeros((), dtype=images.dtype, device=self.device))
        bad = ~torch.isfinite(images)
        if bool(bad.any()):
            image, row, column = (int(i) for i in bad.nonzero()[0])
            raise FrameError(
                f"image {first + image} has {int(bad[image].sum())} valid pixels that are not finite, the first at "
                f"row {row}, column {column}; mask them"
            )
        return images


def block_sum(images: Tensor, downsample: int) -> Tensor:
    """Sum (..., H, W) over blocks of `downsample` x `downsample`; a partial block at the edge sums what it has."""
    if downsample == 1:
        return images
    rows, columns = images.shape[-2:]
    if rows % downsample or columns % downsample:
        images = torch.nn.functional.pad(images, (0, -columns % downsample, 0, -rows % downsample))
    # Slice by slice: torch's own sum over the two small axes of a block takes fourteen times as long.
    sums = images[..., ::downsample, :] + images[..., 1::downsample, :]
    for row in range(2, downsample):
        sums += images[..., row::downsample, :]
    totals = sums[..., ::downsample] + sums[..., 1::downsample]
    for column in range(2, downsample):
        totals += sums[..., column::downsample]
    return totals


def _enlarged(blocks: Tensor, downsample: int, shape: tuple[int, int]) -> Tensor:
    """Repeat each block's value on its pixels, (H, W)."""
    pixels = blocks.repeat_interleave(downsample, 0).repeat_interleave(downsample, 1)
    return pixels[: shape[0], : shape[1]].contiguous()


def energies_of(averages: Tensor) -> Tensor:
    """Return ‖y‖² of (B, rows, columns), (B,), float64; inf where squares overflow in the type of the averages."""
    norms: Tensor = torch.linalg.vector_norm(averages, dim=(1, 2))
    if averages.dtype == torch.float32 and bool((norms < SQUARES_VANISH).any()):
        exact = torch.linalg.vector_norm(averages, dim=(1, 2), dtype=torch.float64)
        norms = torch.where(norms < SQUARES_VANISH, exact, norms.double())
    return norms.double().square()


def _as_floating(images: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Return images in the type in which they are worked on: float64 for that and longer ones, float32 for others."""
    if isinstance(images, Tensor):
        return images.to(device, torch.float64 if images.dtype == torch.float64 else torch.float32)
    kind = np.float64 if images.dtype.kind == "f" and images.dtype.itemsize >= 8 else np.float32
    # A copy unless it is one that torch takes: writable, contiguous, in the machine's byte order.
    fits = (
        images.dtype == kind
        and images.dtype.isnative
        and images.flags.c_contiguous
        and images.flags.writeable
    )
    return torch.from_numpy(images if fits else np.array(images, dtype=kind, order="C")).to(device)
