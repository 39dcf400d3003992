"""A bounded queue and geometry-aware batches around an annotator, so that no caller ever waits for a network."""

from __future__ import annotations

from dvfb_stream.worker.policy import FullQueuePolicy, Source
from dvfb_stream.worker.stats import DropReason, WorkerStats
from dvfb_stream.worker.worker import Worker

__all__ = ["DropReason", "FullQueuePolicy", "Source", "Worker", "WorkerStats"]
