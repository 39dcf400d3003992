"""One process from its beginning to its end, as the one that has started it sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from dvfb_stream.device_failures import Cause, ReportedFailureError
from dvfb_stream.isolation.messages import Kind, send
from dvfb_stream.waiting_threads import sleep_while_waiting

SECONDS_TO_END = 5.0
"""A process that was killed is gone in milliseconds, unless the system cannot interrupt what it is at: a read from a
file server that does not answer."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started, and the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    _sending: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def begin(cls, memory: int, variables: Mapping[str, str]) -> Self:
        """Start a process.

        Parameters
        ----------
        memory
            Descriptor of the memory that both see.
        variables
            Of its environment, besides those of this process.

        Raises
        ------
        ReportedFailureError
            When the system does not start it, or there is no Python to start.
        """
        if getattr(sys, "frozen", False) or not sys.executable:
            raise ReportedFailureError(
                f"there is no Python to start another process with: sys.executable is {sys.executable!r} of an "
                'application that embeds Python or is frozen; annotate here instead, with annotate_in="thread"',
                cause=Cause.NOT_STARTED,
            )
        try:
            return cls(*_begun(memory, variables))
        # Also of an environment that holds what no environment can hold.
        except (OSError, TypeError, ValueError) as error:
            raise ReportedFailureError(f"{type(error).__name__}: {error}", cause=Cause.NOT_STARTED) from error

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def send(self, kind: Kind, content: Mapping[str, Any]) -> None:
        """Send a message, from any thread; OSError when the process has ended."""
        with self._sending:
            send(self.connection, kind, content)

    def ends(self) -> bool:
        """Wait a little until the process has ended; whether it has."""
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> bool:
        """Kill the process, which has nothing to save, and close the connection; whether it has ended.

        When it has not, the system ends it as soon as it can: call again later.
        """
        self.process.kill()  # SIGTERM may be ignored here, and so there
        if not self.ends():
            return False
        # Who still sends to it is told now that nobody reads.
        with self._sending:
            self.connection.close()
        return True


def _begun(memory: int, variables: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    environment = {**_environment(), **variables}
    ours, theirs = Pipe()
    with theirs:
        passed = (theirs.fileno(), memory)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __package__, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                # Of its own, so that Ctrl-C does not end it.
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
    return process, ours


def _environment() -> dict[str, str]:
    entries: list[object] = [
        os.fspath(entry) if isinstance(entry, os.PathLike) else entry for entry in sys.path
    ]
    environment = {
        **os.environ,
        # What this process can import, that one must as well.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in entries if isinstance(entry, str)),
    }
    sleep_while_waiting(environment)
    return environment
