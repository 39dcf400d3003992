"""What becomes of analysis documents as they come: each on the disk, or counted as one that did not fit."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any

from dvfb_stream.catalog.spool.delivery import Delivery
from dvfb_stream.catalog.spool.spool_file import SpoolFile
from dvfb_stream.catalog.spool.waiting import WaitingRun
from dvfb_stream.errors import RefusedDocumentError

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_COMPLAINTS = 10.0
_SECONDS_UNTIL_ROOM_IS_LOOKED_FOR = 1.0


class WhenFull(StrEnum):
    """What happens to a document for which there is no room."""

    LOSE = "lose"
    """It is lost, counted and logged, and its run never gets a stop: acquisition never waits."""
    WAIT = "wait"
    """The call waits for room: for what can be read again, as messages of Kafka can."""


@dataclass(slots=True, eq=False)
class _OpenRun:
    """An analysis run whose stop has not come."""

    uid: str
    start: bytes
    descriptor: bytes | None = None
    descriptor_uid: str = ""
    waiting: WaitingRun | None = None
    """What the delivery knows of it; None until it is on the disk."""
    described: bool = False
    """The descriptor is on the disk, too."""
    lost: int = 0
    """Rows that did not fit since its start came last."""


class Intake:
    """Keeps documents of the runs that are open in a file of the spool; called under the delivery's lock.

    Parameters
    ----------
    file
        Of this process alone.
    delivery
        Which removes from the file what is stored.
    when_full
        What happens to a document for which there is no room.
    max_open_runs
        Runs without a stop; of more, the oldest is forgotten.
    """

    def __init__(
        self, file: SpoolFile, delivery: Delivery, *, when_full: WhenFull, max_open_runs: int
    ) -> None:
        self._file = file
        self._delivery = delivery
        self._when_full = when_full
        self._max_open_runs = max_open_runs
        self.lossy = False
        """Whether something was lost, ever."""
        self._open: dict[str, _OpenRun] = {}
        self._of_descriptor: dict[str, _OpenRun] = {}
        self._complained = -inf

    def take(self, name: str, doc: dict[str, Any], packed: bytes) -> WaitingRun | None:
        """Write a document down, or count that there was no room for it; return its run where that is quarantined.

        Raises
        ------
        RefusedDocumentError
            When it belongs to no run whose start came before it.
        """
        run = self._run_of(name, doc, packed)
        if name == "descriptor":
            if run.descriptor is not None:
                return None  # delivered again
            run.descriptor, run.descriptor_uid = packed, doc["uid"]
            self._of_descriptor[doc["uid"]] = run
        elif name == "stop":
            self._open.pop(run.uid)
            self._of_descriptor.pop(run.descriptor_uid, None)
            if run.lost:
                self._give_up(run, f"{run.lost} of its rows were lost")
                return None
        if not self._kept(lambda: self._keep(run, name, doc, packed)):
            self._lose(run, name)
        return run.waiting if run.waiting is not None and run.waiting.reason is not None else None

    def _run_of(self, name: str, doc: dict[str, Any], packed: bytes) -> _OpenRun:
        match name:
            case "start":
                run = self._open.setdefault(doc["uid"], _OpenRun(doc["uid"], packed))
                run.lost = 0  # delivered again from its start, with the rows that were lost
                self._forget_the_oldest()
                return run
            case "descriptor" | "stop":
                found = self._open.get(doc["run_start"])
            case "event":
                found = self._of_descriptor.get(doc["descriptor"])
            case _:
                raise RefusedDocumentError(f"an analysis run has no documents of the kind {name!r}")
        if found is None:
            raise RefusedDocumentError(f"a document ({name}) came for a run that is not open in this spool")
        return found

    def _keep(self, run: _OpenRun, name: str, doc: dict[str, Any], packed: bytes) -> None:
        """Write a document down, after those of its run that there was no room for."""
        waiting = self._on_disk(run)
        if run.descriptor is not None and not run.described:
            self._file.add_descriptor(waiting.number, run.descriptor)
            run.described = True
        waiting.open = True
        if name == "event" and self._file.add_row(waiting.number, doc["data"]["frame"], packed):
            waiting.came = min(waiting.came, time.monotonic())
            waiting.rows += 1
            if waiting.reason is None:
                self._delivery.tally.spooled_rows += 1
            else:
                self._delivery.tally.quarantined_rows += 1
        if name == "stop":
            self._file.add_stop(waiting.number, packed)
            waiting.stopped, waiting.open = True, False
        self._delivery.files.sync_soon(self._file)

    def _on_disk(self, run: _OpenRun) -> WaitingRun:
        """Return what is delivered of a run, after writing down its start where that is not on the disk."""
        if run.waiting is not None and not run.waiting.gone:
            return run.waiting
        run.described = False
        known = self._delivery.runs.get(self._file, run.uid)  # given again before it was stored
        if known is None:
            number = self._file.add_run(run.uid, run.start)
            known = WaitingRun(file=self._file, number=number, uid=run.uid, inherited=False)
            self._delivery.runs.add(known)
        elif known.reason is not None:  # given again, so that the cause may be mended
            self._file.reopen(known.number)
            known.reason, known.stopped, known.not_before = None, False, -inf
            known.failures = known.faults = 0
            self._delivery.tally.count(self._delivery.runs)
        run.waiting = known
        return known

    def _kept(self, keep: Callable[[], None]) -> bool:
        """Return whether there was room, waiting for it where that is what is wanted."""
        while True:
            try:
                keep()
            except (sqlite3.Error, OSError) as error:
                now = time.monotonic()
                if now >= self._complained + _SECONDS_BETWEEN_COMPLAINTS:
                    self._complained = now
                    logger.error(
                        "the spool %s has no room (%s): rows %s. Make room on the disk, or see why the catalog does "
                        "not take them: dvfb spool list",
                        self._file.path.parent,
                        error,
                        "wait" if self._when_full is WhenFull.WAIT else "are lost",
                    )
                if self._when_full is WhenFull.LOSE:
                    return False
                self._delivery.changed.wait(_SECONDS_UNTIL_ROOM_IS_LOOKED_FOR)
                if self._delivery.closed:
                    return False
            else:
                return True

    def _lose(self, run: _OpenRun, name: str) -> None:
        """Count what did not fit. Start and descriptor are kept in memory, and written with a row that fits."""
        if name == "event":
            run.lost += 1
            self.lossy = True
            self._delivery.tally.lost_rows += 1
        elif name == "stop":
            self.lossy = True
            self._give_up(run, "there was no room for its stop")

    def _give_up(self, run: _OpenRun, why: str) -> None:
        logger.error(
            "%s: analysis run %s gets no stop. To complete it, annotate its raw run again: rows that are stored stay",
            why,
            run.uid,
        )
        self._close_run(run)

    def _close_run(self, run: _OpenRun) -> None:
        self._delivery.forget(run.uid)
        if run.waiting is not None and not run.waiting.gone:
            run.waiting.open = False
            if run.waiting.is_over:
                try:
                    self._delivery.files.over(run.waiting)
                except sqlite3.Error:  # a full disk; it is empty, and goes with the file
                    self._delivery.runs.remove(run.waiting)

    def _forget_the_oldest(self) -> None:
        if len(self._open) > self._max_open_runs:
            oldest = self._open.pop(next(iter(self._open)))
            self._of_descriptor.pop(oldest.descriptor_uid, None)
            logger.warning(
                "more than %d runs are open; %s stays without a stop", self._max_open_runs, oldest.uid
            )
            self._close_run(oldest)
