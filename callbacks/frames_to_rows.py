"""frames -> reader -> worker -> rows -> writer: each frame gets its row, annotated or with the reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation, ModelIdentity, Status
from dvfb_stream.callbacks.frame_sequence import FileFrames, FrameSequence
from dvfb_stream.callbacks.latest_annotations import LatestAnnotations
from dvfb_stream.callbacks.pixel_reader import NotRead, PixelReader
from dvfb_stream.callbacks.row_writer import AnalysisWriter
from dvfb_stream.callbacks.run_progress import AnalysisProgress
from dvfb_stream.errors import FrameError
from dvfb_stream.files.references import FrameReference
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.metrics import Metrics, catalogue
from dvfb_stream.worker import Worker


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Takes what is read of frames; a tenth of a million may wait, so that a `partial` would be too large."""

    take: Callable[[AnalysisProgress, FrameSequence, int, NDArray[Any] | NotRead, str], None]
    progress: AnalysisProgress
    frames: FrameSequence

    first: int = 0
    """Position of the first frame that is read."""

    def __call__(self, position: int, found: NDArray[Any] | NotRead, remark: str) -> None:
        self.take(self.progress, self.frames, self.first + position, found, remark)


class FramesToRows:
    """Makes one row of each frame, and hands it to the writer.

    Threads: `make` is called from the one that documents come in on, which `taker` names. Pixels in files are read on
    the reader's thread, and rows come on the worker's.

    Parameters
    ----------
    reader, worker, writer
        What reads, annotates and writes; others start and end them.
    model
        Named in rows of frames that do not come to the worker.
    keep
        Returns pixels that nobody else can write to, of those inside a document.
    newest
        Is told of each annotation.
    waits
        Whether the thread that documents come in on may wait for the writer.
    head_start
        See `AnnotationPipeline`.
    metrics
        What is counted is added to it.
    """

    def __init__(
        self,
        reader: PixelReader,
        worker: Worker,
        writer: AnalysisWriter,
        *,
        model: ModelIdentity,
        keep: Callable[[NDArray[Any]], NDArray[Any]],
        newest: LatestAnnotations,
        waits: bool,
        head_start: float,
        metrics: Metrics,
    ) -> None:
        self._reader = reader
        self._worker = worker
        self._writer = writer
        self._model = model
        self._keep = keep
        self._newest = newest
        self._waits = waits
        self._head_start = head_start
        self._metrics = metrics
        self._counting = threading.Lock()
        self.unreadable = 0
        """Frames whose pixels or geometry could not be had."""
        self.taker = 0
        """The thread that takes a document, or took the last."""

    def make(self, progress: AnalysisProgress, frames: FrameSequence) -> None:
        """Make the rows of the frames of a sequence that have none, now or when they were read and annotated."""
        first = max(0, progress.known - frames.origin.index)
        if first >= frames.count:
            return
        pixels = frames.pixels
        if frames.reason and frames.count == 1:
            self._fail(progress, frames, 0, NotRead(Status.FAILED, frames.reason), wait=self._waits)
            return
        if frames.reason:
            # The reader's thread says so of each.
            pixels = FileFrames("", frames.count, _refuse, (frames.reason,))
        if isinstance(pixels, FileFrames):
            read = _Read(self._read, progress, frames, first)
            self._reader.submit(pixels.behind(first), read, run=frames.origin.run_uid, wait=self._waits)
            return
        for position in range(first, frames.count):
            self._annotate(progress, frames, position, pixels[position])

    def _annotate(
        self, progress: AnalysisProgress, frames: FrameSequence, position: int, image: NDArray[Any]
    ) -> None:
        # Where it does not fit, a copy of it might be more than memory holds.
        if reason := frames.misfit(position, image):
            self._fail(progress, frames, position, NotRead(Status.FAILED, reason), wait=self._waits)
        else:
            deliver = partial(self._deliver, progress, frames, frames.remark(image))
            frame = _frame(frames, position, image)
            self._worker.submit(frame, deliver, keep=self._keep, head_start=self._head_start)

    # -- on the reader's thread, and the worker's ------------------------------------------------------------

    def _read(
        self,
        progress: AnalysisProgress,
        frames: FrameSequence,
        position: int,
        found: NDArray[Any] | NotRead,
        remark: str,
    ) -> None:
        """Hand on what was read; waiting here for the worker keeps memory bounded."""
        if isinstance(found, NotRead):
            self._fail(progress, frames, position, found, wait=True)
        elif reason := frames.misfit(position, found):
            self._fail(progress, frames, position, NotRead(Status.FAILED, reason), wait=True)
        else:
            deliver = partial(self._deliver, progress, frames, frames.remark(found, remark))
            self._worker.submit(_frame(frames, position, found), deliver, wait=True)

    def _fail(
        self, progress: AnalysisProgress, frames: FrameSequence, position: int, why: NotRead, *, wait: bool
    ) -> None:
        """Make the row of a frame that does not come to the worker, which counts all others."""
        self._metrics.add(catalogue.RECEIVED)
        if why.status is Status.DROPPED:
            self._metrics.add(catalogue.DROPPED, 1, "too many unread")
        else:
            self._metrics.add(catalogue.FAILED)
            with self._counting:
                self.unreadable += 1
        annotation = Annotation(
            status=why.status, reason=why.reason, model=self._model, origin=frames.origin_of(position)
        )
        self._put(progress, frames, annotation, wait=wait)

    def _deliver(
        self, progress: AnalysisProgress, frames: FrameSequence, remark: str, annotation: Annotation
    ) -> None:
        if remark:
            both = " ".join(said for said in (annotation.remark, remark) if said)
            annotation = replace(annotation, remark=both)
        # Rows of frames that the worker drops come on the thread that submits, under whichever policy.
        self._put(progress, frames, annotation, wait=annotation.status is not Status.DROPPED)

    def _put(
        self, progress: AnalysisProgress, frames: FrameSequence, annotation: Annotation, *, wait: bool
    ) -> None:
        assert annotation.origin is not None
        self._newest.annotated(annotation)
        position = annotation.origin.index - frames.origin.index
        frames.when_event_is_known(position, partial(self._write, progress, frames, annotation, wait=wait))

    def _write(
        self, progress: AnalysisProgress, frames: FrameSequence, annotation: Annotation, *, wait: bool
    ) -> None:
        # Under other policies than to block, nothing waits on the thread that documents come in on.
        wait = wait and (self._waits or threading.get_ident() != self.taker)
        self._writer.put(progress, frames.row(annotation), wait=wait)


def _frame(frames: FrameSequence, position: int, pixels: NDArray[Any]) -> Frame:
    geometry = frames.geometry_of(position)
    assert isinstance(geometry, Geometry)  # else there is a reason, or a misfit
    return Frame(pixels, geometry, frames.origin_of(position))


def _refuse(reason: str, position: int) -> FrameReference:
    raise FrameError(reason)
