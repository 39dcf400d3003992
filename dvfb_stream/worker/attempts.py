"""One batch annotated, whatever happens: retried smaller, elsewhere, or frame by frame."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import DvfbError
from dvfb_stream.failures import Failure, failure_of
from dvfb_stream.metrics import Stage
from dvfb_stream.worker.answers import checked
from dvfb_stream.worker.batching import BatchLimit
from dvfb_stream.worker.frame_queue import Entry
from dvfb_stream.worker.interface import SupportsAnnotate, SupportsFallBack
from dvfb_stream.worker.preparation import Preparation
from dvfb_stream.worker.stats import Tally

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    """What is kept of an exception.

    The exception itself would keep the batch's tensors alive by its traceback, and a smaller batch needs their
    memory.
    """

    failure: Failure
    reason: str


class Attempts:
    """Annotates batches; every frame gets an annotation, whatever the annotator does.

    - A batch that exhausts the memory is halved, and so are those after it, until larger ones are tried again (see
      `BatchLimit`). A frame that does not fit alone fails alone.
    - A batch that loses the device is annotated again once the annotator has fallen back, where it can.
    - Any other batch that fails, or for which the annotator returns something other than one annotation a frame (see
      `checked`), is annotated once more frame by frame. A frame that fails alone gets a row of status ``failed``.
    - What was prepared is prepared again where preparing it failed, and after the annotator has fallen back.

    Parameters
    ----------
    annotator
        Called by the thread that iterates.
    preparation
        What has prepared the frames, where the annotator `SupportsPrepare`.
    limit
        Told what fitted into memory.
    tally
        Told of halvings, of moves to another device, and of the duration of each call that succeeds.
    """

    def __init__(
        self,
        annotator: SupportsAnnotate,
        *,
        preparation: Preparation | None,
        limit: BatchLimit,
        tally: Tally,
    ) -> None:
        self._annotator = annotator
        self._identity = annotator.identity
        self._preparation = preparation
        self._fall_back = annotator.fall_back if isinstance(annotator, SupportsFallBack) else None
        self._limit = limit
        self._tally = tally

    def annotated(self, batch: Sequence[Entry]) -> Iterator[tuple[Entry, Annotation]]:
        """Yield every entry of a batch with its annotation, in order, each as soon as it is there."""
        parts = deque([batch])
        may_fall_back = self._fall_back is not None
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
            elif outcome.failure is Failure.DEVICE and may_fall_back:
                may_fall_back = False
                self._move()
                parts.appendleft(part)
            elif len(part) == 1:
                (entry,) = part
                yield (
                    entry,
                    Annotation.failed(outcome.reason, model=self._identity, origin=entry.frame.origin),
                )
            elif outcome.failure is Failure.MEMORY:
                self._limit.did_not_fit(len(part))
                self._tally.halved()
                parts.appendleft(part)
            else:
                parts.extendleft([entry] for entry in reversed(part))

    def _attempt(self, part: Sequence[Entry]) -> list[Annotation] | _Failed:
        try:
            return checked(self._annotate(part), [entry.frame for entry in part])
        except BaseException as error:  # whatever it was, it costs the frames that cause it, not the thread
            failure = failure_of(error)
            if len(part) > 1:
                # Of memory and device there is nothing to learn from where it happened, and a record that somebody
                # keeps would keep the tensors as well.
                where = failure is Failure.OTHER
                said = repr(error)
                logger.warning(
                    "a batch of %d frames failed (%s): %s", len(part), failure.value, said, exc_info=where
                )
            else:
                logger.warning("annotating the frame %s failed", part[0].frame.origin, exc_info=True)
            known = isinstance(error, DvfbError)
            return _Failed(failure, str(error) if known else f"{type(error).__name__}: {error}")

    def _annotate(self, part: Sequence[Entry]) -> Any:
        if self._preparation is None:
            frames = [entry.frame for entry in part]
            started = time.perf_counter()
            annotations: Any = self._annotator.annotate(frames)
        else:
            prepared = self._preparation.prepared([entry.number for entry in part])
            started = time.perf_counter()
            annotations = self._preparation.annotator.annotate_prepared(prepared)
        self._tally.took(Stage.ANNOTATE, time.perf_counter() - started)
        return annotations

    def _move(self) -> None:
        assert self._fall_back is not None
        try:
            device = self._fall_back()
        except BaseException:  # the batch is tried once more in any case
            logger.exception("the device is lost, and the annotator has no other")
            return
        self._limit.forget()
        if self._preparation is not None:
            self._preparation.start_over()  # what is there lies on the lost device
        if self._tally.fell_back(device):
            logger.error("the device is lost: annotating on %s from now on", device)
