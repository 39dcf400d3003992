"""What a pipeline counts."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.callbacks.pixel_reader import ReaderStats
from dvfb_stream.callbacks.writer import WriterStats
from dvfb_stream.worker import WorkerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStats:
    """What came in, what became of it, and what went wrong, since the pipeline was made.

    Each part is of one moment, the whole is not: nothing waits while it is collected.
    """

    documents: int
    """Documents that came."""
    malformed: int
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
    """Raw runs forgotten because more than `max_open_runs` were open, or too many bytes of their documents kept."""
    stored_runs: int
    """Raw runs reported to `on_run_stored`, or that would have been."""
    callback_failures: int
    """Exceptions raised by `on_run_stored` and `on_sink_failure`."""
    reader: ReaderStats
    worker: WorkerStats
    writer: WriterStats
