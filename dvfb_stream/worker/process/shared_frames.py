"""Pixels of one batch in memory that two processes see: written by one, read where they lie by the other."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame, Geometry

_ALIGNMENT = 64
"""Bytes; of a cache line, and of the widest vector instructions."""

_GEOMETRIES_KEPT = 64
"""A geometry takes a millisecond to make and check; a beamline has one or two at a time."""


class FrameWriter:
    """Lays batches of frames into shared memory, each over the one before it.

    Attributes
    ----------
    file
        Descriptor of the memory, for the process that reads.
    """

    def __init__(self) -> None:
        self.file = _anonymous_file()
        self._memory: mmap.mmap | None = None

    def write(self, frames: Sequence[Frame]) -> list[dict[str, Any]]:
        """Copy pixels and masks, and return what `FrameReader.read` needs to know of each frame; JSON-ready.

        The memory grows with the largest batch, and does not shrink.
        """
        places: list[dict[str, Any]] = []
        arrays: list[tuple[int, NDArray[Any]]] = []
        size = 0
        masks: dict[str, int] = {}  # by the geometry's digest

        def place(array: NDArray[Any]) -> int:
            nonlocal size
            offset = size
            arrays.append((offset, array))
            size = -(-(offset + array.nbytes) // _ALIGNMENT) * _ALIGNMENT
            return offset

        for frame in frames:
            geometry = frame.geometry
            if geometry.mask is not None and geometry.digest not in masks:
                masks[geometry.digest] = place(geometry.mask)
            places.append(
                {
                    "offset": place(frame.pixels),
                    "shape": list(frame.pixels.shape),
                    "dtype": frame.pixels.dtype.str,
                    "geometry": {
                        "digest": geometry.digest,
                        "shape": list(geometry.shape),
                        "center_x": geometry.center_x,
                        "center_y": geometry.center_y,
                        "mask": masks.get(geometry.digest),
                    },
                }
            )
        memory = self._of_size(size)
        for offset, array in arrays:
            np.copyto(np.ndarray(array.shape, array.dtype, memory, offset), array)
        return places

    def close(self) -> None:
        """Give the memory back once nothing refers to it."""
        self._memory = None
        os.close(self.file)

    def _of_size(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            size = max(size, mmap.PAGESIZE)
            os.ftruncate(self.file, size)
            self._memory = mmap.mmap(self.file, size)
        return self._memory


class FrameReader:
    """Finds the frames of a batch in shared memory.

    Parameters
    ----------
    file
        Descriptor of the memory, as `FrameWriter` has it.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._memory: mmap.mmap | None = None
        self._geometries: OrderedDict[str, Geometry] = OrderedDict()

    def read(self, places: Sequence[Mapping[str, Any]]) -> list[Frame]:
        """Return the frames that were written, without origin, their pixels where they lie.

        They are what they are until the next batch is written.
        """
        size = os.fstat(self._file).st_size
        if self._memory is None or len(self._memory) < size:
            self._memory = mmap.mmap(self._file, size, access=mmap.ACCESS_READ)
        return [
            Frame(
                np.ndarray(tuple(place["shape"]), np.dtype(place["dtype"]), self._memory, place["offset"]),
                self._geometry(place["geometry"], self._memory),
            )
            for place in places
        ]

    def _geometry(self, told: Mapping[str, Any], memory: mmap.mmap) -> Geometry:
        digest = str(told["digest"])
        known = self._geometries.get(digest)
        if known is None:
            shape = tuple(told["shape"])
            mask = None if told["mask"] is None else np.ndarray(shape, np.bool_, memory, told["mask"])
            known = Geometry(shape=shape, center_x=told["center_x"], center_y=told["center_y"], mask=mask)
            self._geometries[digest] = known
            if len(self._geometries) > _GEOMETRIES_KEPT:
                self._geometries.popitem(last=False)
        self._geometries.move_to_end(digest)
        return known


def _anonymous_file() -> int:
    """Return the descriptor of a file that has no name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dvfb-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
