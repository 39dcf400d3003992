"""How torch's threads wait for one another: asleep, so that they take the processor from nobody."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have torch's threads sleep where they wait, unless the environment says otherwise.

    By default they spin: for one whose processor somebody else has, the others burn theirs. Asleep they are as fast
    on two idle processors, and three times as fast on busy ones. torch reads this when it is loaded.

    Parameters
    ----------
    environment
        Of this process, or of one that will be started.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
