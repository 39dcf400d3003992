"""Files that appear whole or not at all: written beside, then renamed, so that a fault leaves what was there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether a name is no regular file's: a pipe's or a device's, ``/dev/stdout`` wherever that goes."""
    return Path(path).absolute().is_relative_to("/dev") or (os.path.exists(path) and not os.path.isfile(path))


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of an empty file beside `path`, which takes its place at the end, unless an exception comes.

    A link is followed. What is no regular file, such as ``/dev/stdout`` or a pipe, is given itself.

    Raises
    ------
    OSError
        When the file cannot be made or renamed.
    """
    target = Path(os.path.realpath(path))
    if is_stream(path):
        yield Path(path)
        return
    descriptor, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:40]}.", suffix=target.suffix
    )
    beside = Path(name)
    try:
        os.fchmod(descriptor, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.close(descriptor)
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
