"""How threads of torch and numpy wait for work: asleep, so that they take the processor from nobody."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the threads of torch and of numpy's OpenBLAS sleep where they wait, unless the environment says otherwise.

    By default they spin: for one whose processor somebody else has, the others burn theirs. Asleep they are as fast
    on two idle processors, and three times as fast on busy ones; OpenBLAS spins for 25 ms after each product. torch
    and numpy read this when they are loaded.

    Parameters
    ----------
    environment
        Of this process, or of one that will be started.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # sixteen turns, the fewest that it knows
