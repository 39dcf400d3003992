"""How long the end of a process may take: all that end with it share one deadline."""

from __future__ import annotations

import time
from functools import cache

SECONDS_AT_EXIT = 10.0
"""Long enough for a full queue on two CPU cores, short enough that nobody reaches for Ctrl-C."""

SECONDS_TO_REST = 2.0
"""Of them, kept back for the batches in work, which take a tenth of a second and are not to be torn: a daemon thread
that the interpreter stops in the middle of torch's C++ takes the process down with it (abort)."""


def seconds_for_rows() -> float:
    """Return how long the last rows may still take; the first call says that the process ends."""
    return max(0.0, seconds_left() - SECONDS_TO_REST)


def seconds_left() -> float:
    """Return how long the end of the process may still take; the first call says that it ends."""
    return max(0.0, _began() + SECONDS_AT_EXIT - time.monotonic())


@cache
def _began() -> float:
    return time.monotonic()
