"""The one opener of files in the process: HDF5 kept open while it grows, image files read at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.handler_classes import Handler
from dvfb_stream.files.handler_files import HandlerFiles
from dvfb_stream.files.handlers import Handlers
from dvfb_stream.files.hdf5 import Hdf5Frames
from dvfb_stream.files.images import read_image
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.references import (
    FrameAllocator,
    FrameReference,
    HandledFrame,
    Hdf5Frame,
    ImageFrame,
    Remark,
    unheard,
)


class FrameFiles:
    """Reads frames from files; those of a run stay open until it is released. See `FrameReader`.

    Safe to share between threads; one reads at a time. While this process has an HDF5 file open here, it can open it
    otherwise only with ``h5py.File(path, locking=False)``, as HDF5 has it; other processes are free.

    Parameters
    ----------
    max_open
        HDF5 files and handlers open at a time; the least recently read is closed for one more.
    handlers
        Classes by spec for old-style resources, before those that packages register, themselves or as
        ``package.module:Class``: called with the path and the resource's kwargs, and what comes of that with the
        datum's.
    memory
        Where frames of HDF5 are read to; None: NumPy's own.
    file_mask
        Whether what a file itself says of invalid pixels is used; see `open_frames`.
    allowed
        Which files may be opened.
    handler_files
        What looks at files that handlers open; None: nothing does.
    """

    def __init__(
        self,
        *,
        max_open: int = 32,
        handlers: Mapping[str, Handler | str] | None = None,
        memory: FrameAllocator | None = None,
        file_mask: bool = True,
        allowed: AllowedRoots = EVERYWHERE,
        handler_files: HandlerFiles | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._kept = KeptOpen(max_open)
        self._hdf5 = Hdf5Frames(self._kept, np if memory is None else memory, allowed)
        self._handlers = Handlers(self._kept, handlers or {}, allowed, handler_files)
        self._allowed = allowed
        self._file_mask = file_mask
        self._closed = False

    @property
    def open_files(self) -> int:
        """HDF5 files and handlers open now; never waits for a read."""
        return len(self._kept)

    def read(self, reference: FrameReference, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """Return the pixels of a frame; see `FrameReader`. One kind of reference is one line here."""
        with self._lock:
            if self._closed:
                raise FrameError(f"{reference.path} is not read any more: the files are closed")
            try:
                match reference:
                    case Hdf5Frame():
                        return self._hdf5.read(reference, run, remark, file_mask=self._file_mask)
                    case ImageFrame():
                        return read_image(reference, file_mask=self._file_mask, allowed=self._allowed)
                    case HandledFrame():
                        self._kept.drop(reference.path)  # the handler may open it in another way
                        return self._handlers.read(reference, run, remark)
            except MissingExtraError as error:
                raise FrameError(str(error)) from error

    def load_handler(self, spec: str) -> None:
        """Import what reads resources of a spec that is not read here; FrameError where there is nothing."""
        with self._lock:
            self._handlers.load(spec)

    def release(self, run: str) -> None:
        """Close what is open for a run and for no other."""
        with self._lock:
            self._kept.release(run)

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        with self._lock:
            self._closed = True
            self._kept.close()
