"""HDF5 files open for reading, so that neither their writers nor HDF5 itself are kept from going on."""

from __future__ import annotations

import importlib
import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.regular_files import regular_file
from dvfb_stream.files.virtual import Mapping

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 36
"""Of the superblock, version 3, up to the end of the file as it has it; HDF5 file format, II.A."""
WRITTEN_SWMR = 0x04
"""The superblock's flag of a file that is open for writing while others read."""


@dataclass(slots=True, eq=False)
class OpenHdf5:
    """An HDF5 file open for reading, and what was found out of it that does not change."""

    path: str
    handle: Any
    """h5py.File."""
    identity: tuple[int, int]
    """Device and inode: a file that replaces another under its name has others."""
    size: int
    """Bytes of the file when it was looked at last; HDF5 reads zeros past a file's end."""
    changed: int
    """When it was written last, as far as it was known when it was opened; nanoseconds."""
    runs: set[str]
    """Raw runs that it is open for."""
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By name: path and name of the dataset that it leads to, in this file or, by external links, in another."""
    begun: set[str] = field(default_factory=set)
    """Names of datasets of which a chunk has been written."""
    mappings: dict[str, tuple[Mapping, ...]] = field(default_factory=dict)
    """By name of a virtual dataset."""

    @property
    def is_shared(self) -> bool:
        """Whether this process writes the file, which is then read through the writer's memory."""
        return bool(self.handle.mode != "r")

    @property
    def is_growing(self) -> bool:
        """Whether it is written, by whomever, while it is read."""
        return self.is_shared or bool(self.handle.swmr_mode)

    def is_outdated(self, status: os.stat_result) -> bool:
        """Whether the file, of which the system says that now, shows more or other than the open one."""
        if self.identity != (status.st_dev, status.st_ino) or status.st_size < self.size:
            return True
        return not self.is_growing and (status.st_size, status.st_mtime_ns) != (self.size, self.changed)


class OpenHdf5Files:
    """Keeps HDF5 files open, each for the runs that speak of it; the least recently read is closed for one more.

    Parameters
    ----------
    max_open
        Files open at a time.
    """

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._open: OrderedDict[str, OpenHdf5] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, path: str, run: str) -> OpenHdf5:
        """Return the file, open; another one under its name, or one that was cut off, is opened anew.

        So is one that was written since and not opened for that, and one that a run speaks of for the first time:
        it may have been written anew in place.

        Raises
        ------
        NotThereYetError
            When it is not there, or HDF5 cannot open it: it may be being written.
        FrameError
            When it is no regular file.
        """
        try:
            status = regular_file(path)
        except FrameError:
            self.drop(path)
            raise
        known = self._open.get(path)
        runs = {run} if known is None else known.runs | {run}
        if known is not None and (run not in known.runs or known.is_outdated(status)):
            self.drop(path)
            known = None
        if known is None:
            known = self._open[path] = OpenHdf5(
                path=path,
                handle=_opened(path, status.st_size),
                identity=(status.st_dev, status.st_ino),
                size=status.st_size,
                changed=status.st_mtime_ns,
                runs=runs,
            )
            while len(self._open) > self._max_open:
                _close(self._open.popitem(last=False)[1])
        known.size = status.st_size
        self._open.move_to_end(path)
        return known

    def drop(self, path: str) -> None:
        """Close a file, if it is open."""
        known = self._open.pop(path, None)
        if known is not None:
            _close(known)

    def drop_shared(self) -> None:
        """Close what this process writes too.

        Kept open, it would stay marked as being written after its writer has closed it. Opening it is cheap.
        """
        for path in [path for path, known in self._open.items() if known.is_shared]:
            self.drop(path)

    def release(self, run: str) -> None:
        """Close what is open for that run alone."""
        for known in list(self._open.values()):
            known.runs.discard(run)
            if not known.runs:
                self.drop(known.path)

    def close(self) -> None:
        """Close all."""
        for path in list(self._open):
            self.drop(path)


def _close(file: OpenHdf5) -> None:
    with suppress(Exception):  # whatever state it was in, it is not used any more
        file.handle.close()


def _opened(path: str, size: int) -> Any:
    """Open a file without a lock, which would keep its writer, or the next one, from opening it.

    Plainly wherever HDF5 lets us: opened as being written, a file that was cut off has HDF5 search it for ever.
    """
    try:
        import h5py
    except ImportError as error:
        raise FrameError(str(MissingExtraError(error.name or "h5py", "files"))) from error
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers its filters
    try:
        return h5py.File(path, "r", locking=False)
    except (OSError, ValueError, RuntimeError) as error:
        refused = error
    try:
        if "locking flag" in str(
            refused
        ):  # this process has it open, and locked, so it must be asked for alike
            return h5py.File(path, "r")
        if _is_written(path, size):
            return h5py.File(path, "r", locking=False, swmr=True)
    except (OSError, ValueError, RuntimeError) as error:
        refused = error
    raise NotThereYetError(f"{path} cannot be opened: {refused}") from refused


def _is_written(path: str, size: int) -> bool:
    """Whether somebody writes a file while others read, and it is as long as it was when that began."""
    with open(path, "rb") as file:
        superblock = file.read(SUPERBLOCK_BYTES)
    if len(superblock) < SUPERBLOCK_BYTES or superblock[:9] != SIGNATURE + b"\x03":
        return False
    end = int.from_bytes(superblock[28:36], "little")
    return bool(superblock[11] & WRITTEN_SWMR) and size >= end
