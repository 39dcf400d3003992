"""Ends a daemon that is stuck, so that a supervisor can start it again: nothing that is not stored was committed."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dvfb_stream.daemon.health import Health
from dvfb_stream.daemon.supervisor import STOPS, TURNS, tell_supervisor

logger = logging.getLogger(__name__)

SECONDS_TO_CLOSE = 20.0
"""That a daemon has to end after it has drained: it leaves its group, and closes its spool, in ten seconds each."""
_LOOK_SECONDS = 1.0
FAILED = 1
"""Exit status."""


def end_process(reason: str) -> None:
    """Write down the reason and where each thread is, and end the process as it is."""
    logger.critical("ending: %s; what each thread does follows", reason)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(FAILED)


class Guard:
    """A thread that ends the process when the loop has stopped turning, or does not come to its end when told to.

    A context manager: inside, the loop is watched. It tells systemd, too, that the loop turns.

    Parameters
    ----------
    health
        Of the daemon.
    patience
        Seconds without a turn.
    drain_timeout
        Seconds that a daemon told to stop may take to finish what it has in hand.
    end
        Called with the reason, from the guard's thread.
    """

    def __init__(
        self,
        health: Health,
        *,
        patience: float,
        drain_timeout: float,
        end: Callable[[str], None] = end_process,
    ) -> None:
        self._health = health
        self._patience = patience
        self._drain_timeout = drain_timeout
        self._end = end
        self._deadline: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dvfb-guard", daemon=True)

    def expect_end(self) -> None:
        """From now on the process is to end within `drain_timeout` and `SECONDS_TO_CLOSE`. For signal handlers."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain_timeout + SECONDS_TO_CLOSE

    def __enter__(self) -> Self:
        self._health.turn()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        stops = False
        while not self._over.wait(_LOOK_SECONDS):
            age = self._health.age()
            if self._deadline is not None and not stops:
                stops = tell_supervisor(STOPS) or True
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._end(
                    f"told to stop, it has not come to its end in {self._drain_timeout + SECONDS_TO_CLOSE:g} s"
                )
                return
            if age >= self._patience:
                self._end(f"the loop has not turned for {age:.0f} s (limits.stall_timeout)")
                return
            tell_supervisor(TURNS)
