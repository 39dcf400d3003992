"""Files that appear whole or not at all: written beside, then renamed, so that a fault leaves what was there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether a name is no regular file's: a pipe's or a device's, ``/dev/stdout`` wherever that goes."""
    name = Path(path).absolute()
    in_dev = name.is_relative_to("/dev") and not name.is_relative_to("/dev/shm")  # which holds files
    return in_dev or (os.path.exists(path) and not os.path.isfile(path))


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
        _resemble(descriptor, target)
        os.close(descriptor)
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def _resemble(descriptor: int, target: Path) -> None:
    """Give a new file the owner and mode of the one that it will replace, as far as this user may."""
    if not target.exists():
        os.fchmod(descriptor, 0o666 & ~_umask())
        return
    known = target.stat()
    for owner in (known.st_uid, -1):
        with suppress(OSError):
            os.fchown(descriptor, owner, known.st_gid)
            break
    os.fchmod(descriptor, known.st_mode & 0o777)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
