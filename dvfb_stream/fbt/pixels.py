"""Which pixels the estimate sees: block averages of valid pixels, window, disk (8) and mask (12)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dvfb_stream.errors import FrameError, GeometryError


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


class FittedPixels:
    """The working pixels that enter the fit, and their intensities in an image.

    Parameters
    ----------
    grid
        Working pixels and beam centre.
    valid
        (H, W) boolean, True = valid: the mask (12) on the window P of (7), in pixels of the image.
    radius
        a in working pixels: the support of (4).
    downsample
        Side of the blocks that are averaged.
    device
        Where images are averaged.

    Attributes
    ----------
    fitted
        (rows, columns) boolean map of working pixels.

    Raises
    ------
    GeometryError
        When none is fitted.
    """

    def __init__(
        self,
        grid: WorkingGrid,
        valid: NDArray[np.bool_],
        *,
        radius: float,
        downsample: int,
        device: torch.device,
    ) -> None:
        self.grid = grid
        self.shape = (int(valid.shape[0]), int(valid.shape[1]))
        self._radius = radius
        self._downsample = downsample
        self._device = device
        self._valid = torch.from_numpy(valid.copy()).to(device)
        self._counts = block_sum(self._valid.to(torch.float32), downsample)
        r, _ = grid.polar()
        self.fitted: NDArray[np.bool_] = (
            (self._counts.cpu().numpy() > 0)  # mask (12), on the window P of (7)
            & (r < grid.disk_radius())  # P_D of (8)
            & (r < radius)  # support of (4)
        )
        if not self.fitted.any():
            offset = (downsample - 1) / 2
            x, y = (centre * downsample + offset for centre in (grid.center_x, grid.center_y))
            raise GeometryError(
                f"the beam centre x={x:g}, y={y:g} lies so far from the valid pixels of this {self.shape[1]} x "
                f"{self.shape[0]} (width x height) image that none is within the radius {radius * downsample:g} of "
                "the basis; check the centre and the mask"
            )
        self._rows = torch.from_numpy(np.flatnonzero(self.fitted)).to(device)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.nbytes for t in (self._valid, self._counts, self._rows)) + int(self.fitted.nbytes)

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
            radius=self._radius,
            downsample=self._downsample,
            device=self._device,
        )

    def averages(self, images: ArrayLike | Tensor) -> Tensor:
        """Return the intensities that are fitted, (B, n), as `FourierBessel.working_pixels` describes."""
        tensor = _as_floating(images, self._device)
        if tensor.ndim != 3 or tuple(tensor.shape[1:]) != self.shape:
            raise FrameError(
                f"images must have shape (B, {self.shape[0]}, {self.shape[1]}), not {tuple(tensor.shape)}"
            )
        tensor = torch.where(self._valid, tensor, torch.zeros((), dtype=tensor.dtype, device=self._device))
        bad = ~torch.isfinite(tensor)
        if bool(bad.any()):
            image, row, column = (int(i) for i in bad.nonzero()[0])
            raise FrameError(
                f"image {image} has {int(bad[image].sum())} valid pixels that are not finite, the first at "
                f"row {row}, column {column}; mask them"
            )
        sums = block_sum(tensor, self._downsample)
        return (sums / self._counts.clamp_min(1).to(tensor.dtype)).flatten(1)[:, self._rows]


def block_sum(images: Tensor, downsample: int) -> Tensor:
    """Sum (..., H, W) over blocks of `downsample` x `downsample`; a partial block at the edge sums what it has."""
    if downsample == 1:
        return images
    rows, columns = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (0, -columns % downsample, 0, -rows % downsample))
    return padded.unfold(-2, downsample, downsample).unfold(-2, downsample, downsample).sum((-2, -1))


def _as_floating(images: ArrayLike | Tensor, device: torch.device) -> Tensor:
    if isinstance(images, Tensor):
        tensor = images
    else:
        array = np.asarray(images)
        if array.dtype.kind not in "iufb":
            raise FrameError(f"images must be integer or floating, not {array.dtype}")
        double = array.dtype.kind == "f" and array.dtype.itemsize >= 8
        tensor = torch.from_numpy(np.array(array, dtype=np.float64 if double else np.float32, order="C"))
    if tensor.is_complex():
        raise FrameError("images must be real")
    return tensor.to(device=device, dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
