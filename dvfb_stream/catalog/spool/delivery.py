"""The thread that hands spooled rows to the store, in order, and again until they are there."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, Protocol

from dvfb_stream.catalog.api_key import KEY_VARIABLE, without_key
from dvfb_stream.catalog.spool.encoding import EncodingError
from dvfb_stream.catalog.spool.files import DeliveredFiles
from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.tally import Tally
from dvfb_stream.catalog.spool.waiting import WaitingRun, WaitingRuns
from dvfb_stream.catalog.store_errors import (
    RowsMissingError,
    StoreFaultError,
    StoreRefusedError,
    StoreUnavailableError,
    WrittenByAnotherError,
)

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_COMPLAINTS = 60.0
"""Between two lines in the log while the store does not take anything."""

_SECONDS_OF_TWO_WRITERS = 60.0
"""After which another writer of the same runs is no predecessor that ends: its lease lasts half as long."""
_MOST_WRITERS = 100

Told = Callable[[str], object]
"""Called with the uid of an analysis run that is stored with its stop."""


ToldWhy = Callable[[str, str], object]
"""Called with the uid of an analysis run that is quarantined, its stop included, and the reason."""


class Store(Protocol):
    """Where rows are delivered; `AnnotationStore` is one. Both calls may be repeated."""

    def write(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> object:
        """Return once every event is stored, exactly once; raise where that is not certain."""
        ...

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> object:
        """Return once the stop is stored."""
        ...

    def close(self) -> object:
        """Let go of what is held between calls: nothing more is delivered."""
        ...


def _told_by(error: Exception) -> str:
    """Return what an error says, in one line, and not the key that an address in it may have."""
    return without_key(error, os.environ.get(KEY_VARIABLE)) or type(error).__name__


class Delivery:
    """Delivers what files of a spool hold to a store, on one daemon thread.

    - Of each run the rows in the order of their frames, at most `Pace.batch_size` in a call; the stop last.
    - Rows leave their file when `Store.write` has returned, the run when `Store.finish` has.
    - `StoreUnavailableError` pauses everything, longer each time, and that run by itself: when the pause is over,
      another run has its turn first.
    - `StoreRefusedError` puts its run into quarantine; of `everything`, nothing is, and all waits for a better key.
    - `StoreFaultError` over one run, `Pace.most_faults_alone` times with others stored in between, quarantines it.
      Where there are none, a trial run shows whether the store takes any, if it has a `probe`. Nobody else waits.
    - What nobody foresaw is tried `Pace.most_faults` times, then its run is quarantined.

    Parameters
    ----------
    store
        Called from the thread alone.
    pace
        When, and how much.
    folder
        Searched for files whose processes have ended; None: there are none.
    """

    def __init__(self, store: Store, pace: Pace, *, folder: Path | None) -> None:
        self._store = store
        self._pace = pace
        # Guards what follows; held for moments.
        self.changed = threading.Condition(threading.Lock())
        self.runs = WaitingRuns(pace)
        self.tally = Tally()
        self.files = DeliveredFiles(folder, self.runs, self.tally)
        self.hurried = 0
        """How many wait for everything to be stored: nothing waits to make a batch meanwhile."""
        self.trouble = ""
        """Why nothing is delivered; empty where it is, as far as is known."""
        self._told: defaultdict[str, list[Told]] = defaultdict(list)
        self._told_why: defaultdict[str, list[ToldWhy]] = defaultdict(list)
        self._failures = self._calls_stored = 0
        self._writers: dict[str, float] = {}
        """Who else was met writing our runs, and since when."""
        self._not_before = -inf
        self._next_complaint = -inf
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def is_waited_for(self) -> bool:
        """Whether the store asks, or who is told: in `Spool.wait` it would wait for itself."""
        return threading.current_thread() is self._thread

    @property
    def closed(self) -> bool:
        """Whether nothing is delivered any more."""
        return self._closed

    # -- under the lock, for the spool -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver, unless that was done."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="dvfb-spool", daemon=True)
            self._thread.start()

    def tell(self, uid: str, told: Told) -> None:
        """Call `told`, from the thread, once that run is stored with its stop."""
        self._told[uid].append(told)

    def tell_refusal(self, uid: str, told: ToldWhy) -> None:
        """Call `told` once that run is quarantined and its stop is there."""
        self._told_why[uid].append(told)

    def forget(self, uid: str) -> None:
        """Tell nobody of that run: it gets no stop."""
        self._told.pop(uid, None)
        self._told_why.pop(uid, None)

    def tell_of_refusal(self, run: WaitingRun) -> None:
        """Tell who asked that a run is quarantined, once its stop is there; from any thread, without the lock."""
        with self.changed:
            if run.reason is None or not run.stopped:
                return
            uid, reason, told = run.uid, run.reason, self._told_why.pop(run.uid, [])
        for call in told:
            try:
                call(uid, reason)
            except Exception:  # whose fault it is does not matter: the rows of the other runs go on
                logger.exception("%r raised when told that %s is quarantined", call, uid)

    # -- from any other thread -------------------------------------------------------------------------------

    def close(self, timeout: float | None) -> None:
        """Deliver nothing more, and let go of the files; what they hold stays there, and empty ones go.

        Waits at most `timeout` seconds for a call that is under way.
        """
        with self.changed:
            if self._closed:
                return
            self._closed = True
            self.changed.notify_all()
        if self._thread is not None and not self.is_waited_for:
            self._thread.join(timeout)
        with self.changed:
            self.files.close()
            self.changed.notify_all()

    # -- the thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._deliver_until_closed()
        try:
            self._store.close()
        except Exception as error:  # noqa: BLE001 - it runs out by itself, whatever it is that it holds
            logger.info("the store cannot be closed: %s", _told_by(error))

    def _deliver_until_closed(self) -> None:
        while (run := self._next()) is not None:
            try:
                self._deliver(run)
            except StoreUnavailableError as error:
                if isinstance(error, WrittenByAnotherError):
                    self._mention(error.writer)
                    self._held_up(run)
                elif not (isinstance(error, StoreFaultError) and self._fails_alone(run)):
                    self._failed(run, _told_by(error))
                elif run.faults_alone < self._pace.most_faults_alone:
                    self._failed_alone(run, _told_by(error))
                else:
                    self._quarantine(
                        run, f"of all runs alone, and {run.faults_alone} times: {_told_by(error)}"
                    )
            except StoreRefusedError as error:
                if isinstance(error, RowsMissingError) and self._waits_for_neighbours(run):
                    logger.info("%s; they are waited for", error.reason)
                elif error.everything:
                    self._refused(_told_by(error))
                else:
                    self._quarantine(run, _told_by(error))
            except EncodingError as error:
                self._quarantine(run, str(error))
            except sqlite3.Error as error:
                self._failed(run, f"the spool's file {run.file.path} cannot be used: {error}")
            except Exception as error:  # whatever it is costs its own run, and never the thread
                logger.exception("delivering analysis run %s failed", run.uid)
                run.faults += 1
                reason = f"{type(error).__name__}: {_told_by(error)}"
                if run.faults < self._pace.most_faults:
                    self._failed(run, reason)
                else:
                    self._quarantine(run, reason)

    def _next(self) -> WaitingRun | None:
        """Wait for a run whose turn it is; None once closed."""
        with self.changed:
            while not self._closed:
                now = time.monotonic()
                if self.files.attend(now):
                    self.changed.notify_all()
                if now >= self._not_before:
                    run = self.runs.next(now, hurry=self.hurried > 0)
                    if run is not None:
                        return run
                next_at = max(self._not_before, self.runs.next_at(hurry=self.hurried > 0))
                seconds = min(next_at, self.files.next_at) - now
                self.changed.wait(None if seconds == inf else max(0.0, seconds))
        return None

    def _deliver(self, run: WaitingRun) -> None:
        with self.changed:
            if self._closed:
                return
            began = time.monotonic()
            start, descriptor, stop = run.file.documents(run.number)
            events = run.file.first_rows(run.number, self._pace.batch_size)
        if descriptor is None and (events or stop):
            raise EncodingError(f"the analysis run {run.uid} has no descriptor")
        if events and descriptor is not None:
            self._store.write(start, descriptor, events)
            self._stored(run, [event["data"]["frame"] for event in events], began)
        elif stop is not None and descriptor is not None:
            self._store.finish(start, descriptor, stop)
            self._finished(run)
        else:
            with (
                self.changed
            ):  # what was to be delivered is not there: counted wrong, by a file that another changed
                run.rows, run.came = 0, inf

    def _stored(self, run: WaitingRun, frames: Sequence[int], began: float) -> None:
        with self.changed:
            self._worked(run)
            if self._closed:
                return  # they stay in the file, and whoever delivers them again changes nothing
            run.file.remove_rows(run.number, frames)
            run.rows -= len(frames)
            if run.rows <= 0:
                run.came = inf
            elif len(frames) < self._pace.batch_size:
                run.came = began  # what is left came during the call
            self.tally.stored(len(frames), inherited=run.inherited)
            is_done_here = run.rows <= 0 and not run.open and not self.runs.has_another(run)
            self._settle(run)
        if is_done_here and not run.stopped:
            # An inherited part: whoever has the rest, or the stop, need not wait for our lease to run out.
            self._let_go(run.uid)

    def _finished(self, run: WaitingRun) -> None:
        with self.changed:
            self._worked(run)
            if self._closed:
                return
            told: list[Told] = []
            if run.rows <= 0:  # otherwise rows came during the call, and it has another turn
                again = self.runs.same_stops(run)
                self.files.over(run)
                with suppress(sqlite3.Error):  # those that are left have their turn
                    for other in again:
                        self.files.over(other)
                        self.files.settle(other)
                self.tally.stored_runs += 1
                told = self._told.pop(run.uid, [])
                self._told_why.pop(run.uid, None)
            self._settle(run)
        for call in told:
            try:
                call(run.uid)
            except Exception:  # whose fault it is does not matter: the rows of the other runs go on
                logger.exception("%r raised when told that %s is stored", call, run.uid)

    def _let_go(self, uid: str) -> None:
        if (let_go := getattr(self._store, "let_go", None)) is not None:
            try:
                let_go(uid)
            except Exception as error:  # noqa: BLE001 - the lease runs out by itself
                logger.info("run %s is not let go: %s", uid, _told_by(error))

    # -- failures ---------------------------------------------------------------------------------------------

    def _fails_alone(self, run: WaitingRun) -> bool:
        """Count a fault of the server over one run, and return whether it is over that alone: it takes others."""
        alone = run.calls_seen < self._calls_stored or self._takes_a_trial_run()
        run.faults_alone += alone
        run.calls_seen = self._calls_stored
        return alone

    def _takes_a_trial_run(self) -> bool:
        probe = getattr(self._store, "probe", None)
        if probe is None:
            return False
        try:
            probe()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is not to blame
            logger.debug("the store takes no trial run: %s", _told_by(error))
            return False
        return True

    def _failed_alone(self, run: WaitingRun, reason: str) -> None:
        """Let a run wait by itself: the others go on."""
        with self.changed:
            run.failures += 1
            run.not_before = time.monotonic() + self._pace.pause(run.failures, random.random())
            self.tally.store_failures += 1
            self.tally.tell()
            self.changed.notify_all()
        if run.faults_alone == 1:
            logger.warning("the catalog fails over analysis run %s alone (%s)", run.uid, reason)

    def _held_up(self, run: WaitingRun) -> None:
        """Let a run wait that another process writes: the store takes all others."""
        with self.changed:
            run.failures += 1
            run.not_before = time.monotonic() + self._pace.pause(run.failures, random.random())
            self.tally.store_failures += 1
            self.tally.tell()
            self.changed.notify_all()

    def _mention(self, writer: str) -> None:
        """Say once that somebody annotates the same frames, unless it was their last moments."""
        now = time.monotonic()
        if len(self._writers) >= _MOST_WRITERS:
            self._writers.clear()
        since = self._writers.setdefault(writer, now)
        if now - since >= _SECONDS_OF_TWO_WRITERS:
            self._writers[writer] = inf
            logger.warning(
                "%s annotates the same frames at the same time: a live session, or a daemon of another group or "
                "source. Each row is stored once; stop one of them to save its work",
                writer,
            )

    def _waits_for_neighbours(self, run: WaitingRun) -> bool:
        """Let the stop of a run wait for rows that may be in the file of another process; return whether it does."""
        with self.changed:
            run.faults_alone += 1
            if run.faults_alone >= self._pace.most_faults_alone or not self.files.has_neighbours():
                return False
            self.files.search_soon()
            run.failures += 1
            # Twice: at last longer than a lease lives that could not be given back, so that they can be written.
            run.not_before = time.monotonic() + 2 * self._pace.pause(run.failures, random.random())
            return True

    def _failed(self, run: WaitingRun, reason: str) -> None:
        with self.changed:
            now = time.monotonic()
            run.failures += 1
            run.not_before = now + self._pace.pause(run.failures, random.random())
            self._failures += 1
            self._not_before = now + self._pace.pause(self._failures, random.random())
            self._complain(logging.WARNING, f"the catalog does not take rows ({reason})")

    def _refused(self, reason: str) -> None:
        with self.changed:
            self._failures += 1
            self._not_before = time.monotonic() + self._pace.refused_pause
            self._complain(logging.ERROR, f"the catalog lets us write nothing ({reason})")

    def _complain(self, level: int, trouble: str) -> None:
        self.trouble = trouble
        self.tally.store_failures += 1
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + _SECONDS_BETWEEN_COMPLAINTS
            waiting = sum(run.rows for run in self.runs)
            logger.log(level, "%s; %d rows wait in the spool, and are delivered later", trouble, waiting)
        self.tally.tell()
        self.changed.notify_all()

    def _worked(self, run: WaitingRun) -> None:
        if self.trouble:
            logger.warning(
                "the catalog takes rows again; %d wait in the spool", sum(r.rows for r in self.runs)
            )
            for other in self.runs:
                if other.failures <= self._failures:  # one that failed more often does so by itself
                    other.not_before = -inf
        self.trouble = ""
        self._failures = run.failures = run.faults = run.faults_alone = 0
        self._calls_stored += 1
        self._not_before = run.not_before = -inf

    def _quarantine(self, run: WaitingRun, reason: str) -> None:
        logger.error(
            "analysis run %s is quarantined with %d rows in %s: %s; once the cause is mended, dvfb spool retry",
            run.uid,
            run.rows,
            run.file.path.parent,
            reason,
        )
        with self.changed:
            run.reason = reason
            if not self._closed:
                try:
                    run.file.quarantine(run.number, reason)
                except sqlite3.Error as error:  # a full disk: the next process finds the reason by itself
                    logger.error("the reason cannot be written down: %s", error)
            self.files.look_soon()
            self._settle(run)
        self.tell_of_refusal(run)

    def _settle(self, run: WaitingRun) -> None:
        self.files.settle(run)
        self.changed.notify_all()
