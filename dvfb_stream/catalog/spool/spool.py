"""Between analysis documents and their store: each is on the disk before it counts, and leaves it when stored."""

from __future__ import annotations

import atexit
import logging
import tempfile
import time
import weakref
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dvfb_stream.catalog.spool.delivery import Delivery, Store, Told, ToldWhy
from dvfb_stream.catalog.spool.encoding import encode
from dvfb_stream.catalog.spool.folder import new_file
from dvfb_stream.catalog.spool.intake import Intake, WhenFull
from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.tally import SpoolStats
from dvfb_stream.errors import DvfbError, check_at_least
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker.shutdown import seconds_for_rows

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
"""Of a spool, unless it is told otherwise: 700,000 rows without arrays, an hour and a half at 116 frames a second."""

MAX_OPEN_RUNS = 50_000
"""Runs without a stop: of each, start and descriptor are in memory, some 10 kB. The daemon's trackers have fewer."""

_SECONDS_FOR_A_CALL = 0.5
"""How long letting go waits for a call of the store that is under way: most take a tenth."""


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
        Of all files in the folder together; each may have a journal of 8 MB besides, and each process keeps 8 MB of
        room.
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
        max_open_runs: int = MAX_OPEN_RUNS,
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
        self._delivery = Delivery(store, Pace() if pace is None else pace, folder=kept)
        self._changed = self._delivery.changed
        self._intake = Intake(
            self._file, self._delivery, when_full=WhenFull(when_full), max_open_runs=max_open_runs
        )
        with self._changed:
            self._delivery.files.own(owned)
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
        RefusedDocumentError
            When it belongs to no run whose start came before it.
        DvfbError
            When the spool is closed.
        """
        packed = encode(doc)
        with self._changed:
            if self._delivery.closed:
                raise DvfbError(f"the spool is closed, and takes no document ({name})")
            self._delivery.start()
            quarantined = self._intake.take(name, doc, packed)
            self._delivery.tally.tell()
            self._changed.notify_all()
        if quarantined is not None:
            self._delivery.tell_of_refusal(quarantined)

    @property
    def folder(self) -> Path | None:
        """Where rows survive the end of this process; None: nowhere."""
        return self._delivery.files.folder

    def sync(self) -> None:
        """Have what was put survive a power failure, too; OSError where the disk refuses."""
        with self._changed:
            if not self._delivery.closed:
                self._file.sync()

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

    def tell_when_refused(self, uid: str, told: ToldWhy) -> None:
        """Call `told` with `uid` and the reason once that analysis run is quarantined, and its stop is there as well.

        To be asked for before the stop is put; from the spool's thread, or the one that puts.
        """
        with self._changed:
            self._delivery.tell_refusal(uid, told)

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
            return not (self._is_waiting() or self._intake.lossy or self._is_quarantined())

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


def _close_at_exit(spool: weakref.ref[Spool]) -> None:
    living = spool()
    if living is not None:
        living.close(seconds_for_rows())


def _end(delivery: Delivery, temporary: tempfile.TemporaryDirectory[str] | None) -> None:
    """Let go of the files of a spool that is closed, or that nobody holds any more."""
    delivery.close(_SECONDS_FOR_A_CALL)
    if temporary is not None:
        temporary.cleanup()
