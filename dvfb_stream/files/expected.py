"""What is promised of a frame before it is read, and the error that says that it may come yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError

KINDS = "buif"
"""NumPy's kinds of numbers: boolean, unsigned, signed, floating."""

WIDEST_ITEM = 8
"""Bytes of the widest type of pixel: extended floats are no detector's, and torch has none."""

LARGEST_FRAME = 1 << 30
"""Bytes: a file of a kilobyte may claim any shape. Sixteen times a detector of 16 megapixels, 4 bytes each."""


class NotThereYetError(FrameError):
    """The frame cannot be read now, but may be later: its file is late, or has not grown as far."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a descriptor promises of each frame of a data key."""

    shape: tuple[int, int] | None
    """(rows, columns); None: not said."""
    dtype: np.dtype[Any] | None
    """None: not said."""

    def check_promise(self, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
        """See to it that pixels of that shape and type, in `where`, are as promised, before they are read.

        Raises
        ------
        FrameError
            When shape or type are others, in whichever byte order, or they are no image.
        """
        if dtype.kind not in KINDS or dtype.itemsize > WIDEST_ITEM:
            raise FrameError(
                f"{where} holds values of the type {dtype.name}; a frame's pixels are integers or real numbers, of "
                f"at most {WIDEST_ITEM} bytes"
            )
        if len(shape) != 2 or 0 in shape:
            raise FrameError(f"{where} has the shape {shape}, which is no image")
        if self.shape is not None and shape != self.shape:
            raise FrameError(
                f"{where} has the shape {shape}, but the descriptor says {self.shape}: it is the file of "
                "another detector, or the detector was set up anew without a new descriptor"
            )
        if shape[0] * shape[1] * dtype.itemsize > LARGEST_FRAME:
            raise FrameError(f"{where} has the shape {shape}, which is more than any detector's")
        if self.dtype is not None and dtype.newbyteorder("=") != self.dtype.newbyteorder("="):
            raise FrameError(f"{where} holds {dtype.name}, but the descriptor says {self.dtype.name}")

    def check(self, pixels: NDArray[Any], where: str) -> NDArray[Any]:
        """Return `pixels`, read from `where`, in the machine's byte order, if they are as promised.

        Raises
        ------
        FrameError
            As `check_promise` does.
        """
        self.check_promise(pixels.shape, pixels.dtype, where)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
