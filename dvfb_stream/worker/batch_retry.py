"""One batch annotated, whatever happens: retried smaller, elsewhere, later, or frame by frame."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.device_failures import Failure, ReportedFailureError, failure_of
from dvfb_stream.errors import DvfbError
from dvfb_stream.frame_annotator import FrameAnnotator
from dvfb_stream.frames import Frame
from dvfb_stream.metrics import Metrics, Stage
from dvfb_stream.worker.frame_queue import Entry
from dvfb_stream.worker.policy import BatchLimit
from dvfb_stream.worker.preparation import Preparation
from dvfb_stream.worker.stats import Tally

logger = logging.getLogger(__name__)

SECONDS_TO_COME_BACK = 300.0
"""How long frames wait for an annotator that is not ready: a process needs two seconds to start again, and two
minutes where its model comes over a slow network. A queue of 256 frames that nobody serves is full by then."""

SHORTEST_PAUSE = 0.1
"""Seconds before an annotator that was not ready is tried again, where it does not say how long it will not be."""


class AnnotatorOutputError(DvfbError):
    """An annotator returned something other than one annotation a frame."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """What is kept of an exception.

    The exception itself would keep the batch's tensors alive by its traceback, and a smaller batch needs their
    memory.
    """

    failure: Failure
    reason: str
    retry_after: float


class BatchRetry:
    """Annotates batches; every frame gets an annotation, whatever the annotator does.

    - Exhausted memory halves the batch and those after it, until larger ones are tried again (see `BatchLimit`). A
      frame that does not fit alone is tried once more, and then fails alone.
    - After a lost device the batch is tried once more, on the device that the annotator has fallen back to.
    - While the annotator is not ready (its process starts again), the batch waits, and what waits behind it keeps its
      place in the queue. Frames fail only when that takes longer than `SECONDS_TO_COME_BACK`, or when `pause` says
      that nobody waits for them any more.
    - Any other batch that fails, or for which the annotator does not return what it must (see `validated`), is
      annotated once more frame by frame. A frame that fails alone gets a row of status ``failed``.
    - What was prepared is prepared again where preparing it failed, and after the annotator has fallen back.

    Parameters
    ----------
    annotator
        Called by the thread that iterates.
    preparation
        What prepares its frames ahead, if anything does.
    limit
        Told what fitted into memory.
    tally
        Told of halvings, and of moves to another device.
    metrics
        The duration of each call that succeeds is added to them.
    pause
        Waits so many seconds; returns False where the frames are not to be tried again.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        annotator: FrameAnnotator,
        *,
        preparation: Preparation | None,
        limit: BatchLimit,
        tally: Tally,
        metrics: Metrics,
        pause: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._annotator = annotator
        self._identity = annotator.identity
        self._preparation = preparation
        self._limit = limit
        self._tally = tally
        self._metrics = metrics
        self._pause = pause
        self._clock = clock
        self._not_ready_since: float | None = None

    def annotated(self, batch: Sequence[Entry]) -> Iterator[tuple[Entry, Annotation]]:
        """Yield every entry of a batch with its annotation, in order, each as soon as it is there."""
        parts = deque([batch])
        may_fall_back = True
        tried_alone = -1  # number of the frame that did not fit alone last
        while parts:
            part = parts.popleft()
            most = self._limit.frames
            if len(part) > most:
                parts.extendleft(part[start : start + most] for start in reversed(range(0, len(part), most)))
                continue
            outcome = self._attempt(part)
            if not isinstance(outcome, _Failed):
                self._limit.fitted(len(part))
                yield from zip(part, outcome, strict=True)
            elif outcome.failure is Failure.NOT_READY:
                if self._waited(outcome):
                    parts.appendleft(part)
                else:
                    yield from ((entry, self._failed(entry, outcome)) for entry in part)
            elif outcome.failure is Failure.DEVICE and may_fall_back:
                may_fall_back = False
                self._fall_back()
                parts.appendleft(part)
            elif outcome.failure is Failure.MEMORY and len(part) > 1:
                self._limit.did_not_fit(len(part))
                self._tally.halved()
                parts.appendleft(part)
            elif outcome.failure is Failure.MEMORY and part[0].number != tried_alone:
                # Others may have had the memory, and a process that was killed may have had other enemies.
                tried_alone = part[0].number
                parts.appendleft(part)
            elif len(part) > 1:
                parts.extendleft([entry] for entry in reversed(part))
            else:
                yield part[0], self._failed(part[0], outcome)

    def _attempt(self, part: Sequence[Entry]) -> list[Annotation] | _Failed:
        try:
            annotations = validated(self._annotate(part), [entry.frame for entry in part])
        except BaseException as error:  # whatever it was, it costs the frames that cause it, not the thread
            failure = failure_of(error)
            if failure is Failure.NOT_READY:
                logger.warning("a batch of %d frames waits for the annotator: %s", len(part), error)
            elif len(part) > 1:
                # Of memory and device there is nothing to learn from where it happened, and a record that somebody
                # keeps would keep the tensors as well.
                where, said = failure is Failure.OTHER, repr(error)
                logger.warning(
                    "a batch of %d frames failed (%s): %s", len(part), failure.value, said, exc_info=where
                )
            else:
                logger.warning("annotating the frame %s failed", part[0].frame.origin, exc_info=True)
            if failure is not Failure.NOT_READY:
                self._not_ready_since = None
            return _Failed(
                failure,
                str(error) if isinstance(error, DvfbError) else f"{type(error).__name__}: {error}",
                error.retry_after if isinstance(error, ReportedFailureError) else 0.0,
            )
        self._not_ready_since = None
        return annotations

    def _annotate(self, part: Sequence[Entry]) -> Any:
        if self._preparation is None:
            started = time.perf_counter()
            annotations: Any = self._annotator.annotate([entry.frame for entry in part])
        else:
            prepared = self._preparation.prepared([entry.number for entry in part])
            started = time.perf_counter()
            annotations = self._annotator.annotate_prepared(prepared)
        self._metrics.took(Stage.ANNOTATE, time.perf_counter() - started)
        return annotations

    def _waited(self, outcome: _Failed) -> bool:
        """Wait for an annotator that is not ready; return whether it is to be tried again."""
        now = self._clock()
        if self._not_ready_since is None:
            self._not_ready_since = now
        left = self._not_ready_since + SECONDS_TO_COME_BACK - now
        return left > 0 and self._pause(min(max(outcome.retry_after, SHORTEST_PAUSE), left))

    def _fall_back(self) -> None:
        try:
            device = self._annotator.fall_back()
        except BaseException:  # the batch is tried once more in any case
            logger.exception("the device is lost, and the annotator has no other")
            return
        if device is None:
            return
        self._limit.forget()
        if self._preparation is not None:
            self._preparation.start_over()  # what is there lies on the lost device
        if self._tally.fell_back(device):
            logger.error("the device is lost: annotating on %s from now on", device)

    def _failed(self, entry: Entry, outcome: _Failed) -> Annotation:
        return Annotation.failed(outcome.reason, model=self._identity, origin=entry.frame.origin)


def validated(returned: Any, frames: Sequence[Frame]) -> list[Annotation]:
    """Return what an annotator returned, in the order of the frames, each annotation with its frame's origin.

    Raises
    ------
    AnnotatorOutputError
        When it is not one annotation a frame, or one of them says what no row can: a score that is no number or
        infinite, a label that is no text or both accepted and doubtful, the origin of another frame.
    """
    if not isinstance(returned, Sequence):
        raise AnnotatorOutputError(f"the annotator returned {_shown(returned)}, not a list of annotations")
    if len(returned) != len(frames):
        raise AnnotatorOutputError(
            f"the annotator returned {len(returned)} annotations for {len(frames)} frames"
        )
    return [_validated(annotation, frame) for annotation, frame in zip(returned, frames, strict=True)]


def _validated(annotation: Any, frame: Frame) -> Annotation:
    if not isinstance(annotation, Annotation):
        raise AnnotatorOutputError(f"the annotator returned {_shown(annotation)} where an annotation was due")
    scores: Any = annotation.scores
    labels: Any = annotation.labels
    doubtful: Any = annotation.doubtful
    order: Any = annotation.measured_order
    reason: Any = annotation.reason
    remark: Any = annotation.remark
    masked: Any = annotation.masked_pixels
    if annotation.status is Status.DROPPED:
        wrong = f"the status {_shown(annotation.status)}"
    elif not isinstance(reason, str):
        wrong = f"the reason {_shown(reason)}, which is no text"
    elif not isinstance(remark, str):
        wrong = f"the remark {_shown(remark)}, which is no text"
    elif not _is_count(masked):
        wrong = f"the number of masked pixels {_shown(masked)}, which is no integer that a row can hold"
    elif not isinstance(labels, list | tuple) or not _are_texts(labels):
        wrong = f"the labels {_shown(labels)}, not a tuple of texts"
    elif not isinstance(doubtful, list | tuple) or not _are_texts(doubtful):
        wrong = f"the doubtful labels {_shown(doubtful)}, not a tuple of texts"
    elif both := [label for label in doubtful if label in labels]:
        wrong = f"the labels {_shown(both)} both among those accepted and among those that are doubtful"
    elif not _is_count(order):
        wrong = f"the measured order {_shown(order)}, which is no integer that a row can hold"
    elif not isinstance(scores, Mapping) or not _are_texts(scores):
        wrong = f"the scores {_shown(scores)}, not those of labels"
    else:
        numbers: dict[str, Any] = {
            **scores,
            "fit_residual": annotation.fit_residual,
            "novelty": annotation.novelty,
            "measured_contrast": annotation.measured_contrast,
        }
        wrong = ", ".join(
            f"{name} = {_shown(value)}, which is no finite number or NaN"
            for name, value in numbers.items()
            if not isinstance(value, Real) or math.isinf(value)
        )
    if wrong:
        raise AnnotatorOutputError(f"an annotation has {wrong}")
    if annotation.origin is None:
        return replace(annotation, origin=frame.origin)
    if annotation.origin is not frame.origin and annotation.origin != frame.origin:
        raise AnnotatorOutputError(f"the annotation of {annotation.origin} was returned for {frame.origin}")
    return annotation


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and 0 <= int(value) < 1 << 63


def _shown(value: object) -> str:
    """Return what can be said of a value in a line: it may be an array of a million numbers, or raise."""
    try:
        said = repr(value)
    except Exception:  # noqa: BLE001 - then there is nothing to show
        said = "what cannot be shown"
    return f"{said[:80]} ({type(value).__name__})"
