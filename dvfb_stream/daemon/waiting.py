"""Waits, when a daemon starts, for what does not answer yet, and says so: machines come up in any order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dvfb_stream.errors import DvfbError

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
"""Between two lines in the log that say what is waited for."""
SECONDS_BETWEEN_ATTEMPTS = 1.0

Opened = TypeVar("Opened")


def wait_for(
    what: str,
    opened: Callable[[], Opened],
    *,
    patience: float,
    stopping: threading.Event,
    passes: type[DvfbError],
    meanwhile: Callable[[DvfbError], object] = lambda error: None,
) -> Opened | None:
    """Return what `opened` returns, called again while what it wants is not there.

    Parameters
    ----------
    what
        Is waited for, for people.
    opened
        Opens it, or raises: `passes` where it may come by itself; anything else ends the waiting.
    patience
        Seconds after its first error after which it is not called again: what it takes to import is not waiting.
    stopping
        Ends the waiting.
    passes
        The family of errors that may go away by themselves.
    meanwhile
        Called with each of them.

    Returns
    -------
    Opened or None
        None where it was stopped.

    Raises
    ------
    DvfbError
        What `opened` raised last.
    """
    deadline, next_line = 0.0, 0.0
    while not stopping.is_set():
        try:
            return opened()
        except passes as error:
            meanwhile(error)
            now = time.monotonic()
            deadline = deadline or now + patience
            if now >= deadline:
                raise
            if now >= next_line:
                logger.warning("waiting for %s, %.0f s more at most: %s", what, deadline - now, error)
                next_line = now + SECONDS_BETWEEN_LINES
            stopping.wait(min(SECONDS_BETWEEN_ATTEMPTS, deadline - now))
    return None
