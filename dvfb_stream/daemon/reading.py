"""What a daemon reads files with: a process of its own, which sees no other files than the settings allow."""

from __future__ import annotations

from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.metrics import Metrics


def reading_process(settings: DaemonSettings, memory: FrameMemory, metrics: Metrics) -> FilesProcess:
    """Return what reads files into `memory`; see `FileSettings.reading_process`."""
    return settings.files.reading_process(
        memory, metrics, root_map=settings.root_map, handlers=settings.handlers
    )
