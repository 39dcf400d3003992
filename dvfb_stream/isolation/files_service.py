"""What a reading process does: opens files, and reads frames into memory that another process lends."""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.allowed_roots import AllowedRoots
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.handler_files import HandlerFiles
from dvfb_stream.files.references import from_json
from dvfb_stream.isolation.frame_memory import MappedFrames
from dvfb_stream.isolation.readable_files import ReadOnlyBelow, code_folders


class FilesService:
    """See `dvfb_stream.isolation.Service`. It allocates frames itself: in the place that was lent for each.

    Parameters
    ----------
    memory
        Descriptor of the file of a `FrameMemory`.
    max_open, file_mask
        See `FrameFiles`.
    handlers
        Of a beamline: ``package.module:Class`` by spec.
    allowed_roots
        See `AllowedRoots`; the system sees to it as well, where it can.
    """

    def __init__(
        self,
        memory: int,
        max_open: int,
        handlers: Mapping[str, str],
        *,
        file_mask: bool,
        allowed_roots: Sequence[str] | None,
    ) -> None:
        # Now, while a start is waited for: on a busy machine they take longer than a read may.
        for needed in ("h5py", "hdf5plugin"):
            with suppress(ImportError):
                importlib.import_module(needed)
        self._arrays = MappedFrames(memory, mmap.ACCESS_WRITE)
        is_restricted = allowed_roots is not None
        code = code_folders() if is_restricted else ()
        allowed = AllowedRoots(allowed_roots)
        self._files = FrameFiles(
            max_open=max_open,
            handlers=handlers,
            memory=self,
            file_mask=file_mask,
            allowed=allowed,
            handler_files=HandlerFiles(allowed, code) if is_restricted else None,
        )
        self._readable: ReadOnlyBelow | None = None
        if is_restricted:
            for spec in handlers:  # from wherever they are
                self._load(spec)
            self._readable = ReadOnlyBelow(allowed.roots or (), code)
        self._lent: NDArray[Any] | None = None
        # The frame that was read last, where it needs another place: what was asked for, pixels and remarks.
        self._kept: tuple[Mapping[str, Any], NDArray[Any], list[str]] | None = None

    def describe(self) -> dict[str, Any]:
        """Return nothing: there is nothing to know of it."""
        return {}

    def notify(self, note: Mapping[str, Any]) -> None:
        """Make nothing of it: nobody sends any."""

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Read a frame into its place, or say which place it needs where that is another; or close a run's files."""
        answer: dict[str, Any] = {}
        if request["do"] == "release":
            self._files.release(request["run"])
        elif request["do"] == "load":
            self._load(request["spec"])
        elif self._readable is not None and self._readable.outdated:
            answer = {"is_outdated": True}
        else:
            place = request["place"]
            self._lent = None if place is None else self._arrays.array(place)
            pixels, remarks = self._frame(request["frame"], request["run"])
            answer, lent = {"is_there": True, "remarks": remarks}, self._lent
            if lent is None or (lent.shape, lent.dtype) != (pixels.shape, pixels.dtype):
                self._kept = request["frame"], pixels, remarks
                answer |= {"is_there": False, "shape": pixels.shape, "dtype": pixels.dtype.str}
            elif not np.may_share_memory(lent, pixels):
                np.copyto(lent, pixels)
        return answer | {"open_files": self._files.open_files}

    def _load(self, spec: str) -> None:
        with suppress(FrameError):  # raised again where a frame is read
            self._files.load_handler(spec)

    def _frame(self, frame: Mapping[str, Any], run: str) -> tuple[NDArray[Any], list[str]]:
        """Return the pixels of a frame, and what is to be said of it."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == frame:
            return kept[1], kept[2]
        remarks: list[str] = []
        return self._files.read(from_json(frame), run, remarks.append), remarks

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the place that was lent, if the frame fits there as it is; else an array of this process."""
        lent, kind = self._lent, np.dtype(dtype).newbyteorder("=")
        fits = lent is not None and (lent.shape, lent.dtype) == (shape, kind)
        return lent if lent is not None and fits else np.empty(shape, kind)
