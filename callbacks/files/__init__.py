"""Files of detectors, opened and read: in this process, or beside it."""

from __future__ import annotations

from dvfb_stream.callbacks.files.expected import Expected, NotThereYetError
from dvfb_stream.callbacks.files.files import FrameFiles
from dvfb_stream.callbacks.files.files_process import FilesProcess
from dvfb_stream.callbacks.files.interface import Files

__all__ = ["Expected", "Files", "FilesProcess", "FrameFiles", "NotThereYetError"]
