"""How a frame falls on the pixels of a view, and the bands of its rows that are worked on one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BAND_BYTES = 512 << 10
"""Of a band in single precision. A core's cache (1 to 2 MB) holds it beside its pixels as they came; smaller bands
cost more calls than they save."""

MOST_PRODUCTS = 1 << 18
"""Multiplications of one matrix product. OpenBLAS does no more than these on one thread, and does not wake others."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Neighbouring view pixels along one axis, and the frame's pixels under them."""

    view: slice
    pixels: slice
    lengths: NDArray[np.float32]
    """(view pixels, pixels): the length, in pixels, that each two share."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Rows of the view, and the frame's rows under them."""

    view_rows: slice
    rows: slice
    own: slice
    """Of `rows`, counted from their first, those that the band before does not share."""
    blocks: tuple[Block, ...]
    """Of its rows, the pixels counted from the first of `rows`."""


class Areas:
    """Integrates over the pixels of a view what is constant on each pixel of a frame.

    The lengths that view pixels and pixels share fill a narrow band of a matrix, which is kept and multiplied as
    small dense blocks: half the time of sparse products.

    Parameters
    ----------
    shape
        (rows, columns) of frames.
    scale_y, scale_x
        Pixels per view pixel, along columns and along rows.
    size
        Side of the view, in whose middle the frame lies.
    """

    def __init__(self, shape: tuple[int, int], scale_y: float, scale_x: float, size: int) -> None:
        self.shape, self.size = shape, size
        self.bands = tuple(_bands(_blocks(shape[0], scale_y, size, beside=shape[1]), shape[1]))
        self.most_rows = max(band.rows.stop - band.rows.start for band in self.bands)
        across = _blocks(shape[1], scale_x, size, beside=size)
        # Laid out as they are multiplied: a product with a transposed matrix takes twice the time.
        self._across = tuple(
            (block.pixels, np.ascontiguousarray(block.lengths.T), block.view) for block in across
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        down = (block.lengths for band in self.bands for block in band.blocks)
        return sum(int(lengths.nbytes) for lengths in (*down, *(lengths for _, lengths, _ in self._across)))

    def of(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Integrate (rows, columns) values: (size, size), times the area of a pixel."""
        summed = np.zeros((self.size, self.shape[1]), np.float32)
        for band in self.bands:
            part = values[band.rows].astype(np.float32)
            for block in band.blocks:
                np.matmul(block.lengths, part[block.pixels], out=summed[block.view])
        return self.over_columns(summed)

    def over_columns(self, summed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Integrate along rows what is integrated along columns: (size, columns) to (size, size)."""
        areas = np.zeros((self.size, self.size), np.float32)
        for pixels, lengths, view in self._across:
            np.matmul(summed[:, pixels], lengths, out=areas[:, view])
        return areas


def _blocks(length: int, scale: float, size: int, *, beside: int) -> Iterator[Block]:
    """Yield the blocks of an axis of a frame; `beside` it are so many lines that are multiplied together."""
    starts = (np.arange(size + 1) - size / 2) * scale + length / 2
    first = np.clip(np.floor(starts[:-1]), 0, length).astype(int)
    last = np.clip(np.ceil(starts[1:]), 0, length).astype(int)
    # n view pixels hold n scale + 2 pixels at most.
    n_view = max(1, int(math.sqrt(1 / scale**2 + MOST_PRODUCTS / (beside * scale)) - 1 / scale))
    touched = np.flatnonzero(last > first)
    for start in range(touched[0], touched[-1] + 1, n_view):
        stop = min(start + n_view, touched[-1] + 1)
        pixels = np.arange(first[start], last[stop - 1])
        lengths = np.minimum(pixels + 1, starts[start + 1 : stop + 1, None]) - np.maximum(
            pixels, starts[start:stop, None]
        )
        yield Block(
            slice(int(start), int(stop)),
            slice(int(pixels[0]), int(pixels[-1]) + 1),
            np.clip(lengths, 0, None).astype(np.float32),
        )


def _bands(blocks: Iterator[Block], columns: int) -> Iterator[Band]:
    gathered: list[Block] = []
    end = 0
    for block in blocks:
        if gathered and 4 * columns * (block.pixels.stop - gathered[0].pixels.start) > BAND_BYTES:
            yield _band(gathered, end)
            end = gathered[-1].pixels.stop
            gathered = []
        gathered.append(block)
    yield _band(gathered, end)


def _band(blocks: Sequence[Block], end: int) -> Band:
    """Return a band of blocks; the rows of that before it end there."""
    start, stop = blocks[0].pixels.start, blocks[-1].pixels.stop
    return Band(
        slice(blocks[0].view.start, blocks[-1].view.stop),
        slice(start, stop),
        slice(end - start, stop - start),
        tuple(
            Block(block.view, slice(block.pixels.start - start, block.pixels.stop - start), block.lengths)
            for block in blocks
        ),
    )
