"""The one opener of files in the process: HDF5 kept open while it grows, image files read at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.handlers import Handler, Handlers
from dvfb_stream.files.hdf5_frames import Hdf5Frames
from dvfb_stream.files.npy_files import read_npy
from dvfb_stream.files.references import FrameAllocator, FrameReference, HandledFrame, Hdf5Frame, ImageFrame
from dvfb_stream.files.regular_files import regular_file
from dvfb_stream.isolation.frame_memory import FrameMemory


class FrameFiles:
    """Reads frames from files; those of a run stay open until it is released. See `FrameReader`.

    Safe to share between threads; one reads at a time. While this process has an HDF5 file open here, it can open it
    otherwise only with ``h5py.File(path, locking=False)``, as HDF5 has it; other processes are free.

    Parameters
    ----------
    max_open
        HDF5 files open at a time, and as many handlers; the least recently read is closed for one more.
    handlers
        Classes by spec for old-style resources, besides those that packages register: called with the path and the
        resource's kwargs, and what comes of that with the datum's.
    memory
        Where frames of HDF5 are read to; None: one of its own.
    """

    def __init__(
        self,
        *,
        max_open: int = 32,
        handlers: Mapping[str, Handler] | None = None,
        memory: FrameAllocator | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._hdf5 = Hdf5Frames(max_open, FrameMemory() if memory is None else memory)
        self._handlers = Handlers(max_open, handlers or {})
        self._closed = False

    @property
    def open_files(self) -> int:
        """HDF5 files and handlers open now; never waits for a read."""
        return len(self._hdf5) + len(self._handlers)

    def read(self, reference: FrameReference, run: str) -> NDArray[Any]:
        """Return the pixels of a frame; see `FrameReader`."""
        with self._lock:
            if self._closed:
                raise FrameError(f"{reference.path} is not read any more: the files are closed")
            match reference:
                case Hdf5Frame():
                    return self._hdf5.read(reference, run)
                case ImageFrame():
                    return _read_image(reference)
                case HandledFrame():
                    self._hdf5.drop(reference.path)
                    return self._handlers.read(reference, run)

    def release(self, run: str) -> None:
        """Close what is open for a run and for no other."""
        with self._lock:
            self._hdf5.release(run)
            self._handlers.release(run)

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        with self._lock:
            self._closed = True
            self._hdf5.close()
            self._handlers.close()


def _read_image(frame: ImageFrame) -> NDArray[Any]:
    path, page, expected = frame.path, frame.page, frame.expected
    regular_file(path)
    where = path if page == 0 else f"{path}[{page}]"
    try:
        if path.endswith(".npy"):
            return expected.check(read_npy(path, page, expected, where), where)
        pixels = _image(path, page)
    except (OSError, ValueError, EOFError) as error:
        raise NotThereYetError(f"{path} cannot be read: {error}") from error
    return expected.check(pixels, where)


def _image(path: str, page: int) -> NDArray[Any]:
    from dvfb_stream.files.image_file import open_image

    try:
        with open_image(Path(path)) as file:
            if page >= file.count:
                raise NotThereYetError(f"{path} has {file.count} frames, none with number {page}")
            return file.read(page)
    except NotThereYetError:
        raise
    except FrameError as error:  # a file that is half written looks damaged
        raise NotThereYetError(f"{path} cannot be read: {error}") from error
