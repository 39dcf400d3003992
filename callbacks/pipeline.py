"""documents -> frames -> worker -> analysis documents -> sinks: the flow that every front of the house shares."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.descriptor import GeometryProvider
from dvfb_stream.callbacks.document_fields import Document, DocumentError
from dvfb_stream.callbacks.frame_sequence import FileFrames, FrameSequence
from dvfb_stream.callbacks.frames_to_rows import FramesToRows
from dvfb_stream.callbacks.latest_annotations import LatestAnnotations
from dvfb_stream.callbacks.pixel_reader import PixelReader, ReaderStats
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.row_writer import AnalysisWriter, Sink, WriterStats, countdown
from dvfb_stream.callbacks.run_progress import AnalysisProgress, RowsSoFar, RunProgress
from dvfb_stream.callbacks.runs import MOST_ENDED, Rejected, RunTracker
from dvfb_stream.errors import SettingsError, check_at_least
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.handler_classes import Handler
from dvfb_stream.files.references import FrameReader
from dvfb_stream.frame_annotator import SupportsAnnotate, as_frame_annotator
from dvfb_stream.frame_arrays import shapes_of
from dvfb_stream.frames import Geometry, Origin
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics, catalogue
from dvfb_stream.worker import FullQueuePolicy, Worker, WorkerStats

logger = logging.getLogger(__name__)

_Told = TypeVar("_Told")

SECONDS_FOR_STORES = 30.0
"""How long closing waits for a catalog at most: longer than a restart of Tiled, shorter than anybody's patience."""

FRAMES_AHEAD = 4
"""Frames for which memory is ready beforehand."""


def frame_memory(max_bytes: int) -> FrameMemory:
    """Return memory for the frames of a queue that is bounded by `max_bytes`."""
    return FrameMemory(max_bytes // 4, ahead=FRAMES_AHEAD)


def check_given(sinks: object, detectors: object) -> None:
    """Refuse sinks and detectors, as `AnnotationPipeline` takes them, that could only fail during a run.

    Raises
    ------
    SettingsError
        When a sink cannot be called, or a detector's geometry is none.
    """
    if not isinstance(sinks, Sequence) or not all(callable(sink) for sink in sinks):
        raise SettingsError(f"sinks must be a list of what can be called as sink(name, doc), not {sinks!r}")
    if not isinstance(detectors, Mapping | None):
        raise SettingsError(
            f"detectors must say which geometry a data key has, as {{'det_image': geometry}}, not {detectors!r}"
        )
    for key, geometry in (detectors or {}).items():
        if not isinstance(geometry, Geometry) and not callable(getattr(geometry, "geometry_in", None)):
            raise SettingsError(f"detectors[{key!r}] must be a Geometry, or find one, not {geometry!r}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a document."""

    run_uid: str = ""
    """Of the raw run that it belongs to, which is open, or whose start is waited for; or that it stops. Empty where
    there is none."""
    in_documents: tuple[tuple[str, str, int], ...] = ()
    """Of the frames found whose pixels are in documents: stream, data key, and one past the last number."""
    waiting: int = 0
    """Documents that wait for others, after this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStats:
    """What came in, what became of it, and what went wrong, since the pipeline was made.

    Each part is of one moment, the whole is not: nothing waits while it is collected.
    """

    documents: int
    """Documents that came."""
    rejected_documents: int
    """Documents left out: not Bluesky documents, or of no run known here, or too late."""
    repeated: int
    """Documents that brought nothing new: they had come before."""
    waiting: int
    """Documents that wait for one which they name, and which has not come."""
    frames: int
    """Frames found in documents; each of them gets one row."""
    unreadable: int
    """Frames among them whose pixels or geometry could not be had; they did not go to the worker."""
    open_runs: int
    """Raw runs whose rows are not all stored, or whose stop did not come."""
    abandoned_runs: int
    """Raw runs forgotten because more than `max_open_runs` were open, or too many bytes kept for them."""
    stored_runs: int
    """Raw runs reported to `on_run_stored`, or that would have been: every sink has stored them."""
    callback_failures: int
    """Exceptions raised by `on_run_stored` and `on_sink_failure`."""
    reader: ReaderStats
    worker: WorkerStats
    writer: WriterStats


class AnnotationPipeline:
    """Takes Bluesky documents, and gives analysis documents to sinks while the raw run is still going.

    Call it with every document of every raw run: `pipeline(name, doc)`. Runs may be interleaved. It never raises: a
    document that is malformed, or belongs to no known run, is logged and counted, and the summaries of its run count
    it where it may have had frames. For each data key with frames there is one analysis run; every frame gets exactly
    one row in it, in the order of the frames. It ends after the raw stop, however the raw run ended. A raw run
    without frames has no analysis run. The order in which documents may come: see `RunTracker`. After a sink failed
    during a run, that run must be delivered once more after its last row.

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
    handlers
        Classes that read old-style resources, by spec; for `files` that are made here.
    policy, batch_size, max_wait, max_frames, max_bytes
        See `dvfb_stream.worker.Worker`.
    max_rows
        Rows that may wait for the sinks before annotating waits.
    max_open_runs
        Raw runs open at a time; of more, or where 256 MB would be kept for them, some 15,000 runs, the one that was
        silent for longest is abandoned (its rows so far are kept, it gets no stop). Bounds what runs without a stop
        would fill.
    on_run_stored
        Called with a raw run's uid, once all its analysis runs are stored: every sink took their stops, and each
        `StoringSink` says that it has stored them; at the raw stop, where it had no frames. Never for a run of which
        a sink refused a document, or a row was lost. From the writer's thread, or that of a storing sink.
    on_sink_failure
        Called with what a sink raised. From the writer's thread, too.
    on_rejected
        Called with each document that is left out for good, and why: name, document, error. From the caller's
        thread; must not raise.
    on_run_refused
        Called in place of `on_run_stored` with a raw run of which a sink will not take an analysis run as it is, as a
        `RefusedDocumentError` or a `RefusingSink` says; its `refusals` say why. From the same threads.
    memory
        Where pixels of waiting frames are copied to, as `frame_memory` makes it; closed with the pipeline. None: one
        of its own.
    geometry_in_uid
        Called with the origin of the first frame of each data key of a run: the digest that goes into the uid of its
        analysis run, as `analysis_uid` takes it. None: none does, so that the uid is that of the first analysis.
    on_row
        Called from the writer's thread after each row that every sink took, with how far its analysis run has come.
        Must not raise.
    rows_so_far
        Called with the origin of the first frame of each data key of a run: its first rows, where a process before
        this one has given them to all sinks. Their frames are not annotated again.
    head_start
        Seconds that whoever hands over a document has before idle threads begin with its frames.
    metrics
        What is counted and timed is added to it; see `dvfb_stream.metrics`. None: to one of its own.
    arrays
        What events carry of each frame besides its row: names of `dvfb_stream.frame_arrays.FrameArray`.

    Raises
    ------
    SettingsError
        When a bound is not positive, a sink cannot be called, a detector's geometry is none, or the annotator has no
        such array.
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
        handlers: Mapping[str, Handler | str] | None = None,
        policy: FullQueuePolicy = FullQueuePolicy.BLOCK,
        batch_size: int = 16,
        max_wait: float = 0.2,
        max_frames: int = 256,
        max_bytes: int = 1 << 30,
        max_rows: int = 10_000,
        max_open_runs: int = MOST_ENDED,
        on_run_stored: Callable[[str], None] | None = None,
        on_sink_failure: Callable[[Exception], None] | None = None,
        on_rejected: Rejected | None = None,
        on_run_refused: Callable[[RunProgress], None] | None = None,
        memory: FrameMemory | None = None,
        geometry_in_uid: Callable[[Origin], str] | None = None,
        on_row: Callable[[AnalysisProgress], None] | None = None,
        rows_so_far: Callable[[Origin], RowsSoFar | None] | None = None,
        head_start: float = 0.0,
        metrics: Metrics | None = None,
        arrays: Sequence[str] = (),
    ) -> None:
        check_at_least(1, max_bytes=max_bytes, max_rows=max_rows, max_open_runs=max_open_runs)
        check_given(sinks, detectors)
        self.metrics = Metrics() if metrics is None else metrics
        """What is counted and timed here."""
        self.annotations = LatestAnnotations()
        """What was annotated last of each data key."""
        annotator = as_frame_annotator(annotator)
        self._arrays = shapes_of(f"the model {annotator.identity}", annotator.arrays, arrays)
        if self._arrays:
            annotator.keep_arrays(tuple(self._arrays))
        self._provenance = annotator.provenance()
        self._on_run_stored = on_run_stored
        self._on_sink_failure = on_sink_failure
        self._on_run_refused = on_run_refused
        self._geometry_in_uid = geometry_in_uid
        self._rows_so_far = rows_so_far
        self._closed = False
        # Held while a document is taken, which may block; nothing but taking documents waits for it.
        self._taking = threading.Lock()
        self._counting = threading.Lock()  # guards what follows
        self._frames = self._stored_runs = self._callback_failures = 0

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
        files = FrameFiles(handlers=handlers, memory=self._memory) if files is None else files
        self._reader = PixelReader(files, patience=patience, head_start=head_start, metrics=self.metrics)
        self._writer = AnalysisWriter(
            sinks,
            max_rows=max_rows,
            on_finished=self._finished,
            on_stored=self._stored,
            on_sink_failure=self._sink_failed,
            on_refused=self._refused,
            on_row=on_row,
            metrics=self.metrics,
        )
        self._rows = FramesToRows(
            self._reader,
            self._worker,
            self._writer,
            model=annotator.identity,
            keep=self._memory.take_over,
            newest=self.annotations,
            waits=policy is FullQueuePolicy.BLOCK,
            head_start=head_start,
            metrics=self.metrics,
        )
        self._tracker = RunTracker(
            None if detectors is None else dict(detectors),
            root_map=root_map,
            max_open_runs=max_open_runs,
            on_rejected=on_rejected,
        )

    def __call__(self, name: str, doc: Document) -> None:
        """Take one Bluesky document. Never raises."""
        self.take(name, doc)

    def take(self, name: str, doc: Document) -> str:
        """Take one Bluesky document, and say whose it is. Never raises.

        Returns
        -------
        str
            uid of the raw run that it belongs to, which is open, or whose start is waited for; or that it stops.
            Empty where there is none.
        """
        return self.accept(name, doc).run_uid

    def accept(self, name: str, doc: Document) -> Accepted:
        """Take one Bluesky document, and say what it brought. Never raises."""
        with self._taking:
            self._rows.taker = threading.get_ident()
            if self._closed:
                self._tracker.documents += 1
                self._tracker.reject(name, doc, DocumentError("the pipeline is closed"))
                return Accepted()
            taken = self._tracker.take(name, doc)
            try:
                for run in taken.abandoned:
                    self._reader.release(run.uid)
                    self._writer.abandon(run.progress)
                if taken.run is not None:
                    self._expose(taken.run, taken.frames)
                    if taken.stopped_at is not None:
                        self._stop(taken.run, taken.stopped_at)
            except Exception as error:  # noqa: BLE001 - logged there; nothing may reach a RunEngine from here
                self._tracker.reject(name, doc, error)
            return Accepted(taken.run_uid, tuple(_in_documents(taken.frames)), self._tracker.waiting)

    def remember(self, stream_resource: Document) -> None:
        """Learn of a stream resource of a run that has ended, which later runs may name. Never raises."""
        with self._taking:
            try:
                self._tracker.remember(stream_resource)
            except DocumentError as error:
                self._tracker.reject("stream_resource", stream_resource, error)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all frames seen so far have their rows; return whether that came within `timeout` seconds.

        Rows that wait for the events of their frames then do so no longer.
        """
        left = countdown(timeout)
        drained = self._reader.drain(left()) and self._worker.drain(left())
        self._tracker.wait_no_longer()
        return drained

    def catch_up(self) -> bool:
        """Wait until every sink has taken the rows made so far whose turn it is, and `on_row` has returned.

        Or until the pipeline takes no more rows, being closed: then False. Not for the writer's thread.
        """
        return self._writer.catch_up()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the rows of all frames seen so far are stored, and the stops now due.

        Returns
        -------
        bool
            Whether that is so within `timeout` seconds, and no row was ever lost. A `StoringSink` says when; of
            another sink it counts that it was offered them. False at once where a sink asks, or who is told what
            became of a run: it would wait for itself.
        """
        if self._writer.is_waited_for:
            return False
        left = countdown(timeout)
        return self.drain(left()) and self._writer.wait(left())

    def close(self, timeout: float | None = None) -> bool:
        """Take no further document, finish what is there as `wait` does, and end the threads.

        Storing sinks get 30 s at most: what they have not stored then is on the disk, and is stored later. Other rows
        for which `timeout` seconds do not suffice are given up, logged and counted, and their analysis runs stay
        without a stop; so do those of raw runs without a stop. Delivering the raw run again to a new pipeline
        completes them.

        Returns
        -------
        bool
            False, at once, where a sink asks, or who is told by the writer's thread: rows that are under way still
            come, and the threads end with the next call.
        """
        left = countdown(timeout)
        self._closed = True
        if self._writer.is_waited_for:
            return False
        self.drain(left())
        # The writer first: rows that say "the worker was closed" must not be stored, or no replay would ever
        # put annotations in their place.
        self._writer.close(left())
        for_stores = countdown(SECONDS_FOR_STORES if timeout is None else min(timeout, SECONDS_FOR_STORES))
        for store in self._writer.stores.values():
            seconds = left()
            store.wait(for_stores() if seconds is None else min(seconds, for_stores() or 0.0))
        self._worker.close(timeout=None if timeout is None else 0.0)
        self._reader.close(timeout=None if timeout is None else 0.0)
        self._memory.close()
        seconds = left()
        if self._taking.acquire(timeout=-1 if seconds is None else seconds):
            try:
                self._tracker.close()
            finally:
                self._taking.release()
        if unfinished := self._tracker.open_runs:
            logger.warning("closed while %d raw runs are not finished: %s", len(unfinished), unfinished[:10])
        return True

    def stats(self) -> PipelineStats:
        """Return what came in and what became of it."""
        tracker = self._tracker
        return PipelineStats(
            documents=tracker.documents,
            rejected_documents=tracker.rejected,
            repeated=tracker.repeated,
            waiting=tracker.waiting,
            frames=self._frames,
            unreadable=self._rows.unreadable,
            open_runs=len(tracker.open_runs),
            abandoned_runs=tracker.abandoned,
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

    # -- on the thread that documents come in on -------------------------------------------------------------

    def _expose(self, run: RawRun, found: Sequence[FrameSequence]) -> None:
        for first, count in _announced(found):
            self.annotations.seen(first, count)
        with self._counting:
            self._frames += sum(frames.count for frames in found)
        for frames in found:
            self._rows.make(self._progress_of(run, frames), frames)

    def _stop(self, run: RawRun, stopped_at: float) -> None:
        for progress in run.progress.analyses:
            progress.analysis.rejected_documents = run.rejected
        self._writer.stop(run.progress, run.counts, stopped_at)

    def _progress_of(self, run: RawRun, frames: FrameSequence) -> AnalysisProgress:
        where = frames.origin.stream, frames.origin.data_key
        for progress in run.progress.analyses:
            if (progress.analysis.stream, progress.analysis.data_key) == where:
                return progress
        analysis = AnalysisRun(
            run.start,
            stream=frames.origin.stream,
            data_key=frames.origin.data_key,
            provenance=self._provenance,
            geometry=None if frames.moving is not None else frames.geometry,
            started=run.time,
            described=run.descriptor_time(frames.origin.stream),
            arrays=self._arrays,
            geometry_in_uid="" if self._geometry_in_uid is None else self._geometry_in_uid(frames.origin),
        )
        progress = AnalysisProgress(analysis, run.progress)
        if self._rows_so_far is not None and (rows := self._rows_so_far(frames.origin)) is not None:
            progress.go_on(rows)
        run.progress.analyses.append(progress)
        return progress

    # -- on the writer's thread, or a storing sink's ---------------------------------------------------------

    def _finished(self, progress: RunProgress) -> bool:
        if self._tracker.finish(progress) is None:
            return False
        self._reader.release(progress.raw_uid)
        return True

    def _stored(self, progress: RunProgress) -> None:
        with self._counting:
            self._stored_runs += 1
        if self._on_run_stored is not None:
            self._tell(self._on_run_stored, progress.raw_uid)

    def _refused(self, progress: RunProgress) -> None:
        self.metrics.add(catalogue.REFUSED_RUNS)
        if self._on_run_refused is not None:
            self._tell(self._on_run_refused, progress)

    def _sink_failed(self, error: Exception) -> None:
        if self._on_sink_failure is not None:
            self._tell(self._on_sink_failure, error)

    def _tell(self, callback: Callable[[_Told], None], told: _Told) -> None:
        try:
            callback(told)
        except Exception:  # whose fault it is does not matter: the rows of the other runs go on
            logger.exception("%r raised when told of %r", callback, told)
            with self._counting:
                self._callback_failures += 1


def _in_documents(found: Sequence[FrameSequence]) -> Iterator[tuple[str, str, int]]:
    for frames in found:
        origin = frames.origin
        if not frames.reason and not isinstance(frames.pixels, FileFrames):
            yield origin.stream, origin.data_key, origin.index + frames.count


def _announced(found: Sequence[FrameSequence]) -> list[tuple[Origin, int]]:
    """Return the first of the frames that a document announces of each data key, and how many follow one another."""
    announced: dict[tuple[str, str], tuple[Origin, int]] = {}
    for frames in found:
        if not frames.descriptor:
            continue  # a frame that nobody announced is not the newest
        origin = frames.origin
        first, count = announced.get((origin.stream, origin.data_key), (origin, 0))
        if origin.index != first.index + count:
            first, count = origin, 0
        announced[origin.stream, origin.data_key] = (first, count + frames.count)
    return list(announced.values())
