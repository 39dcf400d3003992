"""Frames of NPY files, read one at a time: a stack may be larger than memory. Pickles are not loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.checks import is_coloured
from dvfb_stream.files.damage import telling_damage
from dvfb_stream.files.file_facts import NO_FACTS
from dvfb_stream.files.references import ANYTHING, Expected

MAGIC = npy.MAGIC_PREFIX

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""By version of the format; the third is for names of fields, which no frames have."""


class NpyFrames:
    """Frames of an NPY file of shape (rows, columns) or (..., rows, columns).

    Not by memory maps: a file that is cut off while it is mapped ends the process.

    Parameters
    ----------
    path
        For messages.
    file
        Open for reading; closed by who opened it.

    Raises
    ------
    NotThereYetError
        When the file is damaged, or not all written.
    FrameError
        When the array is a picture in colours, or a stack of no frames.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self.facts = NO_FACTS
        with telling_damage(path):
            file.seek(0)
            version = npy.read_magic(file)
            if version not in HEADERS:
                raise NotThereYetError(f"{path} cannot be read: it is NPY of the version {version}")
            self._shape, self._is_fortran, self._dtype = HEADERS[version](file)
            self._start = file.tell()
        if is_coloured(self._shape):
            raise FrameError(
                f"{path} is a picture in colours, its shape is {self._shape}; colour images are not frames"
            )
        self.count: int = math.prod(self._shape[:-2])
        if not self.count:
            raise FrameError(f"{path} is empty, its shape is {self._shape}")

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        """See `FrameFile`."""
        where, shape = str(self._path) if self.count == 1 else f"{self._path} frame {index}", self._shape[-2:]
        expected.check_promise(shape, self._dtype, where)
        size = math.prod(shape) * self._dtype.itemsize
        with telling_damage(where):
            missing = self._start + self.count * size - self._file.seek(0, 2)
            if missing > 0:
                raise NotThereYetError(
                    f"{self._path} is not whole: {missing} bytes of its frames are missing"
                )
            if self._is_fortran and self.count > 1:
                # Each frame is spread over the whole file.
                stack = self._read(0, self.count * size).reshape(self._shape, order="F")
                pixels = stack.reshape(-1, *shape)[index]
            else:
                pixels = self._read(index * size, size).reshape(shape, order="F" if self._is_fortran else "C")
        return expected.check(pixels, where)

    def _read(self, offset: int, size: int) -> NDArray[Any]:
        values = np.empty(size // self._dtype.itemsize, self._dtype)
        self._file.seek(self._start + offset)
        self._file.readinto(values.view(np.uint8).data)  # type: ignore[attr-defined]
        return values
