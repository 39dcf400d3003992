"""What an operator sees of the spools on a machine, and does about them, beside the processes that use them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvfb_stream.catalog.spool.delivery import Delivery, Store
from dvfb_stream.catalog.spool.folder import is_in_use
from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.spool_file import SUFFIX, SpoolFile, SpoolFileError

_ROWS_AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInSpool:
    """An analysis run that waits in a spool, or is quarantined there."""

    path: Path
    """Of the file."""
    address: str
    """Of the catalog that it is for."""
    in_use: bool
    """A process that lives delivers from this file."""
    uid: str
    """Of the analysis run."""
    raw_uid: str
    """Of the raw run."""
    rows: int
    bytes: int
    came: float
    """When the oldest row came; seconds since 1970."""
    stopped: bool
    """Its stop is there as well."""
    reason: str | None
    """Why it is quarantined; None: it waits to be delivered."""


def runs_in_spools(below: Path) -> list[RunInSpool]:
    """Return the runs in all spools below a folder, those of one file together.

    Raises
    ------
    SpoolFileError
        When a file cannot be read.
    """
    return [
        RunInSpool(
            path=path,
            address=file.address,
            in_use=is_in_use(path),
            uid=run.uid,
            raw_uid=str(file.documents(run.number)[0].get("analysis", {}).get("parent", "")),
            rows=run.rows,
            bytes=run.bytes,
            came=run.came,
            stopped=run.stopped,
            reason=run.reason,
        )
        for path, file in _opened(below)
        for run in _read(file)
    ]


def documents(below: Path, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and document of the analysis runs `wanted`, each run's in order, from all spools below a folder."""
    for _, file in _opened(below):
        for run in _read(file):
            if run.uid not in wanted:
                continue
            start, descriptor, stop = file.documents(run.number)
            yield "start", start
            if descriptor is not None:
                yield "descriptor", descriptor
            last = -1
            while events := file.first_rows(run.number, _ROWS_AT_A_TIME, after=last):
                yield from (("event", event) for event in events)
                last = events[-1]["data"]["frame"]
            if stop is not None:
                yield "stop", stop


def release(below: Path, wanted: Collection[str]) -> int:
    """Let quarantined runs be delivered again; return how many. A process that uses their file sees it in 2 s."""
    released = 0
    for _, file in _opened(below):
        for run in _read(file):
            if run.uid in wanted and run.reason is not None:
                file.quarantine(run.number, None)
                released += 1
    return released


def remove(below: Path, wanted: Collection[str]) -> int:
    """Take quarantined runs out of their spool for good; return how many."""
    removed = 0
    for _, file in _opened(below):
        for run in _read(file):
            if run.uid in wanted and run.reason is not None:
                file.remove_run(run.number)
                removed += 1
    return removed


def deliver_left(folder: Path, store: Store, *, timeout: float, pace: Pace | None = None) -> str:
    """Deliver what processes that have ended left in a spool's folder; return what is in the way, empty if nothing.

    Parameters
    ----------
    folder
        Of one catalog.
    store
        Of that catalog.
    timeout
        Seconds.
    pace
        As for a `Spool`.
    """
    delivery = Delivery(store, Pace() if pace is None else pace, folder=folder)
    end = time.monotonic() + timeout
    with delivery.changed:
        delivery.files.search()
        delivery.start()
        delivery.changed.wait_for(
            lambda: delivery.trouble or not any(run.is_waiting for run in delivery.runs),
            max(0.0, end - time.monotonic()),
        )
        reasons = [run.reason for run in delivery.runs if run.reason is not None]
        waiting = any(run.is_waiting for run in delivery.runs)
        in_the_way = delivery.trouble or (f"not all was delivered in {timeout:g} s" if waiting else "")
    delivery.close(timeout=1.0)
    return in_the_way or (reasons[0] if reasons else "")


def _opened(below: Path) -> Iterator[tuple[Path, SpoolFile]]:
    for path in sorted(below.rglob(f"*{SUFFIX}")):
        try:
            file = SpoolFile(path, address=None)
        except SpoolFileError:
            if path.exists() and not is_in_use(path):
                raise
            continue  # its process makes it, or has removed it, just now
        with closing(file):
            yield path, file


def _read(file: SpoolFile) -> list[Any]:
    try:
        return list(file.runs())
    except sqlite3.Error as error:
        raise SpoolFileError(f"the spool's file {file.path} cannot be read: {error}") from error
