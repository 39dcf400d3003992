"""What a worker counts: for its stats, of one moment, and for the metrics."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.metrics import Metrics, Stage, catalogue
from dvfb_stream.worker.policy import SOURCES_REMEMBERED, Source


class DropReason(Enum):
    """Why a frame was not let in."""

    QUEUE_FULL = "queue full"
    """There was no room."""
    SAMPLED_OUT = "sampled out"
    """There was room, kept for frames further on in the scan (`FullQueuePolicy.SAMPLE`)."""


def full_reason(max_frames: int, max_bytes: int) -> str:
    """Return the reason in the row of a frame that a full queue refused."""
    return f"the queue was full ({max_frames} frames, {max_bytes} bytes at most)"


def sampled_reason(fill: float, interval: int) -> str:
    """Return the reason in the row of a frame that was sampled out."""
    return f"sampled out, one frame in {interval} was let in while the queue was {fill:.0%} full"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What became of the frames so far; `received` is always the sum of the next three and `queued_frames`."""

    received: int
    """Frames submitted and either taken in or refused; one that still waits for room is not counted yet."""
    annotated: int
    """Frames with probabilities."""
    failed: int
    """Frames that the annotator refused, that made it raise, or that came after the worker was closed."""
    dropped: int
    """Frames that were not let in."""
    queued_frames: int
    """Frames held now, those being annotated included."""
    queued_bytes: int
    """Bytes of their pixels."""
    batches: int
    """Batches given to the annotator, the retries of parts of them not included."""
    undelivered: int
    """Annotations whose `deliver` raised: whoever asked for the frame did not get its row."""
    dropped_by_reason: Mapping[DropReason, int]
    """Every reason with its frames, those without any too; their sum is `dropped`."""
    dropped_by_source: Mapping[Source | None, int]
    """Frames dropped of the sources that lost some last, `SOURCES_REMEMBERED` at most."""
    batch_limit: int
    """Most frames in a batch now; less than `batch_size` after memory was exhausted."""
    halvings: int
    """Times that a batch was halved because it did not fit into memory."""
    fallbacks: int
    """Times that a lost device made the annotator move to another."""
    device: str
    """Name of the device that it moved to; empty as long as it has not."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; sources as ``run/stream/data key``, that of frames without origin empty."""
        found = {name: getattr(self, name) for name in self.__slots__}
        found["dropped_by_reason"] = {reason.value: count for reason, count in self.dropped_by_reason.items()}
        found["dropped_by_source"] = {
            "/".join(source or ()): count for source, count in self.dropped_by_source.items()
        }
        return found


class Tally:
    """The counts of one worker. What is counted here is added to the metrics as well.

    Parameters
    ----------
    lock
        The worker's, reentrant: what changes the queue and what counts it happen in one moment.
    metrics
        Added to.
    """

    def __init__(self, lock: threading.Condition, metrics: Metrics) -> None:
        self._lock = lock
        self._metrics = metrics
        self._received = self._annotated = self._failed = self._batches = self._undelivered = 0
        self._halvings = self._fallbacks = 0
        self._device = ""
        self._by_reason = Counter(dict.fromkeys(DropReason, 0))
        self._by_source: OrderedDict[Source | None, int] = OrderedDict()

    def let_in(self, n_bytes: int) -> None:
        """Count a frame that was taken in."""
        with self._lock:
            self._received += 1
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.change(catalogue.QUEUE_FRAMES, 1)
            self._metrics.change(catalogue.QUEUE_BYTES, n_bytes)

    def dropped(self, reason: DropReason, source: Source | None) -> None:
        """Count a frame that was not let in."""
        with self._lock:
            self._received += 1
            self._by_reason[reason] += 1
            self._by_source[source] = self._by_source.get(source, 0) + 1
            self._by_source.move_to_end(source)
            if len(self._by_source) > SOURCES_REMEMBERED:
                self._by_source.popitem(last=False)
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.add(catalogue.DROPPED, 1, reason.value)

    def came_too_late(self) -> None:
        """Count a frame that came after the worker was closed."""
        with self._lock:
            self._received += 1
            self._failed += 1
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.add(catalogue.FAILED)

    def finished(self, annotation: Annotation, n_bytes: int) -> None:
        """Count a frame that has its row."""
        with self._lock:
            if annotation.ok:
                self._annotated += 1
                self._metrics.add(catalogue.ANNOTATED)
            else:
                self._failed += 1
                self._metrics.add(catalogue.FAILED)
            self._metrics.change(catalogue.QUEUE_FRAMES, -1)
            self._metrics.change(catalogue.QUEUE_BYTES, -n_bytes)

    def undelivered(self) -> None:
        """Count an annotation that its receiver refused."""
        with self._lock:
            self._undelivered += 1
            self._metrics.add(catalogue.UNDELIVERED)

    def batch(self, frames: int, waited: float) -> None:
        """Count a batch that was taken, whose oldest frame had waited so many seconds."""
        with self._lock:
            self._batches += 1
            self._metrics.observe(catalogue.BATCH_FRAMES, frames)
            self._metrics.observe(catalogue.BATCH_WAIT_SECONDS, waited)

    def halved(self) -> None:
        """Count a batch that did not fit into memory."""
        with self._lock:
            self._halvings += 1
            self._metrics.add(catalogue.HALVINGS)

    def fell_back(self, device: str) -> bool:
        """Count a move to another device; return whether that is news."""
        with self._lock:
            if device == self._device:
                return False
            self._device = device
            self._fallbacks += 1
            self._metrics.add(catalogue.FALLBACKS)
            return True

    def took(self, stage: Stage, seconds: float) -> None:
        """Count the duration of a stage; in the metrics alone."""
        self._metrics.observe(catalogue.STAGE_SECONDS, seconds, stage)

    def stats(self, *, queued_frames: int, queued_bytes: int, batch_limit: int) -> WorkerStats:
        """Return the counts as they are."""
        with self._lock:
            return WorkerStats(
                received=self._received,
                annotated=self._annotated,
                failed=self._failed,
                dropped=self._by_reason.total(),
                queued_frames=queued_frames,
                queued_bytes=queued_bytes,
                batches=self._batches,
                undelivered=self._undelivered,
                dropped_by_reason=MappingProxyType(dict(self._by_reason)),
                dropped_by_source=MappingProxyType(dict(self._by_source)),
                batch_limit=batch_limit,
                halvings=self._halvings,
                fallbacks=self._fallbacks,
                device=self._device,
            )
