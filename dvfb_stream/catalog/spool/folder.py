"""Where spools lie, and whose file is whose: one process writes to a file, and who finds it left takes it over."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from dvfb_stream.catalog.cache_folder import folder_name
from dvfb_stream.catalog.spool.spool_file import RESERVE_SUFFIX, SUFFIX, SpoolFile, SpoolFileError
from dvfb_stream.errors import SettingsError

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "DVFB_SPOOL"
"""Environment variable with the folder below which spools lie; a local disk where the home folder is none."""


def spools_folder() -> Path:
    """Return the folder below which each catalog has the folder of its spool."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else user_state_path("dvfb_stream") / "spool"


def folder_for(address: str) -> Path:
    """Return the folder of the spool for the catalog at `address`, whatever key stands behind its question mark."""
    return spools_folder() / folder_name(address)


@dataclass(slots=True, eq=False)
class OwnedFile:
    """A file that no other process writes to, until it is closed."""

    file: SpoolFile
    lock: FileLock

    def close(self, *, remove: bool) -> None:
        """Let go of the file; with `remove`, nothing of it stays."""
        path = self.file.path
        with contextlib.suppress(Exception):
            self.file.close()
        if remove:
            # The lock last: whoever gets hold of it sees that there is nothing to take over.
            _remove(path)
        self.lock.release()


def new_file(folder: Path, *, max_bytes: int, address: str) -> OwnedFile:
    """Make a file of one's own.

    Parameters
    ----------
    folder
        Made where there is none, for this user alone.
    max_bytes
        Of all files in the folder together; this one gets what the others leave, a 16th at least.
    address
        Of the catalog.

    On a full disk it takes the room that files keep whose processes have ended: or what they hold would never be
    delivered.

    Raises
    ------
    SettingsError
        When nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _made(folder, max_bytes, address)
        except (OSError, SpoolFileError):
            if not _give_up_reserves(folder):
                raise
            return _made(folder, max_bytes, address)
    except (OSError, SpoolFileError) as error:
        raise SettingsError(
            f"no spool can be kept in {folder}: {error}; name a folder that can be written to, on a disk with room: "
            f"TiledSink(spool=FOLDER) or the environment variable {FOLDER_VARIABLE}"
        ) from error


def _made(folder: Path, max_bytes: int, address: str) -> OwnedFile:
    others = sum(_size(path) for path in folder.glob(f"*{SUFFIX}"))
    path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid4().hex[:8]}{SUFFIX}"
    lock = _locked(path)
    if lock is None:
        raise SpoolFileError(f"{path} is another's, by a name that nobody else has")
    try:
        room = max(max_bytes - others, max_bytes // 16)
        return OwnedFile(SpoolFile(path, max_bytes=room, address=address), lock)
    except BaseException:
        _remove(path)
        lock.release()
        raise


def _give_up_reserves(folder: Path) -> bool:
    """Remove the room that files keep whose processes have ended; return whether there was any."""
    found = False
    for reserve in folder.glob(f"*{SUFFIX}{RESERVE_SUFFIX}"):
        lock = _locked(Path(str(reserve).removesuffix(RESERVE_SUFFIX)))
        if lock is not None:
            found |= reserve.exists()
            reserve.unlink(missing_ok=True)
            lock.release()
    return found


def left_files(folder: Path, beside: SpoolFile | None = None) -> Iterator[OwnedFile]:
    """Take over, one after another, the files whose processes have ended; one that is damaged is set aside.

    The room that is kept `beside` a file of this process is for them as well; without one, each keeps its own.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        lock = _locked(path)
        if lock is None:
            continue
        if not path.exists():  # its process removed it meanwhile
            lock.release()
            continue
        try:
            yield OwnedFile(SpoolFile(path, beside=beside), lock)
        except SpoolFileError as error:
            logger.error("%s; it is left as it is, renamed, and nothing of it is delivered", error)
            path.rename(path.with_suffix(".unreadable"))
            lock.release()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", RESERVE_SUFFIX):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    _lock_of(path).unlink(missing_ok=True)


def is_in_use(path: Path) -> bool:
    """Return whether a process that lives has this file."""
    lock = _locked(path)
    if lock is not None:
        lock.release()
    return lock is None


def _locked(path: Path) -> FileLock | None:
    """Return the lock of a file, held, or None where another has it: the system frees it when a process ends."""
    lock = FileLock(_lock_of(path), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
