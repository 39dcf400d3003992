"""Which files are opened that documents name, and what reading one may cost: ``[files]`` of every configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from dvfb_stream.files.handler_classes import Handler
from dvfb_stream.files.settings_file import Settings, Text
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.limits import LEAST_MEMORY, ProcessLimits
from dvfb_stream.metrics import Metrics


def _root(path: str) -> str:
    if not os.path.isabs(path) or os.path.realpath(path) in (os.sep, "/proc", "/sys", "/dev"):
        raise ValueError(f"a root must be the absolute path of a folder of data, such as /data, not {path!r}")
    return path


class FileSettings(Settings):
    """Which files are opened, and what reading one of them may cost. They are read by a process beside this one."""

    allowed_roots: list[Annotated[Text, AfterValidator(_root)]] = Field(default_factory=list)
    """Folders below which files may be opened that documents name, and folders that ``root_map`` leads to besides.
    Without either no file is opened, and the rows of frames in files say so."""
    read_timeout: PositiveFloat = 10.0
    """Seconds that reading a frame may take; longer than the longest pause of the file servers. A frame takes
    milliseconds. A file can hold up a partition for twice as long."""
    max_memory: Annotated[int, Field(ge=LEAST_MEMORY)] = 1 << 30
    """Bytes that reading may take, besides the frames that wait: of a compressed file what is in it."""
    max_open: PositiveInt = 32
    """HDF5 files and handlers kept open for each partition."""

    def reading_process(
        self,
        memory: FrameMemory,
        metrics: Metrics,
        *,
        root_map: Mapping[str, str],
        handlers: Mapping[str, Handler | str] | None = None,
    ) -> FilesProcess:
        """Return what reads files into `memory`; its process is started by the first frame that is to be read.

        Folders that `root_map` leads to are allowed as well.

        Raises
        ------
        SettingsError
            When a handler cannot be imported.
        """
        return FilesProcess(
            memory,
            answer_within=self.read_timeout,
            handlers=handlers,
            allowed_roots=[*self.allowed_roots, *root_map.values()],
            limits=ProcessLimits(memory=self.max_memory),
            max_open=self.max_open,
            niceness=0,  # there is no plan here that waits for a processor
            metrics=metrics,
        )
