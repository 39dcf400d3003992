"""Waiting for what is to happen in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds, on a machine that is busy with other things."""


def until(true: Callable[[], object], *, what: str, patience: float = PATIENCE, pause: float = 0.1) -> None:
    """Wait for a condition, which is looked at every `pause` seconds.

    Raises
    ------
    TimeoutError
        When it does not come to be.
    """
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {patience:.0f} s: {what}")
        time.sleep(pause)
