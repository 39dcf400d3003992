"""One thread that puts rows into frame order, composes analysis documents, and hands them to the sinks."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.callbacks.run_progress import AnalysisProgress, Refusal, RunProgress, Stop
from dvfb_stream.callbacks.storing_sinks import RefusingSink, StoringSink
from dvfb_stream.errors import RefusedDocumentError
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)

Sink = Callable[[str, dict[str, Any]], object]
"""Anything that takes Bluesky documents: `sink(name, doc)`; what it returns is ignored."""

_OVERFLOW = 10
"""Rows for which nobody can wait (those of dropped frames) may fill the backlog this many times over, and as many
may wait for the row of a frame before them. Beyond, sinks or the annotator have been stuck for so long that memory
matters more than the rows: the analysis run is abandoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """What became of the rows so far: those handed over are always the sum of the first three and `given_up_rows`.

    What storing sinks say is of all that they were given, by whomever; see `StoringSink`.
    """

    rows: int
    """Events offered to the sinks."""
    pending_rows: int
    """Rows that wait for the sinks, or for the row of a frame before them."""
    repeated_rows: int
    """Rows of frames that have theirs already: their raw run was delivered again."""
    given_up_rows: int
    """Rows given up because sinks were stuck, or because the writer was closed before them."""
    stored_rows: int
    """Rows that every storing sink has stored; where none is one, those offered."""
    spooled_rows: int
    """Rows that wait on the disk until a storing sink has stored them."""
    quarantined_rows: int
    """Rows on the disk that a catalog will not take as they are."""
    lost_rows: int
    """Rows given up, and those for which a storing sink had no room."""
    analysis_runs: int
    """Analysis runs whose stop was offered to the sinks."""
    sink_failures: int
    """Exceptions raised by sinks."""


class AnalysisWriter:
    """Hands analysis documents to sinks on one daemon thread.

    Documents of one analysis run come in order: start, descriptor, events by frame index, stop; those of several
    raw runs as their rows come. Each sink gets its own copy of each document. A sink that raises, whatever it is, is
    left out for the rest of that analysis run; the other sinks go on, and so does it with other runs. An annotation
    that cannot be written down becomes the row of a failed frame.

    Parameters
    ----------
    sinks
        Called as `sink(name, doc)`, from the writer's thread alone. A sink that hangs holds up the rows, not
        the scan.
    max_rows
        Rows that may wait for the sinks before `put` waits, and a tenth of those that may wait behind others.
    on_finished
        Called from the writer's thread, once a stop, with a raw run all of whose analysis runs have ended. Returns
        whether somebody wants to know when it is stored. Must not raise.
    on_stored
        Called with such a raw run once every sink has stored all its analysis runs: from the writer's thread, or that
        of a storing sink. Never where a sink refused a document or a row was lost. Must not raise.
    on_sink_failure
        Called from the writer's thread with what a sink raised, but not a `RefusedDocumentError`. Must not raise.
    on_refused
        Called in place of `on_stored` with a raw run of which a sink will not take an analysis run as it is, now or
        ever, once every other sink has stored it: `RunProgress.refusals` says why. Must not raise.
    on_row
        Called from the writer's thread after each row that every sink took. Must not raise.
    metrics
        The time of each document is added to it.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        max_rows: int,
        on_finished: Callable[[RunProgress], bool],
        on_stored: Callable[[RunProgress], None],
        on_sink_failure: Callable[[Exception], None],
        on_refused: Callable[[RunProgress], None] | None = None,
        on_row: Callable[[AnalysisProgress], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._sinks = tuple(sinks)
        self._max_rows = max_rows
        self._on_finished = on_finished
        self._on_row = on_row
        self._on_stored = on_stored
        self.stores = {number: sink for number, sink in enumerate(sinks) if isinstance(sink, StoringSink)}
        """The storing sinks, by their number among the sinks."""
        for store in self.stores.values():
            store.report_to(self._metrics)
        self._on_sink_failure = on_sink_failure
        self._on_refused = on_refused
        # Guards what follows, and all progress; held for moments.
        self._changed = threading.Condition(threading.Lock())
        # Rows whose turn it is, as they came; and raw runs that may have come to their end.
        self._due: deque[tuple[AnalysisProgress, Row]] = deque()
        self._to_end: dict[RunProgress, None] = {}
        self._early_rows = 0
        self._busy = self._writes = False  # at anything; at a row
        self._closed = self._cut_off = False
        self._begun_rows = self._done_rows = 0  # of those that were due, the abandoned ones included
        self._rows = self._lost_rows = self._repeated_rows = 0
        self._analysis_runs = self._sink_failures = 0
        self._thread = threading.Thread(target=self._work, name="dvfb-writer", daemon=True)
        self._thread.start()

    @property
    def is_waited_for(self) -> bool:
        """Whether a sink calls, or who is told what became of a run: who waited would wait for itself."""
        return threading.current_thread() is self._thread or any(
            store.is_waited_for for store in self.stores.values()
        )

    def put(self, progress: AnalysisProgress, row: Row, *, wait: bool) -> None:
        """Hand over a row; with `wait`, block while the sinks are behind by `max_rows`."""
        with self._changed:
            if wait:
                self._changed.wait_for(
                    lambda: self._closed or progress.abandoned or len(self._due) < self._max_rows
                )
            if self._closed or progress.abandoned:
                self._lose(1)
            elif row.index < progress.next_index or row.index in progress.early:
                self._repeated_rows += 1
            elif self._is_too_much(progress):
                is_behind = len(self._due) >= self._max_rows
                stuck = (
                    "sinks are" if is_behind else f"frame {progress.next_index} of the {progress.analysis} is"
                )
                self._abandon(progress, f"{stuck} stuck", lost=1)
            else:
                self._queue(progress, row)

    def catch_up(self) -> bool:
        """Block until the sinks and `on_row` are done with the rows whose turn it is now, or the writer is closed.

        Rows that come meanwhile do not prolong it. Not for the writer's own thread.

        Returns
        -------
        bool
            Whether rows are still taken: False once the writer is closed.
        """
        with self._changed:
            last = self._begun_rows + len(self._due)
            self._changed.wait_for(lambda: self._closed or self._done_rows >= last)
            return not self._closed

    def stop(self, run: RunProgress, counts: Mapping[tuple[str, str], int], time: float) -> None:
        """Say that the raw run has stopped at `time`, and its number of frames by stream and data key."""
        with self._changed:
            if not self._closed:
                run.pending_stop = Stop(counts, time)
                self._to_end[run] = None
                self._changed.notify_all()

    def abandon(self, run: RunProgress) -> None:
        """Say that the raw run is forgotten: nothing of it is kept for sinks that are stuck."""
        with self._changed:
            run.forgotten = True
            is_behind = len(self._due) >= self._max_rows
            for progress in run.analyses if is_behind else ():
                self._abandon(progress, "its raw run is forgotten, and sinks are stuck")
            if is_behind or not run.analyses:
                run.pending_stop = None
                self._to_end.pop(run, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything handed over is stored; return whether it is so within `timeout` seconds.

        Where a sink does not say when it has stored something, that it took it counts. False as well where rows were
        lost, now or earlier. Not for the writer's own thread.
        """
        left = countdown(timeout)
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle() or self._cut_off, timeout)
            if not self._is_idle() or self._cut_off:
                return False
        stored = [store.wait(left()) for store in self.stores.values()]
        with self._changed:
            return all(stored) and not self._lost_rows

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, offer what is there to the sinks within `timeout` seconds, end the thread.

        What the time did not suffice for is lost, and counted; its analysis runs stay without a stop, which is
        how a replay knows that rows are missing. With None, waits as long as the sinks take, for ever where one
        hangs. Not for the writer's own thread.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            lost = self._early_rows + len(self._due)
            if lost or self._to_end:
                logger.warning("closing within %s s: the sinks miss %d rows", timeout, lost)
                self._cut_off = True
                self._lose(lost)
                self._early_rows = 0
                self._due.clear()
                self._to_end.clear()
                self._changed.notify_all()

    def stats(self) -> WriterStats:
        """Return what became of the rows so far; what the writer counts is of one moment."""
        counts = [store.stats() for store in self.stores.values()]
        with self._changed:
            return WriterStats(
                rows=self._rows,
                pending_rows=len(self._due) + self._early_rows + self._writes,
                repeated_rows=self._repeated_rows,
                given_up_rows=self._lost_rows,
                stored_rows=min((count.stored_rows for count in counts), default=self._rows),
                spooled_rows=max((count.spooled_rows for count in counts), default=0),
                quarantined_rows=max((count.quarantined_rows for count in counts), default=0),
                lost_rows=self._lost_rows + max((count.lost_rows for count in counts), default=0),
                analysis_runs=self._analysis_runs,
                sink_failures=self._sink_failures,
            )

    # -- under the lock ------------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        return not (self._due or self._to_end or self._busy)

    def _is_too_much(self, progress: AnalysisProgress) -> bool:
        """Whether nothing more can be kept for the sinks, or behind the row of a frame that does not come."""
        for_sinks = self._max_rows * (1 if progress.run.forgotten else _OVERFLOW)
        return len(self._due) >= for_sinks or len(progress.early) >= self._max_rows * _OVERFLOW

    def _queue(self, progress: AnalysisProgress, row: Row) -> None:
        """Let a row wait for its predecessors, or for the sinks together with those that waited for it."""
        progress.early[row.index] = row
        self._early_rows += 1
        while (ready := progress.early.pop(progress.next_index, None)) is not None:
            progress.next_index += 1
            self._early_rows -= 1
            self._due.append((progress, ready))
        self._changed.notify_all()

    def _lose(self, rows: int) -> None:
        self._lost_rows += rows
        self._metrics.add(catalogue.LOST_ROWS, rows)

    def _abandon(self, progress: AnalysisProgress, reason: str, *, lost: int = 0) -> None:
        """Lose the rows of an analysis run, and let its raw run come to its end without them."""
        logger.error("%s: the %s is abandoned, without a stop", reason, progress.analysis)
        progress.abandoned = progress.run.broken = True
        self._lose(lost)
        if self._cut_off:
            return  # those that waited are counted
        others = deque(entry for entry in self._due if entry[0] is not progress)
        gone = len(self._due) - len(others)
        self._begun_rows += gone
        self._done_rows += gone
        self._lose(gone + len(progress.early))
        self._early_rows -= len(progress.early)
        self._due = others
        progress.early.clear()
        if progress.run.pending_stop is not None:
            self._to_end[progress.run] = None
        self._changed.notify_all()

    # -- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (todo := self._next()) is not None:
            run, progress, row = todo
            try:
                if progress is not None and row is not None:
                    self._write(progress, row)
                self._end_what_is_complete(run)
            except BaseException:  # a fault of ours with one run must not end the rows of all others
                logger.exception("writing analysis documents failed")
            finally:
                with self._changed:
                    self._busy = False
                    self._done_rows += row is not None
                    self._changed.notify_all()

    def _next(self) -> tuple[RunProgress, AnalysisProgress | None, Row | None] | None:
        """Wait for a row, or a run that may have ended; None once the writer is closed and has nothing to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._to_end or self._closed)
            self._busy = bool(self._due or self._to_end)
            if self._to_end:
                run = next(iter(self._to_end))
                del self._to_end[run]
                return run, None, None
            if not self._due:
                return None
            progress, row = self._due.popleft()
            self._writes = True
            self._begun_rows += 1
            self._changed.notify_all()
            return progress.run, progress, row

    def _write(self, progress: AnalysisProgress, row: Row) -> None:
        try:
            event = _event(progress.analysis, row)
            self._announce(progress)
            self._emit(progress, "event", event)
        except BaseException:  # no sink's, which are caught where they are called
            logger.exception("frame %d of the %s gets no row", row.index, progress.analysis)
            with self._changed:
                self._writes = False
                self._abandon(progress, "a row could not be composed", lost=1)
            return
        with self._changed:
            self._writes = False
            self._rows += 1
            progress.written += 1
        if self._on_row is not None and not progress.run.broken:
            self._on_row(progress)

    def _announce(self, progress: AnalysisProgress) -> None:
        if not progress.announced:
            progress.announced = True
            self._emit(progress, "start", progress.analysis.start())
            self._emit(progress, "descriptor", progress.analysis.descriptor())

    def _end_what_is_complete(self, run: RunProgress) -> None:
        """Write the stops that are due; tell who wants to know once all analysis runs have ended."""
        stop = run.pending_stop
        if stop is None or self._cut_off:
            return
        for progress in tuple(run.analyses):
            key = (progress.analysis.stream, progress.analysis.data_key)
            is_complete = progress.written >= stop.frames.get(key, 0)
            if is_complete and not progress.ended and not progress.abandoned:
                progress.ended = True
                self._write_stop(progress, stop.time)
        with self._changed:
            if not all(one.ended or one.abandoned for one in run.analyses):
                return
            run.pending_stop = None
        wanted = self._on_finished(run)
        with self._changed:
            run.offered = wanted
        self._tell_of_end(run)

    def _was_stored(self, progress: AnalysisProgress, sink: int, uid: str) -> None:
        self._settled(progress, sink)

    def _was_refused(self, progress: AnalysisProgress, sink: int, uid: str, reason: str) -> None:
        self._settled(progress, sink, refused=reason)

    def _settled(self, progress: AnalysisProgress, sink: int, refused: str = "") -> None:
        """On the thread of a storing sink: it has one analysis run with its stop, or will not take it as it is."""
        run = progress.run
        with self._changed:
            if sink in progress.settled_sinks:
                return  # somebody mended what was refused
            progress.settled_sinks.add(sink)
            run.unstored -= 1
            if refused:
                run.refusals.append(Refusal(progress.analysis, refused))
        self._tell_of_end(run)

    def _tell_of_end(self, run: RunProgress) -> None:
        """Tell who wants to know that every sink has stored a run, or refused it for good."""
        with self._changed:
            if not run.offered or run.unstored or run.broken:
                return
            run.offered = False  # it is told once
            refused = bool(run.refusals)
        if not refused:
            self._on_stored(run)
        elif self._on_refused is not None:
            self._on_refused(run)

    def _write_stop(self, progress: AnalysisProgress, time: float) -> None:
        run = progress.run
        try:
            # Where all rows were written by a process before this one, it was not.
            self._announce(progress)
            for number in self.stores.keys() - progress.failed_sinks:
                with self._changed:
                    run.unstored += 1
                store, uid = self.stores[number], progress.analysis.uid
                store.tell_when_stored(uid, partial(self._was_stored, progress, number))
                if isinstance(store, RefusingSink):
                    store.tell_when_refused(uid, partial(self._was_refused, progress, number))
            self._emit(progress, "stop", progress.analysis.stop(time))
        except BaseException:  # as with a row
            logger.exception("the %s gets no stop", progress.analysis)
            run.broken = True
            return
        with self._changed:
            self._analysis_runs += 1

    def _emit(self, progress: AnalysisProgress, name: str, doc: dict[str, Any]) -> None:
        started = time.monotonic()
        takers = [number for number in range(len(self._sinks)) if number not in progress.failed_sinks]
        # Before any sink is called: that a document cannot be copied is no sink's fault.
        copies = [copy.deepcopy(doc) for _ in takers]
        for number, own in zip(takers, copies, strict=True):
            try:
                self._sinks[number](name, own)
            except RefusedDocumentError as error:
                logger.error(
                    "the sink %r will not take a document (%s) of the %s: %s",
                    self._sinks[number], name, progress.analysis, error,
                )  # fmt: skip
                progress.failed_sinks.add(number)
                with self._changed:
                    self._sink_failures += 1
                    progress.run.refusals.append(Refusal(progress.analysis, str(error)))
            except BaseException as error:  # SystemExit must not end the thread
                logger.exception(
                    "the sink %r did not take a document (%s) of the %s",
                    self._sinks[number],
                    name,
                    progress.analysis,
                )
                progress.failed_sinks.add(number)
                progress.run.broken = True
                with self._changed:
                    self._sink_failures += 1
                self._on_sink_failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self._metrics.observe(catalogue.STAGE_SECONDS, time.monotonic() - started, Stage.WRITE)


def countdown(timeout: float | None) -> Callable[[], float | None]:
    """Return what tells how much is left of a timeout that several waits share."""
    if timeout is None:
        return lambda: None
    end = time.monotonic() + timeout
    return lambda: max(0.0, end - time.monotonic())


def _event(analysis: AnalysisRun, row: Row) -> dict[str, Any]:
    """Return the event of a row; one that says why, where the annotation cannot be written down."""
    try:
        return analysis.event(row)
    except BaseException as error:  # whatever is in there costs its own row
        logger.exception("the annotation of frame %d of the %s cannot be written down", row.index, analysis)
        failed = Annotation.failed(
            f"the annotation cannot be written down: {type(error).__name__}: {error}",
            model=row.annotation.model,
            origin=row.annotation.origin,
        )
        return analysis.event(replace(row, annotation=failed))
