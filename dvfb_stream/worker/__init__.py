"""A bounded queue and geometry-aware batches around an annotator, so that no caller ever waits for a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_names import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.worker.interface import (
        ReportsStages,
        StageReport,
        SupportsAnnotate,
        SupportsFallBack,
        SupportsPrepare,
    )
    from dvfb_stream.worker.policy import FullQueuePolicy, Source
    from dvfb_stream.worker.stats import DropReason, WorkerStats
    from dvfb_stream.worker.worker import Worker

__all__ = [
    "DropReason",
    "FullQueuePolicy",
    "ReportsStages",
    "Source",
    "StageReport",
    "SupportsAnnotate",
    "SupportsFallBack",
    "SupportsPrepare",
    "Worker",
    "WorkerStats",
]

__getattr__ = lazy_names(__name__, __file__)
