"""The one opener of files in the process: HDF5 kept open while it grows, image files read at once."""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.assets.references import KINDS, Expected, NotThereYetError
from dvfb_stream.callbacks.frame_memory import FrameMemory
from dvfb_stream.errors import FrameError, MissingExtraError

HANDLER_GROUPS = ("databroker.handlers",)
"""Entry points by which packages register handlers."""

Handler = Callable[..., Any]


@dataclass(slots=True, eq=False)
class _OpenFile:
    handle: Any
    """h5py.File."""
    identity: tuple[int, int]
    """Device and inode: a file that replaces another under its name has others."""
    plain: dict[str, int | None] = field(default_factory=dict)
    """By dataset: descriptor of the file that its frames lie in as they are, see `_plain_file`; else None."""


class FrameFiles:
    """Reads frames from files; HDF5 files stay open, the least recently read is closed for one more.

    HDF5 is opened for reading while somebody writes (SWMR), and otherwise plainly where the file was not written
    so: never in two ways at once, which HDF5 refuses. Safe to share between threads; one reads at a time.

    Parameters
    ----------
    max_open
        HDF5 files and handlers open at a time.
    handlers
        Classes by spec for old-style resources, besides those that packages register: called with the path and the
        resource's kwargs, and what comes of that with the datum's.
    """

    def __init__(self, *, max_open: int = 32, handlers: Mapping[str, Handler] | None = None) -> None:
        self._max_open = max_open
        self._handlers = dict(handlers or {})
        self._registered: dict[str, Any] | None = None
        self._lock = threading.RLock()
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._handled: OrderedDict[tuple[str, str, str], Any] = OrderedDict()
        self._memory = FrameMemory()
        self._closed = False

    @property
    def open_files(self) -> int:
        """HDF5 files and handlers open now."""
        with self._lock:
            return len(self._open) + len(self._handled)

    def hdf5(self, path: str, dataset: str, number: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return frame `number` of a dataset of shape (rows, columns), (N, rows, columns) or (N, n, rows, columns).

        Raises
        ------
        NotThereYetError
            When the file, the dataset or the frame is not there: it may be being written.
        FrameError
            When it is no such dataset, or damaged.
        """
        with self._lock:
            file = self._file(path)
            try:
                pixels = self._frame(file, path, dataset, number)
                return expected.check(pixels, f"{path}::{dataset}[{number}]")
            except NotThereYetError:
                # A file that was not opened for reading while it grows shows what was there then.
                self._drop(path)
                raise
            except FrameError:
                raise
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                self._drop(path)
                raise NotThereYetError(f"{path}::{dataset}[{number}] cannot be read: {error}") from error

    def _frame(self, file: _OpenFile, path: str, dataset: str, number: int) -> NDArray[Any]:
        import h5py

        found = file.handle.get(dataset)
        if found is None:
            raise NotThereYetError(f"{path} has no dataset {dataset!r}")
        if not isinstance(found, h5py.Dataset) or found.ndim not in (2, 3, 4):
            raise FrameError(f"{path}::{dataset} is no dataset of images; it is {found!r}")
        if found.ndim > 2 and number >= _count(found):
            found.id.refresh()
        if number >= _count(found):
            raise NotThereYetError(f"{path}::{dataset} has {_count(found)} frames, none with number {number}")
        place: tuple[int, ...] = ()
        if found.ndim == 3:
            place = (number,)
        elif found.ndim == 4:
            place = divmod(number, found.shape[1])
        if found.dtype.kind not in KINDS:
            return np.asarray(found[place])
        pixels = self._memory.empty(found.shape[-2:], found.dtype)
        if dataset not in file.plain:
            file.plain[dataset] = _plain_file(found)
        plain = file.plain[dataset]
        if plain is None or not _read_plain(found, plain, place, pixels):
            found.read_direct(pixels, place)
        return pixels

    def _file(self, path: str) -> _OpenFile:
        if self._closed:
            raise FrameError(f"{path} is not read any more: the files are closed")
        try:
            status = os.stat(path)
        except OSError as error:
            self._drop(path)
            raise NotThereYetError(f"{path} is not there: {error.strerror}") from error
        identity = (status.st_dev, status.st_ino)
        known = self._open.get(path)
        if known is not None and known.identity != identity:
            self._drop(path)
            known = None
        if known is None:
            known = _OpenFile(_opened(path), identity)
            self._open[path] = known
            while len(self._open) > self._max_open:
                _close(self._open.popitem(last=False)[1].handle)
        self._open.move_to_end(path)
        return known

    def _drop(self, path: str) -> None:
        known = self._open.pop(path, None)
        if known is not None:
            _close(known.handle)

    def image(self, path: str, page: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return a frame of an image file: NPY, or what fabio reads.

        Raises
        ------
        NotThereYetError
            When it is not there or cannot be read: it may be being written.
        """
        with self._lock:
            if not os.path.exists(path):
                raise NotThereYetError(f"{path} is not there")
            try:
                pixels = _npy(path, page) if path.endswith(".npy") else _image(path, page)
            except (FrameError, OSError, ValueError, EOFError) as error:
                raise NotThereYetError(f"{path} cannot be read: {error}") from error
        return expected.check(pixels, path if page == 0 else f"{path}[{page}]")

    def handled(
        self,
        spec: str,
        path: str,
        resource: Mapping[str, Any],
        datum: Mapping[str, Any],
        position: int,
        expected: Expected,
        run: str,
    ) -> NDArray[Any]:
        """Return what a registered handler makes of a datum.

        Raises
        ------
        NotThereYetError
            When the handler raises: its file may be late.
        FrameError
            When there is no handler for the spec.
        """
        with self._lock:
            key = (spec, path, repr(sorted(resource.items())))
            try:
                if key not in self._handled:
                    self._handled[key] = self._handler(spec)(Path(path), **resource)
                    while len(self._handled) > self._max_open:
                        _close(self._handled.popitem(last=False)[1])
                self._handled.move_to_end(key)
                pixels = np.asarray(self._handled[key](**datum))
                where = f"a datum of {path}"
                if pixels.ndim > 2:
                    pixels = pixels.reshape(-1, *pixels.shape[-2:])
                    if position >= len(pixels):
                        raise FrameError(f"{where} has {len(pixels)} frames, not {position + 1}")
                    pixels = pixels[position]
                return expected.check(pixels, where)
            except FrameError:
                raise
            except Exception as error:
                _close(self._handled.pop(key, None))
                raise NotThereYetError(
                    f"the handler of {spec} for {path} raised {type(error).__name__}: {error}"
                ) from error

    def _handler(self, spec: str) -> Handler:
        if spec in self._handlers:
            return self._handlers[spec]
        if self._registered is None:
            self._registered = {e.name: e for group in HANDLER_GROUPS for e in entry_points(group=group)}
        if spec not in self._registered:
            raise FrameError(
                f"no handler reads resources of the spec {spec!r}; install the package that has it "
                f"(area-detector-handlers has many), or give handlers={{{spec!r}: its class}}"
            )
        try:
            found: Handler = self._registered[spec].load()
        except ImportError as error:
            raise FrameError(f"the handler of {spec!r} cannot be loaded: {error}") from error
        self._handlers[spec] = found
        return found

    def release(self, run: str) -> None:
        """Close what is open for a run."""

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        with self._lock:
            self._closed = True
            for file in self._open.values():
                _close(file.handle)
            for handler in self._handled.values():
                _close(handler)
            self._open.clear()
            self._handled.clear()


def _plain_file(dataset: Any) -> int | None:
    """Return the descriptor of a dataset's file if each frame lies there in one piece, as it does in memory.

    HDF5 reads it too; but it keeps Python's other threads, a RunEngine's among them, waiting while it does: 1.3 ms
    for 4 MB. None: let HDF5 read.
    """
    file = dataset.file
    plain = (
        dataset.ndim > 2
        and dataset.chunks == (*(1,) * (dataset.ndim - 2), *dataset.shape[-2:])
        and dataset.dtype.isnative
        and dataset.dtype.kind != "b"  # an enumeration, whose numbers may be any
        and dataset.id.get_create_plist().get_nfilters() == 0
        and file.driver == "sec2"
        and file.userblock_size == 0
        and hasattr(os, "preadv")
    )
    return int(file.id.get_vfd_handle()) if plain else None


def _read_plain(dataset: Any, file: int, place: tuple[int, ...], pixels: NDArray[Any]) -> bool:
    """Read a frame past HDF5; return whether it was there.

    Raises
    ------
    NotThereYetError
        When the file ends before the frame does, where HDF5 would make up zeros.
    """
    chunk = dataset.id.get_chunk_info_by_coord((*place, 0, 0))
    if chunk.byte_offset is None or chunk.size != pixels.nbytes:
        return False
    if os.preadv(file, [pixels.data], chunk.byte_offset) < pixels.nbytes:
        raise NotThereYetError(
            f"{dataset.file.filename}::{dataset.name}{list(place)} is not whole: the file is cut off"
        )
    return True


def _count(dataset: Any) -> int:
    if dataset.ndim == 2:
        return 1
    return int(np.prod(dataset.shape[:-2]))


def _opened(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise FrameError(str(MissingExtraError(error.name or "h5py", "files"))) from error
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers its filters
    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except (OSError, ValueError, RuntimeError):
        pass
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise NotThereYetError(f"{path} cannot be opened: {error}") from error


def _close(something: Any) -> None:
    close = getattr(something, "close", None)
    if callable(close):
        with suppress(Exception):
            close()


def _npy(path: str, page: int) -> NDArray[Any]:
    pixels = np.load(path, allow_pickle=False)
    return np.asarray(pixels if pixels.ndim == 2 else pixels[page])


def _image(path: str, page: int) -> NDArray[Any]:
    from dvfb_stream.files.image_file import open_image

    with open_image(Path(path)) as file:
        if page >= file.count:
            raise FrameError(f"it has {file.count} frames, none with number {page}")
        return file.read(page)
