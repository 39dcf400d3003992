"""The near end: a process that serves this one, is started when it is needed, and may end without ending this one."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np

from dvfb_stream.device_failures import Cause, Failure, ReportedFailureError, failure_of
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.isolation.child_process import SECONDS_TO_END, Child
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.limits import ProcessLimits
from dvfb_stream.isolation.messages import Kind, Message, receive
from dvfb_stream.metrics import Metrics, catalogue

logger = logging.getLogger(__name__)

NICENESS = 10
"""Of the process: beside a RunEngine that wants a processor it gets a tenth of it, and all that is left over."""

SECONDS_TO_START = 120.0
"""Importing torch and loading a model take two seconds, and a minute where both come over a network."""

SECONDS_TO_CLOSE = 2 * SECONDS_TO_END + 1.0
"""The request under way waits for the end of the process twice at most; who closes does not wait for ever."""

LONGEST_PAUSE = 60.0
"""Seconds between attempts to start a process that does not start; one second at first, then twice as many each
time. Meanwhile requests fail at once, and say why."""

_BY_SOMEBODY = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that a person or the system sends, and that no request brings about."""


class Ask(Protocol):
    """Sends a request and returns the answer; see `ServiceProcess.asking`."""

    def __call__(
        self, request: Mapping[str, Any], held: Sequence[object] = (), *, within: float | None = None
    ) -> Mapping[str, Any]:
        """Ask.

        Parameters
        ----------
        request
            JSON-ready.
        held
            What the process may read or write: arrays of the memory. They are kept until it cannot any more, however
            long the system takes to end it.
        within
            Seconds; None: `answer_within`.

        Raises
        ------
        ReportedFailureError
            See `ServiceProcess.asking`.
        """
        ...


class ServiceProcess:
    """A process of this project's own that handles requests, at a lower priority, and is started again when it ends.

    Life: `start`, or the first request, starts it. When it ends during a request, that request fails, and the next
    starts it again; when it ended before, nothing is lost. A process that does not answer within `answer_within` is
    ended; one that the system cannot end yet is left to it, and what was lent to it is kept until then. It ends with
    `close`, and when the process that has started it ends, however it does. Ctrl-C does not reach it.

    Requests come one at a time; `close` may be called from any thread, and makes the request under way fail.

    Parameters
    ----------
    service
        What it does, as ``module:name``; see `Service`.
    settings
        Of the service, by name; JSON-ready.
    memory
        That both processes see.
    called
        What it is, in messages: ``the annotator``.
    answer_within
        Seconds.
    on_restart
        Called with the description of the service when it was started again. May raise: then it is ended.
    metrics
        Restarts are counted in it.
    niceness
        Of the process; 0: the priority of this one.
    limits
        What the process may use; None: what this one may.

    Attributes
    ----------
    settings
        Those of the next start.

    Raises
    ------
    SettingsError
        When a time is not positive.
    """

    def __init__(
        self,
        service: str,
        settings: Mapping[str, Any],
        *,
        memory: FrameMemory,
        called: str,
        answer_within: float,
        on_restart: Callable[[Mapping[str, Any]], None] = lambda description: None,
        metrics: Metrics | None = None,
        niceness: int = NICENESS,
        limits: ProcessLimits | None = None,
    ) -> None:
        if not answer_within > 0:
            raise SettingsError(f"answer_within must be more than 0 s, not {answer_within}")
        self.settings = dict(settings)
        self._memory = memory
        # Set there when a request has come: it may have to do with the request if the process ends from then on.
        self._taken = memory.shared((1,), np.uint8)
        self._service = service
        self._called = called
        self._answer_within = answer_within
        self._niceness = niceness
        self._limits = limits
        self._on_restart = on_restart
        self._metrics = Metrics() if metrics is None else metrics
        self._asking = threading.Lock()  # guards those up to the next lock
        self._was_started = False
        self._not_started: ReportedFailureError | None = None  # why not, the last time
        self._pause, self._start_after = 0.0, 0.0
        self._device = "cpu"
        self._held: Sequence[object] = ()  # by the request under way
        self._cannot_end: list[tuple[Child, Sequence[object]]] = []  # yet; and what was lent to it
        self._changing = threading.Lock()  # guards the next two
        self._child: Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        with self._changing:
            return None if self._child is None else self._child.process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process that lives: where there is none, none has anything to be asked about."""
        with self._changing:
            return self._child is not None and self._child.is_running

    def start(self) -> Mapping[str, Any]:
        """Start the process and return the description of its service.

        Raises
        ------
        ReportedFailureError
            When it does not start, or the service cannot be made.
        """
        with self._asking:
            return self._start()

    @contextmanager
    def asking(self) -> Iterator[Ask]:
        """Give what sends a request and returns the answer.

        Raises
        ------
        ReportedFailureError
            When the service raised, or the process ended, did not answer in time, or could not be started: that is
            `Failure.NOT_READY`, unless its device is lost or `on_restart` raised.
        """
        with self._asking:
            self._check_open()
            try:
                yield self._ask
            finally:
                if self._closed:
                    self._let_go()  # who closed it may not have waited

    def notify(self, note: Mapping[str, Any]) -> None:
        """Send what helps with a request to come; lost where there is no process. Any thread, while one is asking."""
        with self._changing:
            child = self._child
        if child is not None:
            with suppress(OSError):
                child.send(Kind.NOTE, note)

    def end(self) -> None:
        """End the process; the next request starts it again, with `settings` as they are then."""
        with self._asking:
            self._let_go()

    def close(self) -> None:
        """End the process for good. What it is at is given up."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            if self._child is not None:
                self._child.process.kill()
        if not self._asking.acquire(timeout=SECONDS_TO_CLOSE):
            logger.warning(
                "the process of %s does not end: the request under way is left to itself", self._called
            )
            return
        try:
            self._let_go()
        finally:
            self._asking.release()

    # -- by whoever holds `_asking` ------------------------------------------------------------------------

    def _ask(
        self, request: Mapping[str, Any], held: Sequence[object] = (), *, within: float | None = None
    ) -> Mapping[str, Any]:
        seconds = self._answer_within if within is None else within
        self._held = held
        try:
            answer = self._answered(request, seconds) or self._answered(request, seconds)
        finally:
            self._held = ()
        if answer is None:
            raise ReportedFailureError(
                f"the process of {self._called} ends before it takes a request",
                Failure.NOT_READY,
                cause=Cause.NOT_STARTED,
            )
        return _content(answer, Kind.DONE)

    def _answered(self, request: Mapping[str, Any], seconds: float) -> Message | None:
        """Return the answer to a request; None if the process had ended before, which is not the request's doing."""
        child = self._running()
        self._taken[0] = 0
        try:
            child.send(Kind.REQUEST, request)
            return self._answer(child, seconds)
        except (EOFError, OSError) as error:
            ended = self._ended(child)
            if self._taken[0] or self._closed:
                raise ended from error
            logger.warning("%s, with nothing to do", ended)
            return None
        except DvfbError:
            raise  # it is ended, or has answered
        except BaseException:  # Ctrl-C: the answer would be taken for that to the next request
            self._let_go()
            raise

    def _running(self) -> Child:
        """Return the process, started where there is none."""
        if self._child is None or not self._child.is_running:
            self._let_go()
            left = self._start_after - time.monotonic()
            if self._not_started is not None and left > 0:
                raise self._does_not_start(
                    f"the process of {self._called} does not start: {self._not_started}; it is tried again within "
                    f"{self._pause:g} s",
                    self._not_started,
                    retry_after=left,
                )
            self._start()
        assert self._child is not None
        return self._child

    def _start(self) -> Mapping[str, Any]:
        try:
            description = self._described()
            if self._was_started:
                logger.warning("the process of %s was started again", self._called)
                self._metrics.add(catalogue.RESTARTS)
                self._on_restart(description)
        except DvfbError as error:
            self._let_go()
            self._check_open()
            self._pause = min(max(1.0, 2.0 * self._pause), LONGEST_PAUSE)
            self._start_after = time.monotonic() + self._pause
            self._not_started = self._does_not_start(str(error), error, retry_after=self._pause)
            raise self._not_started from error
        self._was_started = True
        self._not_started, self._pause = None, 0.0
        return description

    def _does_not_start(self, message: str, error: DvfbError, *, retry_after: float) -> ReportedFailureError:
        return ReportedFailureError(
            message,
            failure_of(error),
            cause=Cause.NOT_STARTED,
            error=error.error if isinstance(error, ReportedFailureError) else type(error).__name__,
            retry_after=retry_after,
        )

    def _described(self) -> Mapping[str, Any]:
        """Start the process, and return how it describes itself when it is ready."""
        self._device = "cpu"  # as long as it is not known
        setup = {
            "service": self._service,
            "settings": self.settings,
            "niceness": self._niceness,
            "limits": None if self._limits is None else self._limits.as_json(),
            "taken": self._memory.place_of(self._taken),
        }
        try:
            child = self._begun()
            try:
                child.send(Kind.SETUP, setup)
                description = _content(self._answer(child, SECONDS_TO_START), Kind.READY)
            except (EOFError, OSError) as error:
                raise self._ended(child) from error
        except ReportedFailureError as error:
            if error.failure is not Failure.DEVICE:  # which another device may do without
                error.failure = Failure.NOT_READY  # whatever was asked for has nothing to do with it
            raise
        self._device = str(description.get("device", "cpu"))
        return description

    def _begun(self) -> Child:
        for child, held in self._cannot_end.copy():
            if not child.is_running:
                child.end()
                self._cannot_end.remove((child, held))
        with self._changing:
            self._check_open()
            self._child = Child.begin(
                self._memory.file, {} if self._limits is None else self._limits.variables
            )
            return self._child

    def _answer(self, child: Child, seconds: float) -> Message:
        """Return what the process answers; EOFError or OSError when it has ended.

        Raises
        ------
        ReportedFailureError
            When it does not answer in time; it is ended then.
        """
        if child.connection.poll(seconds):
            return receive(child.connection)
        self._let_go()
        self._check_open()
        raise ReportedFailureError(
            f"the process of {self._called} did not answer within {seconds:g} s and was ended",
            # What computes on this machine's processors has lost nothing, and goes on no better elsewhere.
            Failure.OTHER if self._device.startswith("cpu") else Failure.DEVICE,
            cause=Cause.TIMED_OUT,
        )

    def _ended(self, child: Child) -> ReportedFailureError:
        """Return what to raise when the connection to the process is lost."""
        child.ends()  # the connection is the first that it loses
        status = child.process.returncode  # before it is killed here
        self._let_go()
        if self._closed:
            return self._was_closed()
        failure, cause = Failure.OTHER, Cause.ENDED
        if status == -signal.SIGKILL:
            # Nobody but the system's killer for want of memory ends a process so by itself.
            failure, cause, how = Failure.MEMORY, Cause.KILLED, "was killed: the system may be out of memory"
        elif status is None:
            how = "ended its connection and was ended"
        elif status < 0:
            how = f"ended by the signal {signal.Signals(-status).name}"
            if -status in _BY_SOMEBODY:
                failure, cause = Failure.NOT_READY, Cause.KILLED
        else:
            how = f"ended with exit status {status}"
        return ReportedFailureError(f"the process of {self._called} {how}", failure, cause=cause)

    def _check_open(self) -> None:
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> ReportedFailureError:
        return ReportedFailureError(f"{self._called} was closed", cause=Cause.CLOSED)

    def _let_go(self) -> None:
        """End the process, if there is one, and wait until it has, or the system cannot end it yet."""
        with self._changing:
            child, self._child = self._child, None
        if child is not None and not child.end():
            logger.warning("the process %d of %s does not end yet", child.process.pid, self._called)
            self._cannot_end.append((child, self._held))


def _content(answer: Message, wanted: Kind) -> Mapping[str, Any]:
    content = answer.content
    if answer.kind is not wanted:
        raise ReportedFailureError(
            content["message"], Failure(content["failure"]), cause=Cause.RAISED, error=content["error"]
        )
    return content
