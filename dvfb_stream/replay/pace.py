"""When each document of a replay is due."""

from __future__ import annotations


class ReplayPace:
    """Keeps the pauses of a run, or fractions of them; the clock is given.

    Parameters
    ----------
    rate
        How many times as fast as the run was; infinite: without pauses.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._first: tuple[float, float] | None = None

    def pause(self, at: float | None, now: float) -> float:
        """Return for how many seconds a document that came `at` is waited with.

        A document that is late makes no other one early: the pauses before the next are shorter.
        """
        if at is None:
            return 0.0
        if self._first is None:
            self._first = at, now
        first, begun = self._first
        return max(0.0, begun + (at - first) / self._rate - now)
