"""One file of the spool: an SQLite database with the documents of analysis runs that are not stored yet."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvfb_stream.catalog.spool.encoding import decode
from dvfb_stream.errors import DvfbError

FORMAT = 1
"""Of the tables below, in SQLite's ``user_version``; a file of another one is left alone."""

SUFFIX = ".sqlite"
RESERVE_SUFFIX = "-reserve"
"""Behind the name of a file, of the one beside it that keeps room for taking rows out."""

_PAGE_BYTES = 4096

_SECONDS_FOR_OTHERS = 5.0
"""How long a statement waits for ``dvfb spool retry``, which writes to a file that a process has open."""

_JOURNAL_BYTES = 4 << 20
"""To which SQLite cuts its journal once it is copied: a thousand pages, at which it copies it."""

_RESERVE_BYTES = 2 * _JOURNAL_BYTES
"""What the journal takes at most, and the file, into which it is copied. Without it nothing could be taken out of a
file on a disk that is full, and rows would be delivered for ever."""

_TABLES = """
CREATE TABLE catalog (address TEXT NOT NULL);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    start BLOB NOT NULL,
    descriptor BLOB,
    stop BLOB,
    came REAL NOT NULL,
    reason TEXT
);
CREATE TABLE rows (
    run INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    came REAL NOT NULL,
    event BLOB NOT NULL,
    UNIQUE (run, frame)
);
"""
"""A run with a reason is quarantined: its rows are kept, and not delivered until somebody has mended the cause."""


def reserve_of(path: Path) -> Path:
    """Return the file that keeps room for taking rows out of the spool's file at `path`."""
    return Path(f"{path}{RESERVE_SUFFIX}")


class SpoolFileError(DvfbError):
    """A file of the spool that cannot be read: damaged, or of another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledRun:
    """What a file holds of one analysis run, without the documents."""

    number: int
    """In this file."""
    uid: str
    rows: int
    bytes: int
    """Of the rows."""
    came: float
    """When the first of them came, or the run where there is none; seconds since 1970."""
    stopped: bool
    """Its stop is there."""
    reason: str | None
    """Why it is quarantined; None: it is not."""


class SpoolFile:
    """Documents in an SQLite file. Every call is one transaction: whatever happens, it is there whole or not at all.

    What is stored can be taken out while the disk is full, too: a file beside this one keeps 8 MB of room for that.

    A call that has returned survives the end of the process, however it ends: SQLite's journal is in the system's
    hands. It survives a power failure once `sync` has returned. In each call that would take a turn of the disk: 80
    rows a second instead of 1,300 on an ordinary one. For one thread at a time.

    Parameters
    ----------
    path
        Made where there is none.
    max_bytes
        How large it may grow, the journal (8 MB) and the room that is kept (8 MB) besides.
    address
        Of the catalog, without a key; None: the file must be there already.
    beside
        A file of the same process, whose room is kept for both: none is kept for this one.

    Raises
    ------
    SpoolFileError
        When it is there and is no file of a spool, or cannot be made.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        address: str | None = "",
        beside: SpoolFile | None = None,
    ) -> None:
        self.path = path
        self._reserve = reserve_of(path if beside is None else beside.path)
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_SECONDS_FOR_OTHERS
            )
            try:
                self._prepare(max_bytes, address)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise SpoolFileError(f"the spool's file {path} cannot be used: {error}") from error
        self._version = self._version_now()
        if beside is not None:
            reserve_of(path).unlink(missing_ok=True)
        elif address is not None:
            self.keep_reserve()

    def _prepare(self, max_bytes: int | None, address: str | None) -> None:
        do = self._connection.execute
        if address is not None:
            do(f"PRAGMA page_size = {_PAGE_BYTES}")
            do("PRAGMA journal_mode = WAL")
        do("PRAGMA synchronous = NORMAL")
        do(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        if max_bytes is not None:
            do(f"PRAGMA max_page_count = {max(8, max_bytes // _PAGE_BYTES)}")
        found = do("PRAGMA user_version").fetchone()[0]
        if found == 0 and address is not None and not do("SELECT 1 FROM sqlite_master").fetchone():
            self._connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
            do("INSERT INTO catalog VALUES (?)", (address,))
        elif found != FORMAT:
            raise SpoolFileError(
                f"the spool's file {self.path} has format {found}, this version knows {FORMAT}; use the version that "
                "wrote it"
            )

    @property
    def address(self) -> str:
        """Of the catalog that the documents are for."""
        return str(self._connection.execute("SELECT address FROM catalog").fetchone()[0])

    # -- what comes --------------------------------------------------------------------------------------------

    def add_run(self, uid: str, start: bytes) -> int:
        """Keep the start of a run, and return its number here."""
        added = self._connection.execute(
            "INSERT INTO runs (uid, start, came) VALUES (?, ?, ?)", (uid, start, time.time())
        )
        return int(added.lastrowid or 0)

    def add_descriptor(self, run: int, descriptor: bytes) -> None:
        """Keep the descriptor of a run."""
        self._connection.execute("UPDATE runs SET descriptor = ? WHERE number = ?", (descriptor, run))

    def add_row(self, run: int, frame: int, event: bytes) -> bool:
        """Keep a row; return False where one of that frame waits already."""
        added = self._connection.execute(
            "INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", (run, frame, time.time(), event)
        )
        return added.rowcount > 0

    def add_stop(self, run: int, stop: bytes) -> None:
        """Keep the stop of a run."""
        self._connection.execute("UPDATE runs SET stop = ? WHERE number = ?", (stop, run))

    # -- what goes -----------------------------------------------------------------------------------------------

    def documents(self, run: int) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]:
        """Return start, descriptor and stop of a run; None for one that did not come."""
        found = self._connection.execute(
            "SELECT start, descriptor, stop FROM runs WHERE number = ?", (run,)
        ).fetchone()
        start, descriptor, stop = (None if packed is None else decode(packed) for packed in found)
        return start or {}, descriptor, stop

    def first_rows(self, run: int, count: int, after: int = -1) -> list[dict[str, Any]]:
        """Return the first events of a run in the order of frames, from the frame behind `after`."""
        found = self._connection.execute(
            "SELECT event FROM rows WHERE run = ? AND frame > ? ORDER BY frame LIMIT ?", (run, after, count)
        )
        return [decode(event) for (event,) in found]

    def remove_rows(self, run: int, frames: Iterable[int]) -> None:
        """Forget rows: they are stored."""
        places = [(run, frame) for frame in frames]
        self._take_out({"DELETE FROM rows WHERE run = ? AND frame = ?": places})

    def remove_run(self, run: int) -> None:
        """Forget a run and what is left of its rows."""
        self._take_out(
            {"DELETE FROM rows WHERE run = ?": [(run,)], "DELETE FROM runs WHERE number = ?": [(run,)]}
        )

    def quarantine(self, run: int, reason: str | None) -> None:
        """Set a run aside with a reason; None: let it be delivered again."""
        self._connection.execute("UPDATE runs SET reason = ? WHERE number = ?", (reason, run))

    def reopen(self, run: int) -> None:
        """Let a quarantined run be delivered again, and its stop after what comes of it now."""
        self._connection.execute("UPDATE runs SET reason = NULL, stop = NULL WHERE number = ?", (run,))

    # -- the file ------------------------------------------------------------------------------------------------

    def runs(self) -> list[SpooledRun]:
        """Return what is here, the oldest first."""
        found = self._connection.execute(
            "SELECT number, uid, count(frame), coalesce(sum(length(event)), 0), coalesce(min(rows.came), runs.came), "
            "stop IS NOT NULL, reason FROM runs LEFT JOIN rows ON run = number GROUP BY number ORDER BY number"
        )
        return [
            SpooledRun(
                number=number, uid=uid, rows=rows, bytes=n_bytes, came=came, stopped=bool(stop), reason=reason
            )
            for number, uid, rows, n_bytes, came, stop, reason in found
        ]

    def changed_by_another(self) -> bool:
        """Return whether another process wrote to this file since the last call."""
        before, self._version = self._version, self._version_now()
        return before != self._version

    def sync(self) -> None:
        """Have the system write down what it holds: from here on a power failure does no harm either."""
        # The journal alone. SQLite knows nothing of this descriptor, and keeps no lock on that file.
        with suppress(FileNotFoundError):
            journal = os.open(f"{self.path}-wal", os.O_RDONLY)
            try:
                os.fsync(journal)
            finally:
                os.close(journal)

    def shrink(self) -> None:
        """Give the room of what has left back to the file system; quick where nothing is left."""
        if self._connection.execute("PRAGMA freelist_count").fetchone()[0] * _PAGE_BYTES > _JOURNAL_BYTES:
            self._connection.execute("VACUUM")
        self.keep_reserve()

    def keep_reserve(self) -> None:
        """Have room for the journal, where there is so much."""
        try:
            with self._reserve.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except (OSError, AttributeError):  # a full disk, or a system that has no such call
            self._reserve.unlink(missing_ok=True)

    def n_bytes(self) -> int:
        """Return how large the documents in the file are, with all that SQLite needs for them."""
        pages, free = (
            self._connection.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("page_count", "freelist_count")
        )
        return int(pages - free) * _PAGE_BYTES

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _version_now(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _take_out(self, places: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
        """Delete by statements, with the reserve where there is no other room."""
        try:
            self._delete(places)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._delete(places)

    def _delete(self, places: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
        with self._transaction():
            for statement, of_it in places.items():
                self._connection.executemany(statement, of_it)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has ended it by itself where the disk is full
                self._connection.execute("ROLLBACK")
            raise
