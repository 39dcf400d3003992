"""documents -> frames -> worker -> analysis documents -> sinks: the flow that every front of the house shares."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from dvfb_stream.callbacks.analysis_run import provenance_of
from dvfb_stream.callbacks.descriptor import GeometryProvider
from dvfb_stream.callbacks.document_intake import DocumentIntake
from dvfb_stream.callbacks.documents import Document
from dvfb_stream.callbacks.latest import LatestAnnotations
from dvfb_stream.callbacks.pipeline_stats import PipelineStats
from dvfb_stream.callbacks.pixel_reader import PixelReader
from dvfb_stream.callbacks.row_maker import RowMaker
from dvfb_stream.callbacks.runs import OpenRuns
from dvfb_stream.callbacks.writer import AnalysisWriter, RunProgress, Sink
from dvfb_stream.errors import SettingsError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import FrameReader
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy, SupportsAnnotate, Worker

__all__ = ["AnnotationPipeline", "PipelineStats"]

logger = logging.getLogger(__name__)

_News = TypeVar("_News")

FRAMES_AHEAD = 4
"""Frames for which memory is ready beforehand."""


def frame_memory(max_bytes: int) -> FrameMemory:
    """Return memory for the frames of a queue that is bounded by `max_bytes`."""
    return FrameMemory(max_bytes // 4, ahead=FRAMES_AHEAD)


class AnnotationPipeline:
    """Takes Bluesky documents, and gives analysis documents to sinks while the raw run is still going.

    Call it with every document of every raw run: `pipeline(name, doc)`. Runs may be interleaved. It never raises: a
    document that is malformed, or belongs to no known run, is logged and counted, and the summaries of its run count
    it where it may have had frames. For each data key with frames there is one analysis run; every frame gets exactly
    one row in it, in the order of the frames. It ends after the raw stop, however the raw run ended. A raw run
    without frames has no analysis run.

    Documents of a run may come in any order, and more than once. One that names another waits for it, see
    `DocumentIntake`; frames that none announces, though some announce frames after them, have rows that say so.

    A raw run that is delivered again from its start, while it is open, is counted from the start again: no row is
    written twice. After a sink failed during a run, that run must be delivered once more after its stop.

    Threads: documents come in on the caller's; files are read, frames annotated and sinks called on others. Under
    `FullQueuePolicy.BLOCK` a call waits while the queue, or the backlog of a slow sink, is full; under the other
    policies it never waits. Pixels inside a document that somebody else could write to are copied during the call;
    those in files wait there until the worker has room.

    Parameters
    ----------
    annotator
        Called from the worker's thread alone. Its `provenance()`, where it has one, goes into the start
        document of each analysis run.
    sinks
        Called as `sink(name, doc)` from one thread, in document order within an analysis run. Each gets its
        own copies. One that raises gets nothing more of that analysis run; the others go on.
    detectors
        Geometry of each data key that holds frames, or what finds it in the run's documents; other data keys are
        left alone, and the log says so once where a stream has images under others only. None: whatever looks like
        an image gets rows that say which geometry is missing, and how to give it.
    files
        What opens the files that documents speak of; closed with the pipeline. None: with the handlers that
        packages register.
    root_map
        Other places for the folders that documents name: ``{"/ioc/data": "/mnt/data"}``.
    patience
        Seconds that a frame's file may be late before the frame gets a row that says so.
    policy, batch_size, max_wait, max_frames, max_bytes
        See `dvfb_stream.worker.Worker`.
    max_rows
        Rows that may wait for the sinks before annotating waits.
    max_open_runs
        Raw runs open at a time; of more, or where 256 MB of their documents would be kept, the one that began first
        is abandoned (its rows so far are kept, it gets no stop). Bounds what runs without a stop would fill.
    on_run_stored
        Called with a raw run's uid, once, after every sink has accepted the stop documents of all its analysis
        runs; at the raw stop, where it had no frames. Never for a run of which a sink refused a document.
        From the writer's thread.
    on_sink_failure
        Called with what a sink raised. From the writer's thread, too.
    memory
        Where pixels of waiting frames are copied to, as `frame_memory` makes it; closed with the pipeline. None: one
        of its own.
    head_start
        Seconds that whoever hands over a document has before idle threads begin with its frames.
    metrics
        What is counted and timed is added to it; see `dvfb_stream.metrics`. None: to one of its own.

    Raises
    ------
    SettingsError
        When a bound is not positive, a sink cannot be called, or a detector's geometry is none.
    """

    def __init__(
        self,
        annotator: SupportsAnnotate,
        *,
        sinks: Sequence[Sink],
        detectors: Mapping[str, Geometry | GeometryProvider] | None = None,
        files: FrameReader | None = None,
        root_map: Mapping[str, str] | None = None,
        patience: float = 30.0,
        policy: FullQueuePolicy = FullQueuePolicy.BLOCK,
        batch_size: int = 16,
        max_wait: float = 0.2,
        max_frames: int = 256,
        max_bytes: int = 1 << 30,
        max_rows: int = 10_000,
        max_open_runs: int = 1_000,
        on_run_stored: Callable[[str], None] | None = None,
        on_sink_failure: Callable[[Exception], None] | None = None,
        memory: FrameMemory | None = None,
        head_start: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        for name, value in (("max_rows", max_rows), ("max_open_runs", max_open_runs)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, not {value}")
        if not isinstance(sinks, Sequence) or not all(callable(sink) for sink in sinks):
            raise SettingsError(
                f"sinks must be a list of what can be called as sink(name, doc), not {sinks!r}"
            )
        for key, geometry in (detectors or {}).items():
            if not isinstance(geometry, Geometry) and not callable(getattr(geometry, "geometry_in", None)):
                raise SettingsError(f"detectors[{key!r}] must be a Geometry, or find one, not {geometry!r}")
        self.metrics = Metrics() if metrics is None else metrics
        """What is counted and timed here."""
        self.annotations = LatestAnnotations()
        """What was annotated last of each data key."""
        self._on_run_stored = on_run_stored
        self._on_sink_failure = on_sink_failure
        self._closed = False
        # Guards what follows. Reentrant, as the handler of a signal may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._stored_runs = self._callback_failures = 0

        self._memory = frame_memory(max_bytes) if memory is None else memory
        self._worker = Worker(
            annotator,
            metrics=self.metrics,
            batch_size=batch_size,
            max_wait=max_wait,
            max_frames=max_frames,
            max_bytes=max_bytes,
            policy=policy,
        )
        files = FrameFiles(memory=self._memory) if files is None else files
        self._reader = PixelReader(files, patience=patience, head_start=head_start, metrics=self.metrics)
        self._writer = AnalysisWriter(
            sinks,
            max_rows=max_rows,
            on_finished=self._finished,
            on_sink_failure=self._sink_failed,
            metrics=self.metrics,
        )

        self._rows = RowMaker(
            annotator,
            provenance=provenance_of(annotator),
            reader=self._reader,
            worker=self._worker,
            writer=self._writer,
            annotations=self.annotations,
            memory=self._memory,
            waits=policy is FullQueuePolicy.BLOCK,
            head_start=head_start,
            metrics=self.metrics,
        )
        self._runs = OpenRuns(max_open_runs, on_abandoned=self._abandoned)
        # Held while a document is taken, which may block; nothing but taking documents waits for it.
        self._taking = threading.Lock()
        self._documents = DocumentIntake(
            None if detectors is None else dict(detectors),
            root_map=dict(root_map or {}),
            runs=self._runs,
            takes=self._rows,
        )

    def __call__(self, name: str, doc: Document) -> None:
        """Take one Bluesky document. Never raises."""
        with self._taking:
            if self._closed:
                self._documents.refuse(name, doc, "the pipeline is closed")
            else:
                self._documents.take(name, doc)

    @property
    def is_waited_for(self) -> bool:
        """Whether the thread that calls is that of the sinks, which would wait for itself."""
        return self._writer.is_waited_for

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the sinks were offered the rows of all frames seen so far, and the stops now due.

        Returns
        -------
        bool
            Whether that came within `timeout` seconds, and no row was ever lost. Sinks may keep rows of an open run
            to themselves: the catalog's writes them in batches. False at once where `is_waited_for`.
        """
        if self.is_waited_for:
            return False
        deadline = _Deadline(timeout)
        return (
            self._reader.drain(deadline.left())
            and self._worker.drain(deadline.left())
            and self._writer.wait(deadline.left())
        )

    def close(self, timeout: float | None = None) -> None:
        """Take no further document, finish what is there as `wait` does, and end the threads.

        Rows for which `timeout` seconds do not suffice are given up, logged and counted, and their analysis
        runs stay without a stop; so do those of raw runs without a stop. Delivering the raw run again to a new
        pipeline completes them. Returns at once where `is_waited_for`: rows that are under way still come, and the
        threads end with the next call.
        """
        deadline = _Deadline(timeout)
        self._closed = True
        if self.is_waited_for:
            return
        if self._reader.drain(deadline.left()):
            self._worker.drain(deadline.left())
        # The writer first: rows that say "the worker was closed" must not be stored, or no replay would ever
        # put annotations in their place.
        self._writer.close(deadline.left())
        self._worker.close(timeout=None if timeout is None else 0.0)
        self._reader.close(timeout=None if timeout is None else 0.0)
        self._memory.close()
        # Not waited for, as the handler of a signal may interrupt the thread that takes a document.
        if self._taking.acquire(blocking=False):
            try:
                self._documents.close()
            finally:
                self._taking.release()
        if unfinished := self._runs.uids:
            logger.warning("closed while %d raw runs are not finished: %s", len(unfinished), unfinished[:10])

    def stats(self) -> PipelineStats:
        """Return what came in and what became of it."""
        return PipelineStats(
            documents=self._documents.documents,
            malformed=self._documents.left_out,
            repeated=self._documents.repeated,
            waiting=self._documents.waiting,
            frames=self._rows.frames,
            unreadable=self._rows.unreadable,
            open_runs=len(self._runs),
            abandoned_runs=self._runs.abandoned,
            stored_runs=self._stored_runs,
            callback_failures=self._callback_failures,
            reader=self._reader.stats(),
            worker=self._worker.stats(),
            writer=self._writer.stats(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- ends, on the writer's thread ----------------------------------------------------------------------

    def _finished(self, progress: RunProgress) -> None:
        if not self._runs.finish(progress):
            return
        self._reader.release(progress.raw_uid)
        if progress.broken:
            return
        with self._lock:
            self._stored_runs += 1
        if self._on_run_stored is not None:
            self._tell(self._on_run_stored, progress.raw_uid)

    def _abandoned(self, progress: RunProgress) -> None:
        self._reader.release(progress.raw_uid)
        self._writer.abandon(progress)

    def _sink_failed(self, error: Exception) -> None:
        if self._on_sink_failure is not None:
            self._tell(self._on_sink_failure, error)

    def _tell(self, callback: Callable[[_News], None], news: _News) -> None:
        try:
            callback(news)
        except Exception:  # whose fault it is does not matter: the rows of the other runs go on
            logger.exception("%r raised when told of %r", callback, news)
            with self._lock:
                self._callback_failures += 1


class _Deadline:
    """What is left of a timeout that several waits share."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())
