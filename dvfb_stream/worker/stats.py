"""What a worker counts: for its stats, which are of one moment, and for the metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.metrics import Metrics, catalogue
from dvfb_stream.worker.policy import SOURCES_REMEMBERED, Source


class DropReason(Enum):
    """Why a frame was not let in."""

    QUEUE_FULL = "queue full"
    """There was no room."""
    SAMPLED_OUT = "sampled out"
    """There was room, kept for frames further on in the scan (`FullQueuePolicy.SAMPLE`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What became of the frames so far; `received` is always the sum of the next three and `queued_frames`."""

    received: int
    """Frames submitted and either let in or refused; not yet one that waits for room or is being copied."""
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


_COUNTED = (
    "received",
    "annotated",
    "failed",
    "queued_frames",
    "queued_bytes",
    "batches",
    "undelivered",
    "halvings",
    "fallbacks",
)


class Tally:
    """The counts of one worker; any thread. What is counted here is added to the metrics as well."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = (
            threading.Lock()
        )  # guards the rest; whoever has it waits for nothing but the metrics' own
        self._counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)  # by the field of `WorkerStats`
        self._by_reason = Counter(dict.fromkeys(DropReason, 0))
        self._by_source = BoundedCache[Source | None, int](SOURCES_REMEMBERED)
        self._device = ""

    def let_in(self, n_bytes: int) -> None:
        """Count a frame that was let in."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["queued_frames"] += 1
            self._counts["queued_bytes"] += n_bytes
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.add(catalogue.QUEUE_FRAMES, 1)
            self._metrics.add(catalogue.QUEUE_BYTES, n_bytes)

    def dropped(self, reason: DropReason, source: Source | None) -> None:
        """Count a frame that was not let in."""
        with self._lock:
            self._counts["received"] += 1
            self._by_reason[reason] += 1
            self._by_source.put(source, self._by_source.get(source, 0) + 1)
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.add(catalogue.DROPPED, 1, reason.value)

    def refused(self) -> None:
        """Count a frame that could not be kept, or came after the worker was closed."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["failed"] += 1
            self._metrics.add(catalogue.RECEIVED)
            self._metrics.add(catalogue.FAILED)

    def finished(self, annotation: Annotation, n_bytes: int) -> None:
        """Count a frame that has its row."""
        ok = annotation.status is Status.OK
        with self._lock:
            self._counts["annotated" if ok else "failed"] += 1
            self._counts["queued_frames"] -= 1
            self._counts["queued_bytes"] -= n_bytes
            self._metrics.add(catalogue.ANNOTATED if ok else catalogue.FAILED)
            for label in annotation.doubtful:
                if label in ALL_LABELS:  # whatever an annotator calls doubtful: a metric's labels are few
                    self._metrics.add(catalogue.DOUBTFUL, 1, label)
            self._metrics.add(catalogue.QUEUE_FRAMES, -1)
            self._metrics.add(catalogue.QUEUE_BYTES, -n_bytes)

    def undelivered(self) -> None:
        """Count an annotation that its receiver refused."""
        with self._lock:
            self._counts["undelivered"] += 1
            self._metrics.add(catalogue.UNDELIVERED)

    def batch(self, frames: int, waited: float) -> None:
        """Count a batch that was taken, whose oldest frame had waited so many seconds."""
        with self._lock:
            self._counts["batches"] += 1
            self._metrics.observe(catalogue.BATCH_FRAMES, frames)
            self._metrics.observe(catalogue.BATCH_WAIT_SECONDS, waited)

    def halved(self) -> None:
        """Count a batch that did not fit into memory."""
        with self._lock:
            self._counts["halvings"] += 1
            self._metrics.add(catalogue.HALVINGS)

    def fell_back(self, device: str) -> bool:
        """Count a move to another device; return whether that is news."""
        with self._lock:
            if device == self._device:
                return False
            self._device = device
            self._counts["fallbacks"] += 1
            self._metrics.add(catalogue.FALLBACKS)
            return True

    def stats(self, *, batch_limit: int) -> WorkerStats:
        """Return the counts, all of one moment."""
        with self._lock:
            return WorkerStats(
                **self._counts,
                dropped=self._by_reason.total(),
                dropped_by_reason=MappingProxyType(dict(self._by_reason)),
                dropped_by_source=MappingProxyType(
                    dict(zip(self._by_source.keys(), self._by_source.values(), strict=True))
                ),
                batch_limit=batch_limit,
                device=self._device,
            )
