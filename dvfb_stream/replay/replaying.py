"""Publishes documents again, at the pace they came at."""

from __future__ import annotations

import time
from collections.abc import Callable

from dvfb_stream.replay.document import Script
from dvfb_stream.replay.new_run import NewRun
from dvfb_stream.replay.pace import ReplayPace
from dvfb_stream.replay.targets import Target


def replay(
    script: Script,
    target: Target,
    *,
    rate: float = 1.0,
    new_run: NewRun | None = None,
    done: Callable[[int, int], object] = lambda count, total: None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Publish the documents of a script, in their order; return how many they were.

    Parameters
    ----------
    script
        What is published.
    target
        Takes the documents.
    rate
        How many times as fast as the run was; infinite: as fast as the target takes them.
    new_run
        Makes another run of it; None: the uids and times stay.
    done
        Called after each document with how many were published, and of how many.
    sleep, clock
        Of seconds.

    Raises
    ------
    DvfbError
        When the target did not take one, or what was to be read is damaged.
    """
    pace, count = ReplayPace(rate), 0
    for document in script.documents:
        if (pause := pace.pause(document.at, clock())) > 0:
            sleep(pause)
        doc = document.doc if new_run is None else new_run.renew(document.name, document.doc)
        target(document.name, doc)
        count += 1
        done(count, max(count, script.count))
    return count
