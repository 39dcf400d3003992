"""Several daemons of one consumer group as one service: started, watched, started again and stopped together.

Each is a process with an interpreter of its own, an ordinary daemon: the cluster divides the partitions among them,
and spool, journals and dead letters are those of the group. Nothing is loaded here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dvfb_stream.daemon.settings import DaemonSettings, HttpSettings, WorkersSettings

logger = logging.getLogger(__name__)

VARIABLE = "DVFB_DAEMON_MEMBER"
"""Environment variable by which a member knows that it is one: its number, its port, and a descriptor that is at its
end once the supervising process is gone."""

_THREADS_VARIABLE = "OMP_NUM_THREADS"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before one that has ended is started again: twice as long each time, and as at first once it has run for as
long as the longest."""
_INTERRUPTED = 128 + signal.SIGTERM
"""Exit status of a daemon that is told to stop while it starts, and of all where one of them was."""
_SECONDS_BETWEEN_LOOKS = 0.2
_COMMAND = "import sys; from dvfb_stream.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Membership:
    """What a process knows that is one of several."""

    number: int
    port: int
    """On which it says how it is, to the supervising process."""
    lifeline: int
    """Descriptor of a pipe that nobody writes to."""

    @classmethod
    def of_this_process(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Return that of this process; None for a daemon of its own."""
        given = environment.get(VARIABLE)
        return cls(*map(int, given.split())) if given else None

    def settings(self, whole: DaemonSettings) -> DaemonSettings:
        """Return the configuration as it is for this member."""
        devices = whole.workers.devices
        return whole.model_copy(
            update={
                "workers": WorkersSettings(),
                "device": devices[self.number % len(devices)] if devices else whole.device,
                "http": HttpSettings(port=self.port, max_lag=whole.http.max_lag),
                "metrics_port": None,
            }
        )

    def end_with_the_supervisor(self) -> None:
        """Have this process told to stop, as by SIGTERM, once the supervising one is gone, however that ended."""
        threading.Thread(target=self._outlive_nobody, name="dvfb-lifeline", daemon=True).start()

    def _outlive_nobody(self) -> None:
        os.read(self.lifeline, 1)  # until its end: nobody writes
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(slots=True, eq=False)
class Member:
    """One of the daemons."""

    number: int
    port: int = 0
    """On which it says how it is: another one at each start."""
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    """When it was started, seconds, monotonic."""
    not_before: float = 0.0
    pause: float = 0.0
    """Seconds that it was away the last time."""
    has_run: bool = False
    """Whether it was ready to work since it was started last."""
    starts: int = 0
    failed_starts: int = 0
    """Times in a row that it ended before it was ready to work."""
    last_end: str = ""
    """How it ended the last time, for people."""

    @property
    def lives(self) -> bool:
        """Whether its process is there."""
        process = self.process  # who asks is another thread than who starts it
        return process is not None and process.poll() is None

    @property
    def is_at_work(self) -> bool:
        """Whether its process is there, and was ready to work: only then is its silence a fault."""
        return self.lives and self.has_run

    @property
    def absence(self) -> str:
        """Why it does not answer, as far as that is known."""
        if self.failed_starts:
            times = "once" if self.failed_starts == 1 else f"{self.failed_starts} times in a row"
            return f"ended {self.last_end} before it had begun, {times}; it is tried again"
        if not self.is_at_work and self.last_end:
            return f"ended {self.last_end}; it is started again"
        return "does not answer"


class Members:
    """Runs the daemons of a configuration until it is told to stop, or one cannot even begin.

    Parameters
    ----------
    config
        The file.
    settings
        What it says.
    arguments
        Of the command, besides the file.
    has_begun
        Asked about a member that lives and has not begun yet: whether it has loaded what it needs.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        config: Path,
        settings: DaemonSettings,
        *,
        arguments: Sequence[str] = (),
        has_begun: Callable[[Member], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = [Member(number) for number in range(settings.workers.processes)]
        self._config, self._arguments = config, arguments
        self._threads = max(1, (os.cpu_count() or 1) // settings.workers.processes)
        self._has_begun, self._clock = has_begun, clock
        self._stopping = threading.Event()
        self._reading, self._writing = os.pipe()
        """Whose end the members see once this process is gone."""
        self._failed: int | None = None

    def run(self, on_turn: Callable[[], object] = lambda: None, on_begun: Callable[[], object] = str) -> int:
        """Start them, start again what ends, and return once all have ended.

        Parameters
        ----------
        on_turn
            Called again and again.
        on_begun
            Called once, when all have begun.

        Returns
        -------
        int
            The exit status: 0 where it was told to stop and all came to their end; 143, as of a daemon alone, where
            one was still starting; 1 where one failed to end; that of a member which ended before it had ever
            begun, as by a wrong configuration.
        """
        is_told = False
        try:
            while not self._stopping.is_set() and self._failed is None:
                for member in self.members:
                    self._attend(member)
                if not is_told and all(member.has_run for member in self.members):
                    is_told = True
                    on_begun()
                on_turn()
                self._stopping.wait(_SECONDS_BETWEEN_LOOKS)
            return self._end(on_turn)
        finally:
            os.close(self._writing)
            os.close(self._reading)

    def stop(self) -> None:
        """Have all come to their end; for signal handlers."""
        self._stopping.set()

    def _attend(self, member: Member) -> None:
        now = self._clock()
        if member.process is not None and (status := member.process.poll()) is not None:
            member.process = None
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            member.last_end = how
            member.failed_starts = 0 if member.has_run else member.failed_starts + 1
            if not member.has_run and member.starts == 1:
                logger.error(
                    "worker %d ended %s before it had begun; the others end, too", member.number, how
                )
                self._failed = status if status > 0 else 1
                return
            long_enough = now - member.since >= _LONGEST_PAUSE
            before = 0.0 if long_enough else member.pause
            member.pause = min(2 * before, _LONGEST_PAUSE) or _FIRST_PAUSE
            member.not_before = now + member.pause
            self._say_ended(member)
        if member.process is None:
            if now >= member.not_before:
                self._start(member)
        elif not member.has_run:
            member.has_run = self._has_begun(member)
            if member.has_run:
                member.failed_starts = 0

    def _say_ended(self, member: Member) -> None:
        if member.failed_starts > 1:
            return  # it was said, and each time it says itself what is wrong
        if member.failed_starts:
            logger.error(
                "worker %d ended %s before it had begun; if that is by the configuration, as it is now, mend it: it "
                "is tried again every %.0f s, which is not said again",
                member.number,
                member.last_end,
                _LONGEST_PAUSE,
            )
            return
        logger.error(
            "worker %d ended %s; it is started again in %.0f s", member.number, member.last_end, member.pause
        )

    def _start(self, member: Member) -> None:
        member.starts += 1
        member.since, member.has_run = self._clock(), False
        member.port = _free_port(taken={each.port for each in self.members})
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        environment.setdefault(_THREADS_VARIABLE, str(self._threads))
        environment[VARIABLE] = f"{member.number} {member.port} {self._reading}"
        member.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "daemon", "--config", str(self._config), *self._arguments],
            env=environment,
            pass_fds=(self._reading,),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C in a terminal is passed on once, by us
        )

    def _end(self, on_turn: Callable[[], object]) -> int:
        living = [member.process for member in self.members if member.process is not None]
        for process in living:
            with suppress(ProcessLookupError):
                process.terminate()
        while any(process.poll() is None for process in living):
            on_turn()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if self._failed is not None:
            return self._failed
        statuses = {process.returncode for process in living} - {0}
        if statuses <= {_INTERRUPTED, -signal.SIGTERM}:
            return _INTERRUPTED if statuses else 0
        return 1


def _free_port(taken: Container[int]) -> int:
    """Return a port of this machine on which nobody listens, and none of those."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
