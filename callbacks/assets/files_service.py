"""What a reading process does: opens files, and reads frames into memory that another process lends."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np

from dvfb_stream.callbacks.assets.files import FrameFiles
from dvfb_stream.callbacks.assets.references import Expected
from dvfb_stream.worker.frame_memory import MappedFrames


class FilesService:
    """See `dvfb_stream.worker.process.Service`.

    Parameters
    ----------
    memory
        Descriptor of the file of a `FrameMemory`.
    max_open
        See `FrameFiles`.
    """

    def __init__(self, memory: int, max_open: int) -> None:
        self._files = FrameFiles(max_open=max_open)
        self._arrays = MappedFrames(memory, mmap.ACCESS_WRITE)

    def introduction(self) -> dict[str, Any]:
        """Return nothing: there is nothing to know of it."""
        return {}

    def hear(self, note: Mapping[str, Any]) -> None:
        """Make nothing of it: nobody sends any."""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Read a frame into its place, or say which place it needs; or close what is open for a run."""
        answer: dict[str, Any] = {}
        if request["do"] == "release":
            self._files.release(request["run"])
        else:
            read = {"hdf5": self._files.hdf5, "image": self._files.image, "handled": self._files.handled}
            expected, place = _expected(request), request["place"]
            pixels = read[request["do"]](**request["of"], expected=expected, run=request["run"])
            if place is None:
                answer |= {"shape": pixels.shape, "dtype": pixels.dtype.str}
            else:
                np.copyto(self._arrays.array(place), pixels)
        return answer | {"open_files": self._files.open_files}


def _expected(request: Mapping[str, Any]) -> Expected:
    shape, dtype = request["shape"], request["dtype"]
    return Expected(
        shape=None if shape is None else (shape[0], shape[1]),
        dtype=None if dtype is None else np.dtype(dtype),
    )
