"""frames -> worker -> rows: sees to it that every frame that has its number gets exactly one row."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.callbacks.analysis_run import AnalysisRun, Row
from dvfb_stream.callbacks.file_sequences import NoFrames, PixelReferences
from dvfb_stream.callbacks.frame_sequence import FrameSequence
from dvfb_stream.callbacks.inline_images import taken_over
from dvfb_stream.callbacks.latest import LatestAnnotations
from dvfb_stream.callbacks.pixel_reader import NotRead, PixelReader
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.runs import OpenRun
from dvfb_stream.callbacks.writer import AnalysisProgress, AnalysisWriter
from dvfb_stream.frames import Frame, Geometry, Origin
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics, catalogue
from dvfb_stream.worker import SupportsAnnotate, Worker


@dataclass(frozen=True, slots=True, eq=False)
class _Exposed:
    """Frames on their way to rows; of those in files, this is called with what was read."""

    rows: RowMaker
    progress: AnalysisProgress
    raw: RawRun
    exposures: FrameSequence

    def __call__(self, position: int, found: NDArray[Any] | NotRead) -> None:
        self.rows.read(self, position, found)


class RowMaker:
    """Hands frames to whoever makes something of them, and what is made of each to the writer.

    Parameters
    ----------
    annotator
        Whose identity failed rows carry.
    provenance
        What each analysis run says of the model.
    reader, worker, writer
        Read, annotate, and write.
    annotations
        Told of frames and annotations.
    memory
        For copies of pixels.
    waits
        Whether taking frames may wait while there is no room.
    head_start
        See `AnnotationPipeline`.
    metrics
        Frames that do not come to the worker are counted there.
    """

    def __init__(
        self,
        annotator: SupportsAnnotate,
        *,
        provenance: Mapping[str, Any],
        reader: PixelReader,
        worker: Worker,
        writer: AnalysisWriter,
        annotations: LatestAnnotations,
        memory: FrameMemory,
        waits: bool,
        head_start: float,
        metrics: Metrics,
    ) -> None:
        self._identity = annotator.identity
        self._provenance = provenance
        self._reader = reader
        self._worker = worker
        self._writer = writer
        self._annotations = annotations
        self._memory = memory
        self._waits = waits
        self._head_start = head_start
        self._metrics = metrics
        # Reentrant, as the handler of a signal may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._frames = self._unreadable = 0

    @property
    def frames(self) -> int:
        """Frames taken."""
        return self._frames

    @property
    def unreadable(self) -> int:
        """Frames among them whose pixels or geometry could not be had."""
        return self._unreadable

    # -- on the thread that documents come in on -----------------------------------------------------------

    def expose(self, run: OpenRun, exposures: Iterator[FrameSequence]) -> None:
        """Take the frames of one document."""
        exposed: list[FrameSequence] = []
        try:
            exposed.extend(exposures)
        finally:
            # Whatever stopped the document: these have their numbers.
            self._take_all(run, exposed)

    def _take_all(self, run: OpenRun, exposed: list[FrameSequence]) -> None:
        for first, count in _announced(exposed):
            self._annotations.seen(first, count)
        for frames in exposed:
            with self._lock:
                self._frames += frames.count
            self._take(_Exposed(self, self._analysis_of(run, frames), run.raw, frames))

    def restart(self, run: OpenRun) -> None:
        """Write no row twice of a run that is delivered again."""
        self._writer.restart(run.progress)

    def stop(self, run: OpenRun, time: float) -> None:
        """Write the stops once all rows are."""
        for progress in run.progress.analyses:
            progress.analysis.left_out = run.raw.left_out
        self._writer.stop(run.progress, run.raw.counts, time)

    def _analysis_of(self, run: OpenRun, exposures: FrameSequence) -> AnalysisProgress:
        stream, data_key = exposures.origin.stream, exposures.origin.data_key
        if (stream, data_key) not in run.analyses:
            analysis = AnalysisRun(
                run.raw.start,
                stream=stream,
                data_key=data_key,
                provenance=self._provenance,
                geometry=exposures.geometry,
                started=run.raw.time,
                described=run.raw.descriptor_time(stream),
            )
            run.analyses[stream, data_key] = AnalysisProgress(analysis, run.progress)
            run.progress.analyses.append(run.analyses[stream, data_key])
        return run.analyses[stream, data_key]

    def _take(self, exposed: _Exposed) -> None:
        exposures = exposed.exposures
        if exposures.reason and exposures.count == 1:
            self._fail(exposed, 0, NotRead(Status.FAILED, exposures.reason), wait=self._waits)
        elif exposures.reason:
            # The reader's thread says so of each.
            self._read(exposed, NoFrames("", exposures.reason, exposures.count))
        elif exposures.references is not None:
            self._read(exposed, exposures.references)
        else:
            for position, pixels in enumerate(exposures.images or ()):
                self._annotate(exposed, position, pixels)

    def _read(self, exposed: _Exposed, references: PixelReferences) -> None:
        self._reader.submit(references, exposed, run=exposed.raw.uid, wait=self._waits)

    def _annotate(self, exposed: _Exposed, position: int, pixels: NDArray[Any]) -> None:
        frame = _frame(exposed.exposures, position, pixels)
        if pixels.size > math.prod(frame.geometry.shape):
            # It would fail where it is annotated, and a copy of it might be more than memory holds.
            reason = f"the frame has shape {pixels.shape}, but its geometry says {frame.geometry.shape}"
            self._fail(exposed, position, NotRead(Status.FAILED, reason), wait=self._waits)
        else:
            deliver = partial(self._deliver, exposed, position)
            self._worker.submit(frame, deliver, keep=self._keep, head_start=self._head_start)

    def _keep(self, frame: Frame) -> Frame:
        """Return a frame with pixels that nobody else can write to."""
        return Frame(taken_over(frame.pixels, self._memory), frame.geometry, frame.origin)

    # -- on the reader's thread, and the worker's ------------------------------------------------------------

    def read(self, exposed: _Exposed, position: int, found: NDArray[Any] | NotRead) -> None:
        """Hand on what was read; waiting here for the worker keeps memory bounded."""
        if isinstance(found, NotRead):
            self._fail(exposed, position, found, wait=True)
        else:
            frame = _frame(exposed.exposures, position, found)
            self._worker.submit(frame, partial(self._deliver, exposed, position), wait=True)

    def _fail(self, exposed: _Exposed, position: int, why: NotRead, *, wait: bool) -> None:
        """Make the row of a frame that does not come to the worker, which counts all others."""
        annotation = Annotation(
            status=why.status,
            reason=why.reason,
            model=self._identity,
            origin=exposed.exposures.origin_of(position),
        )
        self._metrics.add(catalogue.RECEIVED)
        if why.status is Status.DROPPED:
            self._metrics.add(catalogue.DROPPED, 1, "too many unread")
        else:
            self._metrics.add(catalogue.FAILED)
            with self._lock:
                self._unreadable += 1
        self._put(exposed, position, annotation, wait=wait)

    def _deliver(self, exposed: _Exposed, position: int, annotation: Annotation) -> None:
        # Rows of frames that the worker drops come on the thread that submits, which must not wait.
        self._put(exposed, position, annotation, wait=annotation.status is not Status.DROPPED)

    def _put(self, exposed: _Exposed, position: int, annotation: Annotation, *, wait: bool) -> None:
        exposures = exposed.exposures
        origin = exposures.origin_of(position)
        if annotation.origin != origin:  # an annotator need not know where its frames come from
            annotation = replace(annotation, origin=origin)
        self._annotations.annotated(annotation)
        event = None if origin.event_uid else exposed.raw.event_of(exposures, position)
        row = Row(
            index=origin.index,
            time=exposures.time if event is None else event.time,
            annotation=annotation,
            event_uid=origin.event_uid if event is None else event.uid,
            event_seq_num=exposures.seq_num_of(position),
            geometry=exposures.geometry,
        )
        self._writer.put(exposed.progress, row, wait=wait)


def _announced(exposed: list[FrameSequence]) -> list[tuple[Origin, int]]:
    """Return the first of the frames that a document announces of each data key, and how many follow one another."""
    found: dict[tuple[str, str], tuple[Origin, int]] = {}
    for exposures in exposed:
        if not exposures.descriptor:
            continue  # a frame that nobody announced is not the newest
        origin = exposures.origin
        first, count = found.get((origin.stream, origin.data_key), (origin, 0))
        if origin.index != first.index + count:
            first, count = origin, 0
        found[origin.stream, origin.data_key] = (first, count + exposures.count)
    return list(found.values())


def _frame(exposures: FrameSequence, position: int, pixels: NDArray[Any]) -> Frame:
    geometry = exposures.geometry
    assert isinstance(geometry, Geometry)  # else there is a reason
    return Frame(pixels, geometry, exposures.origin_of(position))
