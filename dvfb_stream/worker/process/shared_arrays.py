"""Arrays in memory that two processes see: written by one, read where they lie by the other."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Place = Mapping[str, Any]
"""Where an array lies, and what it is; JSON-ready."""

_ALIGNMENT = 64
"""Bytes; of a cache line, and of the widest vector instructions."""

_NUMBERS = "buif"
"""NumPy's kinds that can be shared: boolean, unsigned, signed, floating."""


def shared_memory() -> int:
    """Return the descriptor of a file without a name, in memory where the system has such files; still empty."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dvfb")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def can_be_shared(array: NDArray[Any]) -> bool:
    """Whether an array holds numbers, which mean the same in another process."""
    return array.dtype.kind in _NUMBERS


class ArrayWriter:
    """Lays arrays into shared memory, each time over those before.

    Parameters
    ----------
    file
        Descriptor of the memory. It grows with what is written at a time, and does not shrink.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._memory: mmap.mmap | None = None

    def write(self, arrays: Sequence[NDArray[Any]]) -> list[dict[str, Any]]:
        """Copy arrays of numbers, and return the place of each."""
        places: list[dict[str, Any]] = []
        size = 0
        for array in arrays:
            places.append({"offset": size, "shape": list(array.shape), "dtype": array.dtype.str})
            size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        memory = self._of_size(size)
        for place, array in zip(places, arrays, strict=True):
            np.copyto(np.ndarray(array.shape, array.dtype, memory, place["offset"]), array)
        return places

    def _of_size(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            size = max(size, mmap.PAGESIZE)
            os.ftruncate(self._file, size)
            self._memory = mmap.mmap(self._file, size)
        return self._memory


class ArrayReader:
    """Finds arrays in shared memory.

    Parameters
    ----------
    file
        Descriptor of the memory.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._memory: mmap.mmap | None = None

    def read(self, place: Place) -> NDArray[Any]:
        """Return the array where it lies, read-only; it is what it is until others are written."""
        size = os.fstat(self._file).st_size
        if self._memory is None or len(self._memory) < size:
            self._memory = mmap.mmap(self._file, size, access=mmap.ACCESS_READ)
        return np.ndarray(tuple(place["shape"]), np.dtype(place["dtype"]), self._memory, place["offset"])
