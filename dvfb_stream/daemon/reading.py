"""What a daemon reads files with: a process of its own, which sees no other files than the settings allow."""

from __future__ import annotations

from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.limits import ProcessLimits
from dvfb_stream.metrics import Metrics


def reading_process(settings: DaemonSettings, memory: FrameMemory, metrics: Metrics) -> FilesProcess:
    """Return what reads files into `memory`; its process is started by the first frame that is to be read.

    Folders that `root_map` leads to are allowed as well.

    Raises
    ------
    SettingsError
        When a handler cannot be imported.
    """
    files = settings.files
    return FilesProcess(
        memory,
        answer_within=files.read_timeout,
        handlers=settings.handlers,
        allowed_roots=[*files.allowed_roots, *settings.root_map.values()],
        limits=ProcessLimits(memory=files.max_memory),
        max_open=files.max_open,
        niceness=0,  # there is no plan here that waits for a processor
        metrics=metrics,
    )
