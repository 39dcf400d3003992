"""One thread that puts rows into frame order, composes analysis documents, and hands them to the sinks."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.callbacks.analysis_run import AnalysisRun, Row
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)

Sink = Callable[[str, dict[str, Any]], object]
"""Anything that takes Bluesky documents: `sink(name, doc)`; what it returns is ignored."""

_OVERFLOW = 10
"""Rows for which nobody can wait (those of dropped frames) may fill the backlog this many times over, and as many
may wait for the row of a frame before them. Beyond, sinks or the annotator have been stuck for so long that memory
matters more than the rows: the run is given up."""


@dataclass(slots=True, eq=False)
class RunProgress:
    """How far the analysis runs of one raw run have come."""

    raw_uid: str
    analyses: list[AnalysisProgress] = field(default_factory=list)
    stopped_at: float | None = None
    """Time of the raw stop, once that came."""
    broken: bool = False
    """A document did not reach every sink, or a row was lost: the run will never be called stored."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStats:
    """What became of the rows so far."""

    rows: int
    """Events offered to the sinks."""
    pending_rows: int
    """Rows that wait for the sinks."""
    lost_rows: int
    """Rows given up because sinks were stuck, or because the writer was closed before them."""
    analysis_runs: int
    """Analysis runs whose stop was offered to the sinks."""
    sink_failures: int
    """Exceptions raised by sinks."""


class AnalysisWriter:
    """Hands analysis documents to sinks on one daemon thread.

    Documents of one analysis run come in order: start, descriptor, events by frame index, stop. Each sink gets
    its own copy of each document. A sink that raises is left out for the rest of that analysis run; the other
    sinks go on, and so does it with other runs.

    Parameters
    ----------
    sinks
        Called as `sink(name, doc)`, from the writer's thread alone. A sink that hangs holds up the rows, not
        the scan.
    max_rows
        Rows that may wait for the sinks before `put` waits.
    on_finished
        Called from the writer's thread with a raw run all of whose analysis runs have ended. Must not raise.
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
        self._changed = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._busy = False
        self._closed = False
        self._rows = self._lost_rows = self._analysis_runs = self._sink_failures = 0
        self._thread = threading.Thread(target=self._work, name="dvfb-writer", daemon=True)
        self._thread.start()

    def put(self, progress: AnalysisProgress, row: Row, *, wait: bool) -> None:
        """Hand over a row; with `wait`, block while the sinks are behind by `max_rows`."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or len(self._tasks) < self._max_rows)
            if self._closed:
                self._lost_rows += 1
            elif len(self._tasks) < self._max_rows * _OVERFLOW:
                self._append(lambda: self._add(progress, row))
            else:
                self._lost_rows += 1
                if not progress.given_up:
                    logger.error("sinks are stuck: the %s is given up, without a stop", progress.analysis)
                    progress.given_up = progress.run.broken = True
                    self._append(lambda: self._end_what_is_complete(progress.run))

    def stop(self, run: RunProgress, counts: Mapping[tuple[str, str], int], time: float) -> None:
        """Say that the raw run has stopped at `time`, and its number of frames by stream and data key."""
        with self._changed:
            if not self._closed:
                self._append(lambda: self._stop(run, counts, time))

    def restart(self, run: RunProgress) -> None:
        """Say that the raw run is being delivered again from its start; rows already written are not repeated."""
        with self._changed:
            if not self._closed:
                self._append(lambda: self._restart(run))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything handed over was offered to the sinks; return whether it came in time."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, offer what is there to the sinks within `timeout` seconds, end the thread.

        What the time did not suffice for is lost, and counted; its analysis runs stay without a stop, which is
        how a replay knows that rows are missing.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if not self._changed.wait_for(self._is_idle, timeout):
                logger.warning("closing after %s s: the sinks miss %d documents", timeout, len(self._tasks))
                self._lost_rows += len(self._tasks)
                self._tasks.clear()
                return
        self._thread.join(timeout)

    def stats(self) -> WriterStats:
        """Return what became of the rows so far, all numbers of one moment."""
        with self._changed:
            return WriterStats(
                rows=self._rows,
                pending_rows=len(self._tasks),
                lost_rows=self._lost_rows,
                analysis_runs=self._analysis_runs,
                sink_failures=self._sink_failures,
            )

    def _is_idle(self) -> bool:
        return not self._tasks and not self._busy

    def _append(self, task: Callable[[], None]) -> None:
        self._tasks.append(task)
        self._changed.notify_all()

    # -- the thread; progress is touched here alone, but for `given_up` and `broken`, which only become true --

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closed)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
                self._busy = True
                self._changed.notify_all()
            try:
                task()
            except Exception:  # a fault of ours with one run must not end the rows of all others
                logger.exception("writing analysis documents failed")
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _add(self, progress: AnalysisProgress, row: Row) -> None:
        if progress.given_up or row.index < progress.next_index:
            return  # a raw run that is delivered again gives its rows again
        progress.early.setdefault(row.index, row)
        if len(progress.early) > self._max_rows * _OVERFLOW:
            logger.error(
                "frame %d of the %s is stuck: it is given up", progress.next_index, progress.analysis
            )
            with self._changed:
                self._lost_rows += len(progress.early)
            progress.early.clear()
            progress.given_up = progress.run.broken = True
            self._end_what_is_complete(progress.run)
            return
        while (row_in_turn := progress.early.pop(progress.next_index, None)) is not None:
            try:
                event = progress.analysis.event(row_in_turn)
            except Exception:  # what the annotator returned cannot be written down
                logger.exception("frame %d of the %s gets no row", row_in_turn.index, progress.analysis)
                progress.given_up = progress.run.broken = True
                break
            if progress.next_index == 0:
                self._emit(progress, "start", progress.analysis.start())
                self._emit(progress, "descriptor", progress.analysis.descriptor())
            self._emit(progress, "event", event)
            progress.next_index += 1
            with self._changed:
                self._rows += 1
        self._end_what_is_complete(progress.run)

    def _stop(self, run: RunProgress, counts: Mapping[tuple[str, str], int], time: float) -> None:
        run.stopped_at = time
        for progress in run.analyses:
            progress.expected = counts.get((progress.analysis.stream, progress.analysis.data_key), 0)
        self._end_what_is_complete(run)

    def _restart(self, run: RunProgress) -> None:
        run.stopped_at = None
        for progress in run.analyses:
            progress.expected = None

    def _end_what_is_complete(self, run: RunProgress) -> None:
        if run.stopped_at is None:
            return
        for progress in run.analyses:
            complete = progress.expected is not None and progress.next_index >= progress.expected
            if complete and not progress.ended and not progress.given_up:
                self._emit(progress, "stop", progress.analysis.stop(run.stopped_at))
                with self._changed:
                    self._analysis_runs += 1
            progress.ended = progress.ended or complete or progress.given_up
        if all(progress.ended for progress in run.analyses):
            self._on_finished(run)

    def _emit(self, progress: AnalysisProgress, name: str, doc: dict[str, Any]) -> None:
        started = time.monotonic()
        self._offer(progress, name, doc)
        self._metrics.observe(catalogue.STAGE_SECONDS, time.monotonic() - started, Stage.WRITE)

    def _offer(self, progress: AnalysisProgress, name: str, doc: dict[str, Any]) -> None:
        for number, sink in enumerate(self._sinks):
            if number in progress.deserted_by:
                continue
            try:
                sink(name, copy.deepcopy(doc))
            except Exception as error:
                logger.exception(
                    "the sink %r did not take a document (%s) of the %s", sink, name, progress.analysis
                )
                progress.deserted_by.add(number)
                progress.run.broken = True
                with self._changed:
                    self._sink_failures += 1
                self._on_sink_failure(error)
