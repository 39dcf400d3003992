"""The near end: an annotator whose work is done by a process of its own, which may end without ending this one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from dvfb_stream import errors
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import DvfbError, FrameError, SettingsError
from dvfb_stream.frames import Frame
from dvfb_stream.metrics import Metrics, Stage, catalogue
from dvfb_stream.worker.device_failures import Failure, ReportedFailureError
from dvfb_stream.worker.interface import StageReport
from dvfb_stream.worker.process.messages import (
    Kind,
    Message,
    annotation_from,
    receive,
    send,
)
from dvfb_stream.worker.process.shared_frames import FrameWriter

logger = logging.getLogger(__name__)

NICENESS = 10
"""Of the process: beside a RunEngine that wants a processor it gets a tenth of it, and all that is left over."""

SECONDS_TO_START = 120.0
"""Importing torch and loading a model take two seconds, and a minute where both come over a network."""

SECONDS_TO_ANSWER = 120.0
"""A batch takes a tenth of a second, and the first of a geometry one more. What takes so long is stuck."""

SECONDS_TO_END = 5.0

LONGEST_PAUSE = 60.0
"""Seconds between attempts to start a process that does not start; one second at first, then twice as many each
time. Meanwhile frames fail at once, and their rows say why."""

_CLOSED = "the annotator was closed"

_NUMBERS = "buif"
"""NumPy's kinds that can be shared: boolean, unsigned, signed, floating."""


class AnnotatorProcess:
    """Annotates in a process of its own, at a lower priority, and starts it again when it ends.

    Made for the process in which a RunEngine runs plans: Python runs one thread at a time there, and an annotator in
    another thread takes a millisecond or two of it for each frame. Whatever happens to the other process (its
    memory is exhausted, its device is lost, a library brings it down) costs rows or time, and not the plan.

    Pixels are copied into memory that both processes see; annotations come back as JSON.

    Life: the process is started, and the model loaded, while this is made. When it ends, `annotate` raises, and the
    next call starts it again; if what it loads then is another model, that is refused. A batch for which it takes
    longer than `answer_within` is given up, and the process ended. It ends with `close`, and when the process that
    has started it ends, however it does. Ctrl-C does not reach it.

    `annotate` is for one thread at a time; `close` may be called from any, and makes an `annotate` under way raise.

    Parameters
    ----------
    factory
        What makes the annotator there, as ``module:name``: called with `settings`.
    settings
        JSON-ready; `fall_back` sets ``device`` in it.
    niceness
        Added to that of this process.
    answer_within
        Seconds.
    metrics
        Restarts are counted in it.

    Raises
    ------
    DvfbError
        What the factory raised there, of the same class: a BundleError when there is no such model.
    ReportedFailureError
        When the process does not start, or the factory raised anything else.
    """

    def __init__(
        self,
        factory: str,
        settings: Mapping[str, Any],
        *,
        niceness: int = NICENESS,
        answer_within: float = SECONDS_TO_ANSWER,
        metrics: Metrics | None = None,
    ) -> None:
        if not answer_within > 0:
            raise SettingsError(f"answer_within must be more than 0 s, not {answer_within}")
        self._factory = factory
        self._settings = dict(settings)
        self._niceness = niceness
        self._answer_within = answer_within
        self._metrics = Metrics() if metrics is None else metrics
        self._report: StageReport | None = None
        self._pause, self._start_after = 0.0, 0.0
        self._annotating = threading.Lock()
        # Guards the next two.
        self._changing = threading.Lock()
        self._child: _Child | None = None
        self._closed = False
        self._frames = FrameWriter()
        try:
            ready = self._start()
        except BaseException:
            self.close()
            raise
        self._identity = ModelIdentity(**ready["identity"])
        self._provenance: dict[str, Any] = ready["provenance"]

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = "default",
        *,
        device: str = "auto",
        metrics: Metrics | None = None,
    ) -> Self:
        """Return the process that annotates with a bundle; as `dvfb_stream.Annotator.load`, which it calls."""
        return cls(
            "dvfb_stream.annotator:Annotator.load", {"model": str(model), "device": device}, metrics=metrics
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which model annotates."""
        return self._identity

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        with self._changing:
            return None if self._child is None else self._child.process.pid

    def provenance(self) -> dict[str, Any]:
        """Return what the annotator says of itself."""
        return dict(self._provenance)

    def report_stages(self, report: StageReport | None) -> None:
        """From now on call `report` with the durations of the stages there; None: no more."""
        self._report = report

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in order.

        Raises
        ------
        FrameError
            When pixels are of a type that is no number.
        ReportedFailureError
            When the annotator raised, or its process ended, did not answer in time, or could not be started again.
        """
        for frame in frames:
            if frame.pixels.dtype.kind not in _NUMBERS:
                raise FrameError(f"pixels must be integer or floating, not {frame.pixels.dtype}")
        with self._annotating:
            if self._closed:
                raise ReportedFailureError(_CLOSED)
            places = self._frames.write(frames)
            child = self._offered(places) or self._offered(places)
            if child is None:
                raise ReportedFailureError("the annotator's process ends before it takes a batch")
            try:
                answer = self._answer(child, self._answer_within)
            except (EOFError, OSError) as error:
                raise self._ended(child, "annotating") from error
        return self._annotations(answer, frames)

    def fall_back(self) -> str:
        """Annotate on the CPU from now on, in a new process: the lost device goes with the old one."""
        if self._settings.get("device") != "cpu":
            self._settings["device"] = "cpu"
            with self._annotating:
                self._let_go()
        return "cpu"

    def close(self) -> None:
        """End the process. What it is at is given up."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            if self._child is not None:
                self._child.process.terminate()
        with self._annotating:
            self._let_go()
            self._frames.close()

    # -- the process -------------------------------------------------------------------------------------

    def _offered(self, places: list[dict[str, Any]]) -> _Child | None:
        """Return the process that has taken a batch; None if it had ended before, which is not the batch's doing."""
        child = self._running()
        try:
            send(child.connection, Kind.BATCH, frames=places)
            self._answer(child, self._answer_within)
        except (EOFError, OSError):
            logger.warning("%s", self._ended(child, "waiting for frames"))
            return None
        return child

    def _running(self) -> _Child:
        """Return the process, started again where it has ended."""
        if self._child is not None and self._child.process.poll() is None:
            return self._child
        self._let_go()
        if time.monotonic() < self._start_after:
            raise ReportedFailureError(
                "the annotator's process does not start; the log says why, and it is tried again within "
                f"{self._pause:g} s"
            )
        logger.warning("the annotator's process is started again")
        self._metrics.add(catalogue.RESTARTS)
        identity = ModelIdentity(**self._start()["identity"])
        if identity != self._identity:
            self._let_go()
            raise ReportedFailureError(
                f"the model was {self._identity} and is {identity} now: close the annotator and make it anew"
            )
        assert self._child is not None
        return self._child

    def _start(self) -> Mapping[str, Any]:
        """Start the process and return what it says when it is ready."""
        try:
            child = self._begun()
            try:
                send(
                    child.connection,
                    Kind.SETUP,
                    factory=self._factory,
                    settings=self._settings,
                    nice=self._niceness,
                )
                answer = self._answer(child, SECONDS_TO_START)
            except (EOFError, OSError) as error:
                raise self._ended(child, "starting") from error
            if answer.kind is not Kind.READY:
                self._let_go()
                raise _refusal(**answer.content)
        except DvfbError:
            self._pause = min(max(1.0, 2.0 * self._pause), LONGEST_PAUSE)
            self._start_after = time.monotonic() + self._pause
            raise
        self._pause = 0.0
        return answer.content

    def _begun(self) -> _Child:
        ours, theirs = Pipe()
        with theirs, self._changing:
            if self._closed:
                ours.close()
                raise ReportedFailureError(_CLOSED)
            passed = (theirs.fileno(), self._frames.file)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __package__, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # What this process can import, that one must as well.
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                # Of its own, so that Ctrl-C does not end it.
                process_group=0,
            )
            self._child = _Child(process, ours)
            return self._child

    def _answer(self, child: _Child, seconds: float) -> Message:
        """Return what the process answers.

        Raises
        ------
        EOFError, OSError
            When it has ended.
        ReportedFailureError
            When it does not answer in time; it is ended then.
        """
        if child.connection.poll(seconds):
            return receive(child.connection)
        self._let_go()
        raise ReportedFailureError(
            f"the annotator's process did not answer within {seconds:g} s and was ended", Failure.DEVICE
        )

    def _ended(self, child: _Child, doing: str) -> ReportedFailureError:
        """Return what to raise when the process has ended."""
        self._let_go()
        if self._closed:
            return ReportedFailureError(_CLOSED)
        status = child.process.returncode
        if status == -signal.SIGKILL:
            # Nobody but the system's killer for want of memory ends a process so by itself.
            return ReportedFailureError(
                f"the annotator's process was killed while {doing}: the system may be out of memory",
                Failure.MEMORY,
            )
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
        return ReportedFailureError(f"the annotator's process ended {how} while {doing}")

    def _let_go(self) -> None:
        """End the process, if there is one, and wait until it has."""
        with self._changing:
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _annotations(self, answer: Message, frames: Sequence[Frame]) -> list[Annotation]:
        content = answer.content
        if answer.kind is Kind.FAILED:
            raise ReportedFailureError(content["message"], Failure(content["failure"]))
        if self._report is not None:
            for stage, seconds in content["stages"]:
                self._report(Stage(stage), seconds)
        return [
            annotation_from(told, model=self._identity, origin=frame.origin)
            for told, frame in zip(content["annotations"], frames, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    def end(self) -> None:
        """Close the connection and wait until the process has ended; it has nothing to save."""
        self.connection.close()
        try:
            self.process.wait(0.1 if self.process.poll() is None else 0.0)
        except subprocess.TimeoutExpired:
            self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _refusal(error: str, message: str) -> DvfbError:
    """Return the error that the factory raised there."""
    kind = getattr(errors, error, None)
    if isinstance(kind, type) and issubclass(kind, DvfbError) and kind.__init__ is DvfbError.__init__:
        return kind(message)
    return ReportedFailureError(f"the annotator cannot be made: {error}: {message}")
