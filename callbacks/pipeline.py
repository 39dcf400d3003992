"""documents -> frames -> worker -> analysis documents -> sinks: the flow that every front of the house shares."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks.analysis_run import AnalysisRun, Row, provenance_of
from dvfb_stream.callbacks.assets import FrameFiles, PixelReader, ReaderStats
from dvfb_stream.callbacks.documents import Document, DocumentError, moment, text
from dvfb_stream.callbacks.frame_memory import FrameMemory
from dvfb_stream.callbacks.latest import LatestAnnotations
from dvfb_stream.callbacks.left_out import LeftOut
from dvfb_stream.callbacks.open_runs import OpenRun, OpenRuns
from dvfb_stream.callbacks.pixels import taken_over
from dvfb_stream.callbacks.raw_run import Exposure, FindsGeometry, RawRun
from dvfb_stream.callbacks.writer import AnalysisProgress, AnalysisWriter, RunProgress, Sink, WriterStats
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.metrics import Counter, Metrics, catalogue
from dvfb_stream.worker import FullQueuePolicy, SupportsAnnotate, Worker, WorkerStats, was_dropped

logger = logging.getLogger(__name__)

_News = TypeVar("_News")

FRAMES_AHEAD = 4
"""Frames for which memory is ready beforehand."""

TOO_MANY_TO_READ = "dropped: too many frames wait to be read from files"
"""Begins as `was_dropped` knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStats:
    """What came in, what became of it, and what went wrong, since the pipeline was made."""

    documents: int
    """Documents taken."""
    malformed: int
    """Documents refused: not a Bluesky document, or one that belongs to no run known here."""
    frames: int
    """Frames found in documents; each of them gets one row."""
    unreadable: int
    """Frames among them whose pixels or geometry could not be had; they did not go to the worker."""
    open_runs: int
    """Raw runs whose rows are not all stored, or whose stop did not come."""
    abandoned_runs: int
    """Raw runs forgotten because more than `max_open_runs` were open."""
    stored_runs: int
    """Raw runs reported to `on_run_stored`, or that would have been."""
    callback_failures: int
    """Exceptions raised by `on_run_stored` and `on_sink_failure`."""
    reader: ReaderStats
    worker: WorkerStats
    writer: WriterStats


class AnnotationPipeline:
    """Takes Bluesky documents, and gives analysis documents to sinks while the raw run is still going.

    Call it with every document of every raw run: `pipeline(name, doc)`. Runs may be interleaved. It never
    raises: a document that is malformed, or belongs to no known run, is logged and counted. For each data key
    with frames there is one analysis run; every frame gets exactly one row in it, in the order of the frames.
    It ends after the raw stop, however the raw run ended. A raw run without frames has no analysis run.

    A raw run that is delivered again from its start, while it is open, is counted from the start again: no row
    is written twice. After a sink failed during a run, that run must be delivered once more after its stop.

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
        Raw runs open at a time; of more, the one that began first is abandoned (its rows so far are kept, it
        gets no stop). Bounds the memory that runs without a stop would fill.
    on_run_stored
        Called with a raw run's uid, once, after every sink has accepted the stop documents of all its analysis
        runs; at the raw stop, where it had no frames. Never for a run of which a sink refused a document.
        From the writer's thread.
    on_sink_failure
        Called with what a sink raised. From the writer's thread, too.
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
        detectors: Mapping[str, Geometry | FindsGeometry] | None = None,
        files: FrameFiles | None = None,
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
        self._root_map = dict(root_map or {})
        self.metrics = Metrics() if metrics is None else metrics
        """What is counted and timed here."""
        self.annotations = LatestAnnotations()
        """What was annotated last of each data key."""
        self._identity = annotator.identity
        self._provenance = provenance_of(annotator)
        self._detectors = None if detectors is None else dict(detectors)
        self._waits = policy is FullQueuePolicy.BLOCK
        self._on_run_stored = on_run_stored
        self._on_sink_failure = on_sink_failure

        # Held while a document is taken, which may block; nothing but taking documents waits for it.
        self._intake = threading.Lock()
        self._runs = OpenRuns(max_open_runs, on_abandoned=lambda run: self._writer.abandon(run))
        self._memory = FrameMemory(max_bytes // 4, ahead=FRAMES_AHEAD)
        self._left_out = LeftOut()
        # Guards what follows; held for moments only.
        self._lock = threading.Lock()
        self._closed = False
        self._documents = self._frames = self._unreadable = 0
        self._stored_runs = self._callback_failures = 0

        self._worker = Worker(
            annotator,
            metrics=self.metrics,
            batch_size=batch_size,
            max_wait=max_wait,
            max_frames=max_frames,
            max_bytes=max_bytes,
            policy=policy,
        )
        self._reader = PixelReader(files, patience=patience, metrics=self.metrics)
        self._writer = AnalysisWriter(
            sinks,
            max_rows=max_rows,
            on_finished=self._finished,
            on_sink_failure=self._sink_failed,
            metrics=self.metrics,
        )

    def __call__(self, name: str, doc: Document) -> None:
        """Take one Bluesky document. Never raises."""
        with self._intake:
            with self._lock:
                self._documents += 1
            try:
                self._take(name, doc)
            except Exception as error:  # noqa: BLE001 - logged there; nothing may reach a RunEngine from here
                self._left_out.document(name, doc, error)

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
        """Take no further document, finish what is there as `wait` does, and end both threads.

        Rows for which `timeout` seconds do not suffice are given up, logged and counted, and their analysis
        runs stay without a stop; so do those of raw runs without a stop. Delivering the raw run again to a new
        pipeline completes them. Returns at once where `is_waited_for`: rows that are under way still come, and the
        threads end with the next call.
        """
        deadline = _Deadline(timeout)
        with self._lock:
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
        if unfinished := self._runs.uids:
            logger.warning("closed while %d raw runs are not finished: %s", len(unfinished), unfinished[:10])

    def stats(self) -> PipelineStats:
        """Return what came in and what became of it."""
        with self._lock:
            return PipelineStats(
                documents=self._documents,
                malformed=self._left_out.documents,
                frames=self._frames,
                unreadable=self._unreadable,
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

    # -- documents, on the caller's thread ---------------------------------------------------------------

    def _take(self, name: str, doc: Document) -> None:
        if self._closed:
            raise DocumentError("the pipeline is closed")
        if not isinstance(doc, Mapping):
            raise DocumentError(f"a document must be a mapping, not {type(doc).__name__}")
        match name:
            case "start":
                self._begin(doc)
            case "descriptor":
                run = self._runs.run(text(doc, "run_start"))
                run.raw.add_descriptor(doc)
                self._runs.add_descriptor(text(doc, "uid"), run)
                self._left_out.images(run.raw.overlooked_images(doc), described=self._detectors or ())
            case "stream_resource":
                self._runs.run(text(doc, "run_start")).raw.assets.add_stream_resource(doc)
            case "resource":
                run = self._run_of_resource(doc)
                run.raw.assets.add_resource(doc)
                self._runs.add_resource(text(doc, "uid"), run)
            case "datum":
                self._runs.run_of_resource(text(doc, "resource")).raw.assets.add_datum(doc)
            case "datum_page":
                self._runs.run_of_resource(text(doc, "resource")).raw.assets.add_datum_page(doc)
            case "event":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._submit(run, run.raw.exposures_in_event(doc))
            case "event_page":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._submit(run, run.raw.exposures_in_event_page(doc))
            case "stream_datum":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._submit(run, run.raw.exposures_in_stream_datum(doc))
            case "stop":
                run = self._runs.run(text(doc, "run_start"))
                self._runs.stop(run)
                self._writer.stop(run.progress, dict(run.raw.counts), moment(doc, default=time.time()))
            case "bulk_events" | "bulk_datum":
                raise DocumentError(
                    f"documents of the old kind {name!r} are not read; no version of Bluesky emits them"
                )
            case _:
                raise DocumentError(f"there is no kind of document called {name!r}")

    def _begin(self, doc: Document) -> None:
        raw = RawRun(doc, self._detectors, root_map=self._root_map)
        again = self._runs.begin(raw)
        if again is not None:
            logger.info("run %s is delivered again", raw.uid)
            self._writer.restart(again.progress)

    def _submit(self, run: OpenRun, exposures: Iterator[Exposure]) -> None:
        for exposure in exposures:
            progress = self._analysis_of(run, exposure)
            deliver = partial(self._deliver, progress, exposure.origin.index, exposure.time)
            self.annotations.seen(exposure.origin)
            with self._lock:
                self._frames += 1
                self._unreadable += bool(exposure.reason)
            if exposure.reason:
                self._count(catalogue.FAILED)
                deliver(self._failed(exposure, exposure.reason), wait=self._waits)
            elif exposure.reference is None:
                self._worker.submit(_frame(exposure, exposure.pixels), deliver, keep=self._keep)
            elif not self._reader.submit(
                exposure.reference,
                partial(self._annotate_read, exposure, deliver),
                run=exposure.origin.run_uid,
                wait=self._waits,
            ):
                self._count(catalogue.DROPPED, "too many unread")
                deliver(self._failed(exposure, TOO_MANY_TO_READ), wait=False)

    def _keep(self, frame: Frame) -> Frame:
        """Return a frame with pixels that nobody else can write to."""
        return Frame(taken_over(frame.pixels, self._memory), frame.geometry, frame.origin)

    def _annotate_read(
        self, exposure: Exposure, deliver: Callable[..., None], pixels: NDArray[Any] | None, reason: str
    ) -> None:
        """Hand on what the reader's thread has read; waiting there for the worker keeps memory bounded."""
        if pixels is None:
            with self._lock:
                self._unreadable += 1
            self._count(catalogue.FAILED)
            deliver(self._failed(exposure, reason))
        else:
            self._worker.submit(_frame(exposure, pixels), deliver, wait=True)

    def _count(self, counter: Counter, *labels: str) -> None:
        """Count a frame that does not come to the worker, which counts all others."""
        self.metrics.add(catalogue.RECEIVED)
        self.metrics.add(counter, 1, *labels)

    def _failed(self, exposure: Exposure, reason: str) -> Annotation:
        return Annotation.failed(reason, model=self._identity, origin=exposure.origin)

    def _analysis_of(self, run: OpenRun, exposure: Exposure) -> AnalysisProgress:
        stream, data_key = exposure.origin.stream, exposure.origin.data_key
        if (stream, data_key) not in run.analyses:
            analysis = AnalysisRun(
                run.raw.start,
                stream=stream,
                data_key=data_key,
                provenance=self._provenance,
                geometry=exposure.geometry,
                started=run.raw.time,
                described=run.raw.descriptor_time(stream),
            )
            run.analyses[stream, data_key] = AnalysisProgress(analysis, run.progress)
            run.progress.analyses.append(run.analyses[stream, data_key])
        return run.analyses[stream, data_key]

    def _run_of_resource(self, doc: Document) -> OpenRun:
        # Event-model lets a resource do without its run; then it can only be that of the run that is open.
        uid = doc.get("run_start") or self._runs.only_run()
        if not isinstance(uid, str):
            raise DocumentError("a resource without its run's uid is taken only while one run is open")
        return self._runs.run(uid)

    # -- rows, on the worker's thread; or on the caller's, where there is nothing to annotate --------------

    def _deliver(
        self,
        progress: AnalysisProgress,
        index: int,
        taken_at: float,
        annotation: Annotation,
        *,
        wait: bool = True,
    ) -> None:
        self.annotations.annotated(annotation)
        row = Row(index=index, time=taken_at, annotation=annotation)
        # Rows of dropped frames come on the caller's thread, which must not wait.
        self._writer.put(progress, row, wait=wait and not was_dropped(annotation))

    # -- ends, on the writer's thread ----------------------------------------------------------------------

    def _finished(self, progress: RunProgress) -> None:
        if not self._runs.finish(progress) or progress.broken:
            return
        with self._lock:
            self._stored_runs += 1
        if self._on_run_stored is not None:
            self._tell(self._on_run_stored, progress.raw_uid)

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


def _frame(exposure: Exposure, pixels: NDArray[Any] | None) -> Frame:
    assert pixels is not None  # it was read, or came in the document
    assert exposure.geometry is not None  # else there is a reason
    return Frame(pixels, exposure.geometry, exposure.origin)
