"""A bounded queue and geometry-aware batches around an annotator, so that no caller ever waits for a network."""

from __future__ import annotations

from dvfb_stream.worker.interface import FullQueuePolicy, SupportsAnnotate, WorkerStats, was_dropped
from dvfb_stream.worker.worker import Worker

__all__ = ["FullQueuePolicy", "SupportsAnnotate", "Worker", "WorkerStats", "was_dropped"]
