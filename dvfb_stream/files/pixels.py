"""The check that every frame from a file passes, whatever the format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError

NUMBER_KINDS = "buif"
"""NumPy's kinds of numbers: boolean, unsigned, signed, floating."""

WIDEST_ITEM = 8
"""Bytes of the widest pixel type: extended floats are no detector's, and torch has none."""


def holds_counts(dtype: np.dtype[Any]) -> bool:
    """Whether pixels of this type can be counts: integers or real numbers of at most 8 bytes."""
    return dtype.kind in "iuf" and dtype.itemsize <= WIDEST_ITEM


def checked_pixels(pixels: Any, source: str) -> NDArray[Any]:
    """Return one frame's pixels as a contiguous (rows, columns) array in the machine's byte order.

    Raises
    ------
    FrameError
        When they are not two-dimensional, empty, or not integer or real numbers; `source` opens the message.
    """
    if pixels is None:
        raise FrameError(f"{source} cannot be decoded; convert it to an uncompressed tif or an HDF5 dataset")
    array = np.asarray(pixels)
    if array.ndim != 2:
        raise FrameError(
            f"{source} has shape {array.shape}, not (rows, columns); colour images are not frames"
        )
    if array.size == 0:
        raise FrameError(f"{source} has no pixels, its shape is {array.shape}")
    if not holds_counts(array.dtype):
        raise FrameError(
            f"{source} holds {array.dtype} values; a frame's pixels are integers or real numbers"
        )
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
