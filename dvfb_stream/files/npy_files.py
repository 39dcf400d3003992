"""Frames of NPY files: one at a time, for a stack may be larger than memory.

Not by memory maps: a file that is cut off while it is mapped ends the process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dvfb_stream.errors import NotThereYetError
from dvfb_stream.files.references import Expected

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
"""Shape, whether columns come first, type."""

HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], Header]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
"""By version of the format; the third is for names of fields, which no frames have."""


def read_npy(path: str, page: int, expected: Expected, where: str) -> NDArray[Any]:
    """Return frame `page` of an NPY file; pickles are not loaded.

    Raises
    ------
    NotThereYetError
        When the file has no such frame, or ends before it does.
    FrameError
        When it is not as expected.
    """
    with open(path, "rb") as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise NotThereYetError(f"{path} cannot be read: it is NPY of the version {version}")
        shape, is_fortran, dtype = HEADERS[version](file)
        expected.check_promise(shape[-2:], dtype, where)
        count, size = math.prod(shape[:-2]), math.prod(shape[-2:]) * dtype.itemsize
        if page >= count:
            raise NotThereYetError(f"{path} has {count} frames, none with number {page}")
        missing = file.tell() + count * size - os.fstat(file.fileno()).st_size
        if missing > 0:
            raise NotThereYetError(f"{path} is not whole: {missing} bytes of its frames are missing")
        if is_fortran and count > 1:
            # Each frame is spread over the whole file.
            stack = np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F")
            return np.asarray(stack.reshape(-1, *shape[-2:])[page])
        file.seek(page * size, os.SEEK_CUR)
        pixels = np.fromfile(file, dtype, math.prod(shape[-2:]))
        return pixels.reshape(shape[-2:], order="F" if is_fortran else "C")
