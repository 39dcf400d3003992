"""Files opened and read by a process of its own: HDF5 lets nobody else run while a disk keeps it waiting."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.device_failures import Cause, ReportedFailureError
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.handler_classes import Handler, importable
from dvfb_stream.files.references import Expected, FrameReference, HandledFrame, Remark, as_json, unheard
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.service_process import SECONDS_TO_START, Ask, ServiceProcess
from dvfb_stream.metrics import Metrics

SECONDS_TO_READ = 10.0
"""A frame takes milliseconds. A file system that hangs for longer holds up the frames of all files."""

MAX_OPEN = 32
"""HDF5 files and handlers open at a time."""


class FilesProcess:
    """Reads frames in a process of its own, started by `start` or the first frame; see `FrameReader`.

    Made for the process in which a RunEngine runs plans: h5py holds Python's lock while HDF5 waits for a disk, so
    that a file system that is slow would stop a plan, and a damaged file could end it. Detectors that write from this
    process can write to their files as if nobody read them, which HDF5 would otherwise refuse.

    Parameters
    ----------
    memory
        Where frames are read to; None: one of its own.
    answer_within
        Seconds after which a read is given up and the process ended; the frame may be there later.
    file_mask
        Whether what a file itself says of invalid pixels is used: ``pixel_mask`` (1 = masked), ``Count_cutoff``.
    handlers
        Classes by spec for old-style resources, before those that packages register; the process imports them.
    metrics
        Restarts are counted in it.

    Raises
    ------
    SettingsError
        When a handler cannot be imported, or `answer_within` is not positive.
    """

    def __init__(
        self,
        memory: FrameMemory | None = None,
        *,
        answer_within: float = SECONDS_TO_READ,
        file_mask: bool = True,
        handlers: Mapping[str, Handler | str] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._memory = FrameMemory() if memory is None else memory
        self._process = ServiceProcess(
            f"{__package__}.files_service:FilesService",
            {"max_open": MAX_OPEN, "file_mask": file_mask, "handlers": importable(handlers or {})},
            memory=self._memory,
            called="what reads files",
            answer_within=answer_within,
            metrics=metrics,
        )
        self._open_files = 0
        self._loaded: set[tuple[int | None, str]] = set()
        """Process that has imported a handler, and the handler's spec."""

    def start(self) -> None:
        """Start the process now; where it does not start, the first frame tries again.

        Starting one holds Python's lock for up to 90 ms: here rather than at a scan's first frame.
        """
        with suppress(ReportedFailureError):
            self._process.start()

    @property
    def open_files(self) -> int:
        """See `FrameReader`."""
        return self._open_files

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._process.pid

    def read(self, reference: FrameReference, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """See `FrameReader`."""
        path = reference.path
        request = {"do": "read", "frame": as_json(reference), "run": run, "place": None}
        try:
            with self._process.asking() as ask:
                if isinstance(reference, HandledFrame):
                    self._load(ask, reference.spec)
                pixels = self._as_described(reference.expected)
                answer = self._asked(ask, request, pixels)
                if not answer["is_there"]:
                    # Nothing is described, or the file has something else: the process keeps what it has read.
                    pixels = self._memory.shared(tuple(answer["shape"]), np.dtype(answer["dtype"]))
                    answer = self._asked(ask, request, pixels)
        except TypeError as error:
            raise FrameError(f"{path} cannot be read: {error}") from error
        except ReportedFailureError as error:
            raise _as_there(error, path) from error
        self._open_files = answer["open_files"]
        if pixels is None or not answer["is_there"]:
            raise NotThereYetError(f"{path} was written anew while it was read")
        for said in answer["remarks"]:
            remark(said)
        pixels.flags.writeable = False
        return pixels

    def _load(self, ask: Ask, spec: str) -> None:
        """Have the process import a handler, once: with what handlers bring along, that takes as long as a start."""
        if (self._process.pid, spec) not in self._loaded:
            ask({"do": "load", "spec": spec}, within=SECONDS_TO_START)
            self._loaded = {(pid, known) for pid, known in self._loaded if pid == self._process.pid}
            self._loaded.add((self._process.pid, spec))

    def _as_described(self, expected: Expected) -> NDArray[Any] | None:
        """Return memory for a frame as the descriptor has it; None where it does not say, or says what none has."""
        shape, dtype = expected.shape, expected.dtype
        if shape is None or dtype is None:
            return None
        try:
            expected.check_promise(shape, dtype, "")
        except FrameError:
            return None
        return self._memory.shared(shape, dtype.newbyteorder("="))

    def _asked(self, ask: Ask, request: Mapping[str, Any], pixels: NDArray[Any] | None) -> Mapping[str, Any]:
        if pixels is None:
            return ask(request)
        return ask({**request, "place": self._memory.place_of(pixels)}, [pixels])

    def release(self, run: str) -> None:
        """See `FrameReader`."""
        if not self._process.is_running:
            self._open_files = 0  # nothing is open in a process that has ended
            return
        try:
            with self._process.asking() as ask:
                self._open_files = ask({"do": "release", "run": run})["open_files"]
        except ReportedFailureError:
            self._open_files = 0

    def close(self) -> None:
        """See `FrameReader`."""
        self._process.close()
        self._open_files = 0


def _as_there(error: ReportedFailureError, path: str) -> FrameError:
    """Return the error that was raised there, or what the end of the process means for the frame."""
    if error.cause is Cause.RAISED and error.error == NotThereYetError.__name__:
        return NotThereYetError(str(error))
    if error.cause is Cause.RAISED and error.error == FrameError.__name__:
        return FrameError(str(error))
    what = f"{path} cannot be read: {error}"
    # The file ended the process, or made it raise what it should not; else it may be all right, and may come.
    is_final = error.cause in (Cause.RAISED, Cause.ENDED, Cause.CLOSED)
    return FrameError(what) if is_final else NotThereYetError(what)
