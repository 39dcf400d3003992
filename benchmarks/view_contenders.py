"""Other ways to add up a frame's pixels under the pixels of a view, to be measured beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dvfb_stream import Geometry
from dvfb_stream.view import FULL_SCALE, MAXIMUM, VIEW_SIZE

LEAST_COVERAGE = 0.25
View = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.bool_]]]


def shared_lengths(length: int, scale: float) -> csr_array:
    """Length that each view pixel shares with each of `length` pixels, (VIEW_SIZE, length)."""
    edges = (np.arange(VIEW_SIZE + 1) - VIEW_SIZE / 2) * scale + length / 2
    pixels = np.arange(length)
    shared = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return csr_array(np.clip(shared, 0, None).astype(np.float32))


class WholeFrames:
    """As views were made before: the whole frame is converted, then looked through twice, then added up.

    Of the same definition, and of the same result to rounding.
    """

    def __init__(self, geometry: Geometry) -> None:
        rows, columns = geometry.shape
        scale = max(rows, columns) / VIEW_SIZE
        self.down, self.across = shared_lengths(rows, scale), shared_lengths(columns, scale)
        self.shape = geometry.shape
        self.valid = np.ones(self.shape, dtype=bool) if geometry.mask is None else geometry.mask
        self.masked = np.flatnonzero(~self.valid)
        self.whole = self.sum(np.ones(self.shape, np.float32))
        self.area = self.sum(self.valid.astype(np.float32))
        self.mask = self.covered(self.area)

    def covered(self, area: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which view pixels are valid."""
        return (area > (LEAST_COVERAGE - 1e-5) * self.whole) & (self.whole > 1e-5)

    def sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Integrate over the pixels of the view."""
        return (self.across @ (self.down @ values).T).T

    def __call__(self, pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return image and mask; negative values and the type's greatest are no counts."""
        counts = np.empty(self.shape, np.float32)
        np.copyto(counts, pixels, casting="unsafe")
        counts.reshape(-1)[self.masked] = 0
        area, mask = self.area, self.mask
        greatest = np.inf if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        if not (counts.min() >= 0 and counts.max() < np.float32(greatest)):
            valid = self.valid & (pixels >= 0) & (pixels != greatest)
            area = self.sum(valid.astype(np.float32))
            mask = self.covered(area)
            counts[~valid] = 0
        mean = self.sum(counts)
        np.divide(mean, area, out=mean, where=mask)
        return np.where(mask, np.log1p(mean) * (MAXIMUM / FULL_SCALE), np.float32(0)).astype(np.float32), mask


class Torch(WholeFrames):
    """Rows added up by torch's `embedding_bag`, which has a kernel of its own for each processor, then sparse.

    For frames without other invalid pixels than the mask's.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.rows = torch.from_numpy(self.down.indices.astype(np.int64))
        self.starts = torch.from_numpy(self.down.indptr[:-1].astype(np.int64))
        self.lengths = torch.from_numpy(self.down.data)
        self.masked_places = torch.from_numpy(self.masked)
        self.inverse = torch.from_numpy(np.where(self.mask, 1 / np.maximum(self.area, 1e-9), 0)).float()

    def __call__(self, pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return image and mask."""
        counts = torch.from_numpy(pixels).to(torch.float32)
        counts.view(-1)[self.masked_places] = 0
        least, greatest = torch.aminmax(counts)
        if not 0 <= least.item() <= greatest.item() < np.iinfo(pixels.dtype).max:
            raise ValueError("torch's contender is for frames whose mask names all invalid pixels")
        summed = torch.nn.functional.embedding_bag(
            self.rows, counts, self.starts, mode="sum", per_sample_weights=self.lengths
        )
        mean = torch.from_numpy((self.across @ summed.numpy().T).T) * self.inverse
        return (torch.log1p(mean) * (MAXIMUM / FULL_SCALE)).numpy(), self.mask


class Numba(WholeFrames):
    """One compiled loop over rows and one over columns, by numba.

    Any number of negative pixels is left out on the way; should there be some outside the mask, the area is added up
    in a second pass, as a frame of such pixels needs it.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        import numba

        fast = {"nogil": True, "fastmath": {"reassoc", "contract"}, "error_model": "numpy"}
        self.add_rows = numba.njit(**fast)(_add_rows)
        self.add_columns = numba.njit(**fast)(_add_columns)
        by_row = self.down.tocsc()
        rows, columns = self.shape
        self.first = np.minimum.reduceat(by_row.indices, by_row.indptr[:-1]).astype(np.int64)
        self.weights = np.zeros((2, rows), np.float32)
        for row in range(rows):
            for at in range(by_row.indptr[row], by_row.indptr[row + 1]):
                self.weights[by_row.indices[at] - self.first[row], row] = by_row.data[at]
        self.summed = np.zeros((VIEW_SIZE + 1, columns), np.float32)
        self.total = np.zeros((VIEW_SIZE, VIEW_SIZE), np.float32)
        self.n_valid = int(self.valid.sum())

    def __call__(self, pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return image and mask."""
        greatest = pixels.dtype.type(np.iinfo(pixels.dtype).max - 2)
        area, mask = self.area, self.mask
        places = self.valid.view(np.uint8), self.first, self.weights
        n_valid = self.add_rows(pixels, *places, greatest, self.summed)
        mean = self._over_columns()
        if n_valid < self.n_valid:
            ones = (pixels >= 0).view(np.uint8)
            self.add_rows(ones, *places, np.uint8(1), self.summed)
            area = self._over_columns()
            mask = self.covered(area)
        np.divide(mean, area, out=mean, where=mask)
        return np.where(mask, np.log1p(mean) * (MAXIMUM / FULL_SCALE), np.float32(0)).astype(np.float32), mask

    def _over_columns(self) -> NDArray[np.float32]:
        across = self.across
        self.add_columns(self.summed, across.indptr, across.indices, across.data, self.total)
        return self.total.T.copy()


def _add_rows(pixels: Any, valid: Any, first: Any, weights: Any, greatest: Any, summed: Any) -> int:
    summed[:] = 0
    n_valid = 0
    for row in range(pixels.shape[0]):
        line, inside = pixels[row], valid[row]
        here, there = summed[first[row]], summed[first[row] + 1]
        weight, next_weight = weights[0, row], weights[1, row]
        found = np.int32(0)
        if next_weight == 0:
            for column in range(line.size):
                pixel = line[column]
                ok = np.int32(pixel >= 0) & np.int32(pixel <= greatest) & np.int32(inside[column])
                found += ok
                here[column] += weight * np.float32(pixel * ok)
        else:
            for column in range(line.size):
                pixel = line[column]
                ok = np.int32(pixel >= 0) & np.int32(pixel <= greatest) & np.int32(inside[column])
                found += ok
                value = np.float32(pixel * ok)
                here[column] += weight * value
                there[column] += next_weight * value
        n_valid += found
    return n_valid


def _add_columns(summed: Any, starts: Any, pixels: Any, lengths: Any, total: Any) -> None:
    """Eight rows side by side, so that they fill a register."""
    lines = np.empty((summed.shape[1], 8), np.float32)
    for row in range(0, total.shape[1], 8):
        for column in range(summed.shape[1]):
            for line in range(8):
                lines[column, line] = summed[row + line, column]
        for view in range(total.shape[0]):
            for line in range(8):
                total[view, row + line] = 0
            for at in range(starts[view], starts[view + 1]):
                for line in range(8):
                    total[view, row + line] += lengths[at] * lines[pixels[at], line]
