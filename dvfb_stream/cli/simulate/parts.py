"""The folder beside a dataset in which its parts wait until all are there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dvfb_stream.errors import SettingsError

Span = tuple[int, int]
"""First frame, last frame + 1."""

SEAL_BYTES = hashlib.sha256().digest_size


class PartsFolder:
    """Parts of a dataset, each whole or not there.

    A part ends with the SHA-256 of all before it, its seal: a disk that has changed a single bit is found out, which
    compressed pixels themselves would hide. HDF5 does not mind bytes after its end. Files get their names when they
    are on the disk to their last byte.

    Parameters
    ----------
    dataset
        Path of the dataset; the folder is ``DATASET.parts``.
    """

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self.path = dataset.with_name(dataset.name + ".parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes off it.

        Raises
        ------
        SettingsError
            When another process is at it.
        """
        self.path.mkdir(exist_ok=True)
        path = self.path / "lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who had it may have finished and deleted the folder since we opened the file.
                ours = path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())
            except BlockingIOError:
                ours = False
            if not ours:
                raise SettingsError(
                    f"another process is simulating {self._dataset}; wait for it, or give another name"
                )
            yield

    def spans(self) -> list[Span]:
        """Return which frames are in files here, whole or damaged, in their order."""
        return sorted(
            (int(first), int(stop))
            for first, _, stop in (path.stem.partition("-") for path in self.path.glob("*-*.h5"))
            if first.isdecimal() and stop.isdecimal()
        )

    def content(self, span: Span) -> bytes | None:
        """Return a part without its seal; None when it is not there, or damaged."""
        try:
            sealed = self._part(span).read_bytes()
        except FileNotFoundError:
            return None
        content, seal = sealed[:-SEAL_BYTES], sealed[-SEAL_BYTES:]
        return content if hashlib.sha256(content).digest() == seal else None

    def keep(self, span: Span, content: bytes) -> None:
        """Store a part."""
        with self._unfinished.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            _flush(file)
        self._name(self._part(span))

    @contextmanager
    def joined(self, beginning: bytes, size: int) -> Iterator[Path]:
        """Give a file that begins in some way, has room for `size` bytes, and becomes the dataset at the end.

        HDF5 cannot be trusted with a full disk, it leaves the process with a segmentation fault; hence the room is
        taken before it writes.
        """
        with self._unfinished.open("wb") as file:
            file.write(beginning)
            file.flush()
            try:
                os.posix_fallocate(file.fileno(), 0, max(size, len(beginning)))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                    raise
        yield self._unfinished
        with self._unfinished.open("rb+") as file:
            _flush(file)
        self._name(self._dataset)

    def discard(self) -> None:
        """Delete the parts, and the folder if nothing else is in it."""
        for path in (*(self._part(span) for span in self.spans()), self._unfinished, self.path / "lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files are in it
            self.path.rmdir()

    def make_room(self) -> None:
        """Delete what was being written, where that can be done."""
        with suppress(OSError):
            self._unfinished.unlink()

    def _part(self, span: Span) -> Path:
        first, stop = span
        return self.path / f"{first:012d}-{stop:012d}.h5"

    @property
    def _unfinished(self) -> Path:
        return self.path / "unfinished"

    def _name(self, path: Path) -> None:
        os.replace(self._unfinished, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
