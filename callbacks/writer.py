"""One thread that puts rows into frame order, composes analysis documents, and hands them to the sinks."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks.analysis_run import AnalysisRun, Row
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)

Sink = Callable[[str, dict[str, Any]], object]
"""Anything that takes Bluesky documents: `sink(name, doc)`; what it returns is ignored."""

_OVERFLOW = 10
"""Rows for which nobody can wait (those of dropped frames) may fill the backlog this many times over, and as many
may wait for the row of a frame before them. Beyond, sinks or the annotator have been stuck for so long that memory
matters more than the rows: the run is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """What became of the rows so far: those handed over are always the sum of the first four."""

    rows: int
    """Events offered to the sinks."""
    pending_rows: int
    """Rows that wait for the sinks, or for the row of a frame before them."""
    lost_rows: int
    """Rows given up because sinks were stuck, or because the writer was closed before them."""
    repeated_rows: int
    """Rows of frames that have theirs already: their raw run was delivered again."""
    analysis_runs: int
    """Analysis runs whose stop was offered to the sinks."""
    sink_failures: int
    """Exceptions raised by sinks."""


@dataclass(slots=True, eq=False)
class RunProgress:
    """How far the analysis runs of one raw run have come."""

    raw_uid: str
    analyses: list[AnalysisProgress] = field(default_factory=list)
    stopped_at: float | None = None
    """Time of the raw stop, from when that came until its end was told."""
    broken: bool = False
    """A document did not reach every sink, or a row was lost: the run will never be called stored."""
    abandoned: bool = False
    """Nobody knows it any more: its rows are taken only as long as the sinks keep up."""
    rows: deque[tuple[AnalysisProgress, Row]] = field(default_factory=deque)
    """Those that wait for the sinks."""
    news: Callable[[], None] | None = None
    """What is to be done about its last stop or restart; the one that comes later makes the earlier void."""


@dataclass(slots=True, eq=False)
class AnalysisProgress:
    """How far one analysis run has come."""

    analysis: AnalysisRun
    run: RunProgress
    next_index: int = 0
    early: dict[int, Row] = field(default_factory=dict)
    """Rows that came before a predecessor of theirs: batches of several geometries overtake one another."""
    expected: int | None = None
    """How many frames it has; known once the raw run has stopped."""
    ended: bool = False
    """It had its stop, or was given up."""
    given_up: bool = False
    """A row was lost: no further rows, and no stop, so that a replay sees that rows are missing."""
    deserted_by: set[int] = field(default_factory=set)
    """Numbers of the sinks that raised: they get nothing more of this analysis run, its stop least of all,
    which would make an incomplete run look complete."""


class AnalysisWriter:
    """Hands analysis documents to sinks on one daemon thread.

    Documents of one analysis run come in order: start, descriptor, events by frame index, stop; those of several
    raw runs as their rows come. Each sink gets its own copy of each document. A sink that raises, whatever it is, is
    left out for the rest of that analysis run; the other sinks go on, and so does it with other runs. An annotation
    that cannot be written down becomes the row of a failed frame.

    A sink may call `wait` and `close`: they return at once, as the thread that calls would wait for itself. They may
    be called by the handler of a signal, with a timeout: what that interrupts may hold up the thread.

    Parameters
    ----------
    sinks
        Called as `sink(name, doc)`, from the writer's thread alone. A sink that hangs holds up the rows, not
        the scan.
    max_rows
        Rows that may wait for the sinks before `put` waits.
    on_finished
        Called from the writer's thread, once a stop, with a raw run all of whose analysis runs have ended. Must not
        raise.
    on_sink_failure
        Called from the writer's thread with what a sink raised. Must not raise.
    metrics
        The time of each document is added to it.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        max_rows: int,
        on_finished: Callable[[RunProgress], None],
        on_sink_failure: Callable[[Exception], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._sinks = tuple(sinks)
        self._max_rows = max_rows
        self._on_finished = on_finished
        self._on_sink_failure = on_sink_failure
        # Guards what follows, and all rows; held for moments. Reentrant, as the handler of a signal may interrupt
        # the thread that holds it.
        self._changed = threading.Condition(threading.RLock())
        # Raw runs with something to do, in the order in which it came: once for each row, and once for news. At least
        # as often as they have any.
        self._due: deque[RunProgress] = deque()
        self._waiting_rows = self._early_rows = 0
        self._busy = self._writes = False  # at anything; at a row
        self._closed = self._gave_up = self._ended = False
        self._rows = self._lost_rows = self._repeated_rows = 0
        self._analysis_runs = self._sink_failures = 0
        self._thread = threading.Thread(target=self._work, name="dvfb-writer", daemon=True)
        self._thread.start()

    @property
    def is_waited_for(self) -> bool:
        """Whether the thread that calls is the writer's: a sink, or who is told of its failure."""
        return threading.current_thread() is self._thread

    def put(self, progress: AnalysisProgress, row: Row, *, wait: bool) -> None:
        """Hand over a row; with `wait`, block while the sinks are behind by `max_rows`."""
        run = progress.run
        with self._changed:
            if wait:
                self._changed.wait_for(
                    lambda: self._closed or progress.given_up or self._waiting_rows < self._max_rows
                )
            if self._closed or progress.given_up:
                self._lost_rows += 1
            elif self._waiting_rows < self._max_rows * (1 if run.abandoned else _OVERFLOW):
                run.rows.append((progress, row))
                self._waiting_rows += 1
                self._due.append(run)
                self._changed.notify_all()
            else:
                self._lost_rows += 1
                logger.error("sinks are stuck: the %s is given up, without a stop", progress.analysis)
                self._give_up(progress)

    def stop(self, run: RunProgress, counts: Mapping[tuple[str, str], int], time: float) -> None:
        """Say that the raw run has stopped at `time`, and its number of frames by stream and data key."""
        self._tell(run, partial(self._stop, run, counts, time))

    def restart(self, run: RunProgress) -> None:
        """Say that the raw run is being delivered again from its start; rows already written are not repeated."""
        self._tell(run, partial(self._restart, run))

    def abandon(self, run: RunProgress) -> None:
        """Say that the raw run is forgotten: nothing of it is kept for sinks that are stuck."""
        with self._changed:
            run.abandoned = True
            is_behind = self._waiting_rows >= self._max_rows
            for progress in run.analyses if is_behind else ():
                self._give_up(progress)
            if is_behind or not run.analyses:
                run.news = None
                self._due = deque(other for other in self._due if other is not run)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything handed over was offered to the sinks; return whether it came in time.

        False as well where rows were lost, now or earlier.
        """
        with self._changed:
            if self.is_waited_for:
                return False
            self._changed.wait_for(lambda: self._is_idle() or self._gave_up, timeout)
            return self._is_idle() and not self._gave_up and not self._lost_rows

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, offer what is there to the sinks within `timeout` seconds, end the thread.

        What the time did not suffice for is lost, and counted; its analysis runs stay without a stop, which is
        how a replay knows that rows are missing. With None, waits as long as the sinks take, for ever where one
        hangs.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self.is_waited_for:
                return
            # Not a join of the thread: that would hold the lock where this interrupts who holds it.
            self._changed.wait_for(lambda: self._ended, timeout)
            lost = self._early_rows + self._waiting_rows
            if lost or self._due:
                logger.warning("closing within %s s: the sinks miss %d rows", timeout, lost)
                self._gave_up = True
                self._lost_rows += lost
                self._early_rows = self._waiting_rows = 0
                for run in set(self._due):
                    run.rows.clear()
                self._due.clear()
                self._changed.notify_all()

    def stats(self) -> WriterStats:
        """Return what became of the rows so far, all numbers of one moment."""
        with self._changed:
            return WriterStats(
                rows=self._rows,
                pending_rows=self._waiting_rows + self._early_rows + self._writes,
                lost_rows=self._lost_rows,
                repeated_rows=self._repeated_rows,
                analysis_runs=self._analysis_runs,
                sink_failures=self._sink_failures,
            )

    # -- under the lock ------------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        return not self._due and not self._busy

    def _tell(self, run: RunProgress, news: Callable[[], None]) -> None:
        with self._changed:
            if not self._closed:
                if run.news is None:
                    self._due.append(run)
                run.news = news
                self._changed.notify_all()

    def _give_up(self, progress: AnalysisProgress) -> None:
        """Lose the rows of an analysis run, and let its raw run come to its end without them."""
        run = progress.run
        progress.given_up = run.broken = True
        if self._gave_up:
            return
        others = deque(entry for entry in run.rows if entry[0] is not progress)
        lost = len(run.rows) - len(others)
        run.rows = others
        self._waiting_rows -= lost
        self._early_rows -= len(progress.early)
        self._lost_rows += lost + len(progress.early)
        progress.early.clear()
        # Of those that were due for its rows none is left over, or stuck sinks would let them grow without bound.
        self._due = deque(other for other in self._due if other is not run)
        self._due.extend([run] * (len(run.rows) + 1))
        self._changed.notify_all()

    # -- the thread: all else of the progress is touched here alone ------------------------------------------

    def _work(self) -> None:
        while (due := self._next()) is not None:
            try:
                self._serve(*due)
            except BaseException:  # a fault of ours with one run must not end the rows of all others
                logger.exception("writing analysis documents failed")
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _next(self) -> tuple[RunProgress, Callable[[], None] | None] | None:
        """Wait for a run with something to do, and its news; None once the writer is closed and has nothing to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closed)
            if not self._due:
                return None
            run = self._due.popleft()
            self._busy = True
            news, run.news = run.news, None
            if run.rows:
                self._waiting_rows -= 1
                self._take(*run.rows.popleft())
            self._changed.notify_all()
            return run, news

    def _serve(self, run: RunProgress, news: Callable[[], None] | None) -> None:
        if news is not None:
            news()
        for progress in tuple(run.analyses):
            while (row := self._next_row(progress)) is not None:
                self._write(progress, row)
        self._end_what_is_complete(run)

    def _take(self, progress: AnalysisProgress, row: Row) -> None:
        """Put a row where its turn finds it; under the lock."""
        if row.index < progress.next_index or row.index in progress.early:
            self._repeated_rows += 1
            return
        progress.early[row.index] = row
        self._early_rows += 1
        if len(progress.early) > self._max_rows * _OVERFLOW:
            logger.error(
                "frame %d of the %s is stuck: it is given up", progress.next_index, progress.analysis
            )
            self._give_up(progress)

    def _next_row(self, progress: AnalysisProgress) -> Row | None:
        with self._changed:
            row = None if self._gave_up else progress.early.pop(progress.next_index, None)
            if row is not None:
                self._early_rows -= 1
                self._writes = True
            return row

    def _write(self, progress: AnalysisProgress, row: Row) -> None:
        try:
            event = _event(progress.analysis, row)
            if progress.next_index == 0:
                self._emit(progress, "start", progress.analysis.start())
                self._emit(progress, "descriptor", progress.analysis.descriptor())
            self._emit(progress, "event", event)
        except BaseException:  # no sink's, which are caught where they are called
            logger.exception("frame %d of the %s gets no row: it is given up", row.index, progress.analysis)
            with self._changed:
                self._writes = False
                self._lost_rows += 1
                self._give_up(progress)
            return
        with self._changed:
            self._writes = False
            self._rows += 1
            progress.next_index += 1

    def _stop(self, run: RunProgress, counts: Mapping[tuple[str, str], int], time: float) -> None:
        run.stopped_at = time
        for progress in run.analyses:
            progress.expected = counts.get((progress.analysis.stream, progress.analysis.data_key), 0)

    def _restart(self, run: RunProgress) -> None:
        run.stopped_at = None
        for progress in run.analyses:
            progress.expected = None

    def _end_what_is_complete(self, run: RunProgress) -> None:
        if run.stopped_at is None or self._gave_up:
            return
        for progress in run.analyses:
            complete = progress.expected is not None and progress.next_index >= progress.expected
            if complete and not progress.ended and not progress.given_up:
                self._write_stop(progress, run.stopped_at)
            progress.ended = progress.ended or complete or progress.given_up
        if all(progress.ended for progress in run.analyses):
            run.stopped_at = None
            self._on_finished(run)

    def _write_stop(self, progress: AnalysisProgress, time: float) -> None:
        try:
            self._emit(progress, "stop", progress.analysis.stop(time))
        except BaseException:  # as with a row
            logger.exception("the %s gets no stop", progress.analysis)
            progress.run.broken = True
            return
        with self._changed:
            self._analysis_runs += 1

    def _emit(self, progress: AnalysisProgress, name: str, doc: dict[str, Any]) -> None:
        started = time.monotonic()
        # Before any sink is called: that a document cannot be copied is no sink's fault.
        copies = {
            number: copy.deepcopy(doc)
            for number in range(len(self._sinks))
            if number not in progress.deserted_by
        }
        for number, own in copies.items():
            try:
                self._sinks[number](name, own)
            except BaseException as error:  # noqa: BLE001 - logged there; SystemExit must not end the thread
                self._desert(progress, number, name, error)
        self._metrics.observe(catalogue.STAGE_SECONDS, time.monotonic() - started, Stage.WRITE)

    def _desert(self, progress: AnalysisProgress, number: int, name: str, error: BaseException) -> None:
        logger.exception(
            "the sink %r did not take a document (%s) of the %s", self._sinks[number], name, progress.analysis
        )
        progress.deserted_by.add(number)
        progress.run.broken = True
        with self._changed:
            self._sink_failures += 1
        self._on_sink_failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))


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
