"""Between analysis documents and their store: each is on the disk before it counts, and leaves it when stored."""

from __future__ import annotations

import atexit
import logging
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dvfb_stream.catalog.spool.delivery import Delivery, Store, Told
from dvfb_stream.catalog.spool.encoding import encode
from dvfb_stream.catalog.spool.folder import new_file
from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.tally import SpoolStats
from dvfb_stream.catalog.spool.waiting import WaitingRun
from dvfb_stream.errors import DvfbError, check_at_least
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker.shutdown import seconds_for_rows

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
"""Of a spool, unless it is told otherwise: 700,000 rows without arrays, an hour and a half at 116 frames a second."""

_SECONDS_BETWEEN_COMPLAINTS = 10.0
_SECONDS_UNTIL_ROOM_IS_LOOKED_FOR = 1.0
_SECONDS_FOR_A_CALL = 0.5
"""How long letting go waits for a call of the store that is under way: most take a tenth."""


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


class Spool:
    """A sink that keeps analysis documents on the disk until a store has proven that it has them.

    Called as `spool(name, doc)`, it returns when the document is on the disk. A thread delivers: rows of a run in the
    order of its frames, up to 64 in a call and half a second after they came at most, then its stop. What is still
    there when the process ends, however it ends, the next one with the same folder delivers; two processes at a time
    have a file each.

    - While the store does not answer, rows wait, and it is asked again, at longer and longer intervals.
    - Of a run that the store refuses for good, the documents are quarantined with the reason, and the other runs go
      on; ``dvfb spool`` lists, exports, and tries again.
    - Where the store lets us write nothing at all, everything waits for another key, and the log says so.
    - What does not fit, into `max_bytes` or on the disk, is lost, counted and logged, and its run gets no stop, so
      that nobody takes it for whole; or the call waits, see `WhenFull`.

    Documents may come from several threads, those of one run in order.

    Parameters
    ----------
    store
        An `AnnotationStore`, or what keeps its promises.
    folder
        For this store alone; None: a temporary one, which outages do no harm either, but the end of the process does.
    address
        Of the catalog, for people; what stands behind a question mark is left out.
    pace
        When rows are delivered, and how often again.
    max_bytes
        Of all files in the folder together; each may have a journal of 8 MB besides.
    when_full
        See `WhenFull`.
    max_open_runs
        Runs without a stop; of more, the oldest is forgotten, and stays without a stop in the store.

    Raises
    ------
    SettingsError
        When a bound is not positive, or no spool can be kept in the folder.
    """

    def __init__(
        self,
        store: Store,
        folder: str | Path | None = None,
        *,
        address: str = "",
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
        when_full: WhenFull = WhenFull.LOSE,
        max_open_runs: int = 1_000,
    ) -> None:
        check_at_least(1, max_open_runs=max_open_runs)
        check_at_least(1 << 16, max_bytes=max_bytes)
        kept = None if folder is None else Path(folder)
        temporary = tempfile.TemporaryDirectory(prefix="dvfb-spool-") if kept is None else None
        owned = new_file(
            kept or Path(temporary.name if temporary else ""),
            max_bytes=max_bytes,
            address=address.partition("?")[0],
        )
        self._file = owned.file
        self._when_full = WhenFull(when_full)
        self._max_open_runs = max_open_runs
        self._delivery = Delivery(store, Pace() if pace is None else pace, folder=kept)
        self._changed = self._delivery.changed
        self._open: dict[str, _OpenRun] = {}
        self._of_descriptor: dict[str, _OpenRun] = {}
        self._lossy = False
        self._complained = -inf
        with self._changed:
            self._delivery.own(owned)
            if kept is not None:
                self._delivery.start()
        # Also when nobody holds the spool any more: its thread does not.
        self._finalizer = weakref.finalize(self, _end, self._delivery, temporary)
        self._at_exit = partial(_close_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Keep a document of an analysis run.

        Raises
        ------
        EncodingError
            When it holds something that no document may.
        DvfbError
            When it belongs to no run whose start came before it, or the spool is closed.
        """
        packed = encode(doc)
        with self._changed:
            if self._delivery.closed:
                raise DvfbError(f"the spool is closed, and takes no document ({name})")
            self._delivery.start()
            self._take(name, doc, packed)
            self._delivery.tally.tell()
            self._changed.notify_all()

    @property
    def is_waited_for(self) -> bool:
        """Whether this is the spool's own thread, which would wait for itself."""
        return self._delivery.is_waited_for

    def tell_when_stored(self, uid: str, told: Told) -> None:
        """Call `told` with `uid`, from the spool's thread, once that analysis run is stored with its stop.

        To be asked for before the stop is put. A run that is quarantined is told of if it is delivered after all; one
        of which a row was lost, never.
        """
        with self._changed:
            self._delivery.tell(uid, told)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put is stored; return whether it is so within `timeout` seconds.

        False at once where nothing is left to wait for and yet not everything is stored: a row was lost, now or
        earlier, or a run is quarantined. With None, waits as long as the store is away.
        """
        if self._delivery.is_waited_for:
            return False
        with self._changed:
            self._delivery.hurried += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._delivery.closed or not self._is_waiting(), timeout)
            finally:
                self._delivery.hurried -= 1
            return not (self._is_waiting() or self._lossy or self._is_quarantined())

    def close(self, timeout: float | None = 10.0) -> bool:
        """Deliver what can be delivered within `timeout` seconds, and end the thread; return whether all is stored.

        What is not stored stays on the disk, and the next process with the same folder delivers it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        stored = self.wait(timeout)
        if not self._delivery.closed:
            with self._changed:
                left = sum(run.rows for run in self._delivery.runs.of(self._file))
            if left:
                where = self._file.path.parent
                logger.warning(
                    "%d rows are not stored, and stay in %s: the next process delivers them", left, where
                )
        rest = inf if deadline is None else deadline - time.monotonic()
        self._delivery.close(min(_SECONDS_FOR_A_CALL, max(0.0, rest)))
        self._finalizer()
        atexit.unregister(self._at_exit)
        return stored

    def stats(self) -> SpoolStats:
        """Return what became of the rows."""
        with self._changed:
            tally = self._delivery.tally
            return SpoolStats(
                stored_rows=tally.stored_rows,
                spooled_rows=tally.spooled_rows,
                quarantined_rows=tally.quarantined_rows,
                lost_rows=tally.lost_rows,
                stored_runs=tally.stored_runs,
                quarantined_runs=tally.quarantined_runs,
                inherited_rows=tally.inherited_rows,
                spooled_bytes=0 if self._delivery.closed else self._file.n_bytes(),
                trouble=self._delivery.trouble,
            )

    def report_to(self, metrics: Metrics) -> None:
        """From now on count in a record of metrics as well."""
        with self._changed:
            self._delivery.tally.report_to(metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- under the lock --------------------------------------------------------------------------------------

    def _is_waiting(self) -> bool:
        return any(run.is_waiting for run in self._delivery.runs.of(self._file))

    def _is_quarantined(self) -> bool:
        return any(run.reason is not None for run in self._delivery.runs.of(self._file))

    def _take(self, name: str, doc: dict[str, Any], packed: bytes) -> None:
        run = self._run_of(name, doc, packed)
        if name == "descriptor":
            if run.descriptor is not None:
                return  # delivered again
            run.descriptor, run.descriptor_uid = packed, doc["uid"]
            self._of_descriptor[doc["uid"]] = run
        elif name == "stop":
            self._open.pop(run.uid)
            self._of_descriptor.pop(run.descriptor_uid, None)
            if run.lost:
                self._give_up(run, f"{run.lost} of its rows were lost")
                return
        if not self._kept(lambda: self._keep(run, name, doc, packed)):
            self._lose(run, name)

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
                raise DvfbError(f"an analysis run has no documents of the kind {name!r}")
        if found is None:
            raise DvfbError(f"a document ({name}) came for a run that is not open in this spool")
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
        self._delivery.sync_soon(self._file)

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
                self._changed.wait(_SECONDS_UNTIL_ROOM_IS_LOOKED_FOR)
                if self._delivery.closed:
                    return False
            else:
                return True

    def _lose(self, run: _OpenRun, name: str) -> None:
        """Count what did not fit. Start and descriptor are kept in memory, and written with a row that fits."""
        if name == "event":
            run.lost += 1
            self._lossy = True
            self._delivery.tally.lost_rows += 1
        elif name == "stop":
            self._lossy = True
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
                    self._delivery.over(run.waiting)
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


def _close_at_exit(spool: weakref.ref[Spool]) -> None:
    living = spool()
    if living is not None:
        living.close(seconds_for_rows())


def _end(delivery: Delivery, temporary: tempfile.TemporaryDirectory[str] | None) -> None:
    """Let go of the files of a spool that is closed, or that nobody holds any more."""
    delivery.close(_SECONDS_FOR_A_CALL)
    if temporary is not None:
        temporary.cleanup()
