"""Files opened and read by a process of its own: HDF5 lets nobody else run while a disk keeps it waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.device_failures import Cause, Failure, ReportedFailureError
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.allowed_roots import AllowedRoots
from dvfb_stream.files.handler_classes import Handler, importable
from dvfb_stream.files.references import Expected, FrameReference, HandledFrame, Remark, as_json, unheard
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.limits import ProcessLimits
from dvfb_stream.isolation.lost_time import LostTime
from dvfb_stream.isolation.service_process import NICENESS, SECONDS_TO_START, Ask, ServiceProcess
from dvfb_stream.metrics import Metrics

SECONDS_TO_READ = 10.0
"""A frame takes milliseconds. A file system that hangs for longer holds up the frames of all files."""

MAX_OPEN = 32
"""HDF5 files and handlers open at a time."""

ATTEMPTS = 2
"""Times `answer_within` that a file may cost a run and give nothing; after that its frames fail at once."""

SECONDS_FOR_NOTHING = 0.5
"""That a read may take before it counts that it gave nothing: of a file that is late it takes milliseconds, each time
that it is looked for."""

MOST_LENT_UNSEEN = 1 << 28
"""Bytes of memory that are made ready for a frame because a descriptor says so. Of a larger one the file is read
first, by the process, in its own memory."""

_BY_THE_FILE = (Cause.ENDED, Cause.KILLED, Cause.TIMED_OUT)


class FilesProcess:
    """Reads frames in a process of its own, started by `start` or the first frame; see `FrameReader`.

    Made for the process in which a RunEngine runs plans: h5py holds Python's lock while HDF5 waits for a disk, so
    that a file system that is slow would stop a plan, and a damaged file could end it. Detectors that write from this
    process can write to their files as if nobody read them, which HDF5 would otherwise refuse.

    A file that ends the process, or has it reach a limit, costs its frames alone: the process is started again. Each
    file can cost a run `ATTEMPTS` times `answer_within` seconds so.

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
    allowed_roots
        Folders below which files may be opened; see `AllowedRoots`. None: every file may.
    limits
        What the process may use of this machine; None: what this one may.
    max_open
        HDF5 files and handlers open at a time.
    niceness
        See `ServiceProcess`.
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
        allowed_roots: Sequence[str] | None = None,
        limits: ProcessLimits | None = None,
        max_open: int = MAX_OPEN,
        niceness: int = NICENESS,
        metrics: Metrics | None = None,
    ) -> None:
        self._allowed = AllowedRoots(allowed_roots)
        self._limits = limits
        self._answer_within = answer_within
        self._memory = FrameMemory() if memory is None else memory
        self._process = ServiceProcess(
            f"{__package__}.files_service:FilesService",
            {
                "max_open": max_open,
                "file_mask": file_mask,
                "handlers": importable(handlers or {}),
                "allowed_roots": self._allowed.roots,
            },
            memory=self._memory,
            called="what reads files",
            answer_within=answer_within,
            metrics=metrics,
            niceness=niceness,
            limits=limits,
        )
        self._lost = LostTime(ATTEMPTS * answer_within)
        self._has_read: int | None = None  # the process that has read the last frame
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
    def allowed_roots(self) -> tuple[str, ...] | None:
        """Folders below which files may be opened; None: every file may."""
        return self._allowed.roots

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._process.pid

    def read(self, reference: FrameReference, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """See `FrameReader`."""
        path = reference.path
        if self._allowed.roots == ():
            self._allowed.check(path)
        if refusal := self._lost.refusal(run, path):
            raise FrameError(f"{path} cannot be read: {refusal}")
        begun = time.monotonic()
        try:
            pixels, answer = self._read(reference, run)
        except TypeError as error:
            raise FrameError(f"{path} cannot be read: {error}") from error
        except ReportedFailureError as error:
            seconds = min(time.monotonic() - begun, self._answer_within)  # not what starting takes
            if error.cause in _BY_THE_FILE or (error.cause is Cause.RAISED and seconds > SECONDS_FOR_NOTHING):
                self._lost.lose(run, path, seconds, str(error))
            is_last = bool(self._lost.refusal(run, path))
            raise self._as_there(error, path, is_last=is_last) from error
        self._open_files = answer["open_files"]
        if pixels is None or not answer["is_there"]:
            raise NotThereYetError(f"{path} was written anew while it was read")
        for said in answer["remarks"]:
            remark(said)
        pixels.flags.writeable = False
        return pixels

    def _read(self, reference: FrameReference, run: str) -> tuple[NDArray[Any] | None, Mapping[str, Any]]:
        """Return memory with the pixels, if they are there, and what the process said.

        What is the matter with one file may show at the next that is read: where the process has read others before,
        a frame that ends it, or finds no memory, is read once more by a new one.
        """
        has_read = self._process.pid is not None and self._process.pid == self._has_read
        try:
            return self._read_once(reference, run)
        except ReportedFailureError as error:
            if error.failure is Failure.MEMORY and error.cause is Cause.RAISED:
                self._process.end()  # what is left of it has no room
            elif error.cause is not Cause.ENDED:
                raise
            if not has_read:
                raise
        return self._read_once(reference, run)

    def _read_once(
        self, reference: FrameReference, run: str
    ) -> tuple[NDArray[Any] | None, Mapping[str, Any]]:
        request = {"do": "read", "frame": as_json(reference), "run": run, "place": None}
        with self._process.asking() as ask:
            if isinstance(reference, HandledFrame):
                self._load(ask, reference.spec)
            pixels = self._as_described(reference.expected)
            within = min(self._answer_within, self._lost.seconds_for(run) or self._answer_within)
            answer = self._asked(ask, request, pixels, within)
            is_outdated = "is_outdated" in answer
            if not is_outdated and not answer["is_there"]:
                # Nothing is described, or the file has something else: the process keeps what it has read.
                pixels = self._memory.shared(tuple(answer["shape"]), np.dtype(answer["dtype"]))
                answer = self._asked(ask, request, pixels, within)
            self._has_read = self._process.pid
        if is_outdated:
            self._process.end()
            return self._read_once(reference, run)
        return pixels, answer

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
        if shape[0] * shape[1] * dtype.itemsize > MOST_LENT_UNSEEN:
            return None
        return self._memory.shared(shape, dtype.newbyteorder("="))

    def _asked(
        self, ask: Ask, request: Mapping[str, Any], pixels: NDArray[Any] | None, within: float
    ) -> Mapping[str, Any]:
        if pixels is None:
            return ask(request, within=within)
        return ask({**request, "place": self._memory.place_of(pixels)}, [pixels], within=within)

    def release(self, run: str) -> None:
        """See `FrameReader`."""
        self._lost.forget(run)
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

    def _as_there(self, error: ReportedFailureError, path: str, *, is_last: bool) -> FrameError:
        """Return the error that was raised there, or what the end of the process means for the frame.

        `is_last` says that the file is not read again.
        """
        if error.cause is Cause.RAISED and error.error == FrameError.__name__:
            return FrameError(str(error))
        if error.cause is Cause.RAISED and error.error == NotThereYetError.__name__:
            return FrameError(str(error)) if is_last else NotThereYetError(str(error))
        if error.cause is Cause.RAISED and error.failure is Failure.MEMORY:
            most = "there is" if self._limits is None else f"the {self._limits.memory >> 20} MB that it may"
            return FrameError(
                f"{path} cannot be read: that takes more memory than {most} (max_memory of [files])"
            )
        what = f"{path} cannot be read: {error}"
        # The file ended the process, or made it raise what it should not; else it may be all right, and may come.
        is_final = is_last or error.cause in (Cause.RAISED, Cause.ENDED, Cause.CLOSED)
        return FrameError(what) if is_final else NotThereYetError(what)
