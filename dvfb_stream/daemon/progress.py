"""Tells a pipeline that is busy from one that is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from dvfb_stream.callbacks import PipelineStats

QUIET_SECONDS = 10.0
"""Without anything done while a daemon drains, after which it waits no longer: a file that is late, or a catalog that
is away, is for the next one."""
_SLICE_SECONDS = 0.5
"""Of draining, between two looks at what is done."""


def has_work(stats: PipelineStats) -> bool:
    """Return whether a pipeline has frames to read or to annotate: rows that wait for a later document are none."""
    return stats.reader.waiting > 0 or stats.worker.queued_frames > 0


def done_so_far(stats: PipelineStats, *, with_retries: bool = True) -> tuple[int, ...]:
    """Return what changes with everything that a pipeline does; a file that is late is looked for, where wanted."""
    reader, worker, writer = stats.reader, stats.worker, stats.writer
    return (
        stats.documents,
        reader.read + reader.failed + reader.refused,
        reader.retries if with_retries else 0,
        worker.annotated + worker.failed + worker.dropped,
        writer.rows + writer.repeated_rows + writer.given_up_rows,
        writer.stored_rows,
    )


class Stuck:
    """How long something has had work and done none of it; the clock is given."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def seconds(self, key: Hashable, done: object, now: float, *, works: bool) -> float:
        """Take note of what `key` has done by now; return for how many seconds it was stuck."""
        before, since = self._seen.get(key, (None, now))
        if not works or done != before:
            since = now
        self._seen[key] = (done, since)
        return now - since

    def forget(self, key: Hashable) -> None:
        """Forget what is no more."""
        self._seen.pop(key, None)


def drain_while_busy(
    drained: Callable[[float], bool],
    done: Callable[[], object],
    *,
    timeout: float,
    meanwhile: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until everything in hand is done, as long as something is done of it.

    Parameters
    ----------
    drained
        Waits for so many seconds, and returns whether everything is done; False before they are over where nothing is
        left to wait for, though not everything is done: rows were lost, or a run is set aside.
    done
        Returns what changes with everything that is done.
    timeout
        Seconds to wait at most.
    meanwhile
        Called every now and then.

    Returns
    -------
    bool
        Whether nothing is left to wait for; False where time was up, or nothing was done for `QUIET_SECONDS`.
    """
    deadline, quiet = clock() + timeout, Stuck()
    while True:
        began = clock()
        time_given = max(0.0, min(_SLICE_SECONDS, deadline - began))
        if drained(time_given):
            return True
        now = clock()
        if now - began < time_given / 2:
            return True
        meanwhile()
        if now >= deadline or quiet.seconds("", done(), now, works=True) >= QUIET_SECONDS:
            return False
