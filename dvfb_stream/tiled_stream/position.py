"""Where a daemon goes on when it is started again: which raw runs it is done with, on this machine's disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from dvfb_stream.errors import SettingsError

MARGIN = 86400.0
"""Seconds that a run may be begun before the newest, and come into the catalog after it: a day, as writers that wait
for files, clocks of other machines and runs that go on over night are all within it."""
_VERSION = 1


class Position:
    """The runs that are done, of those begun at or after a time; all before it are done, or are none of ours.

    Parameters
    ----------
    path
        The file. It is this object's alone, until it is closed.

    Raises
    ------
    SettingsError
        When another process has it, it cannot be kept there, or is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")
        self._done: dict[str, float] = {}
        self.since: float | None = None
        """Seconds since 1970; None before the first start."""
        self._changed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._read()
        except Timeout:
            raise SettingsError(
                f"another daemon goes on from {path}; stop it, or give this one a source.tiled.position of its own"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._lock.release()
            raise SettingsError(
                f"the position {path} cannot be used: {error}; move the file away, and the daemon begins with the "
                "runs under way, or with those since source.tiled.since"
            ) from error

    def __contains__(self, uid: str) -> bool:
        return uid in self._done

    def begin(self, since: float, done: Iterable[tuple[str, float]]) -> None:
        """Set out, at the first start, with the runs begun since then but for those that are `done`."""
        self.since = since
        self._done = dict(done)
        self._changed = True
        self.save(oldest_open=None)

    def settle(self, uid: str, begun: float) -> None:
        """Take note that a run is done, which was begun at a time."""
        self._done[uid] = begun
        self._changed = True

    def save(self, *, oldest_open: float | None) -> None:
        """Write it to the disk if it has changed; `oldest_open` is when the first run was begun that is not done."""
        if not self._changed or self.since is None:
            return
        newest = max(self._done.values(), default=self.since)
        bounds = [min(newest, time.time()) - MARGIN, *([] if oldest_open is None else [oldest_open])]
        self.since = max(self.since, min(bounds))
        self._done = {uid: begun for uid, begun in self._done.items() if begun >= self.since}
        said = {"version": _VERSION, "since": self.since, "done": self._done}
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._changed = False

    def close(self) -> None:
        """Let another process have it."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        since = (
            ""
            if self.since is None
            else f", since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M} UTC"
        )
        return f"{self._path} ({len(self._done)} runs done{since})"

    def _read(self) -> None:
        if not self._path.exists():
            return
        said = json.loads(self._path.read_text(encoding="utf-8"))
        if said["version"] != _VERSION:
            raise ValueError(f"it is of version {said['version']}, and {_VERSION} is known here")
        self.since = float(said["since"])
        self._done = {str(uid): float(begun) for uid, begun in said["done"].items()}
