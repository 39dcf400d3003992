"""How large a batch may be, and when it has waited long enough. Pure: the clock is given."""

from __future__ import annotations

import math

from dvfb_stream.bounded_cache import BoundedCache

_PATIENCE = 16
"""Batches in a row, each as large as the limit, before a larger one is tried: some seconds of a loaded worker."""

_LONGEST_PATIENCE = 4096
"""Where larger batches fail again and again, one is tried every half an hour or so."""

_MEMORY_OF_PACE = 4
"""Frames over which the pace is averaged: it must follow a scan that begins within less than a batch."""

_GEOMETRIES_REMEMBERED = 64
"""Whose pace is known; a beamline has one or two at a time."""


class BatchLimit:
    """Most frames in a batch: `most`, less after memory was exhausted, and back again with care.

    A batch that did not fit halves the limit. After `_PATIENCE` batches in a row, each as large as the limit, it
    grows by a quarter. Each growth that turns out to be too much doubles the patience. Used by one thread.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.forget()

    def forget(self) -> None:
        """Begin anew: another device has other memory."""
        self.frames = self._most
        self._patience = _PATIENCE
        self._fitted = 0
        self._has_grown = False

    def did_not_fit(self, frames: int) -> None:
        """Take note that a batch of `frames` exhausted the memory."""
        self.frames = max(1, min(self.frames, frames // 2))
        self._fitted = 0
        if self._has_grown:
            self._has_grown = False
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)

    def fitted(self, frames: int) -> None:
        """Take note that a batch of `frames` went well."""
        if not self.frames <= frames < self._most:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self.frames = min(self._most, self.frames + max(1, self.frames // 4))
            self._fitted = 0
            self._has_grown = True


class Pace:
    """How fast frames of each geometry come, and until when it pays to wait for more of them.

    A batch waits as long as it can be expected to fill before its oldest frame has waited `max_wait`, judged by the
    time between the last frames of its geometry and by the silence since. So every frame of a slow scan goes at once,
    and a burst that has ended waits a fraction of `max_wait` for what does not come.

    Parameters
    ----------
    max_wait
        Longest time that a frame waits for others, seconds; 0: none ever waits.
    """

    def __init__(self, max_wait: float) -> None:
        self._max_wait = max_wait
        self._arrivals = BoundedCache[str, tuple[float, float]](_GEOMETRIES_REMEMBERED)  # last, mean gap

    def arrived(self, geometry: str, now: float) -> None:
        """Take note of a frame of the geometry with that digest."""
        # A pause as long as max_wait or longer means the same: no batch fills. Nothing is known of the first frame.
        last, gap = self._arrivals.get(geometry, (-math.inf, self._max_wait))
        gap += (min(now - last, self._max_wait) - gap) / _MEMORY_OF_PACE
        self._arrivals.put(geometry, (now, gap))

    def closes_at(self, geometry: str, missing: int, oldest: float) -> float:
        """Return when a batch that nobody adds to should go, on the clock of its frames.

        Parameters
        ----------
        geometry
            Digest of its geometry.
        missing
            Frames by which it falls short of a full one, at least 1.
        oldest
            When its oldest frame came.

        Notes
        -----
        At time t the batch is expected to be full at t + missing · gap, where the gap is the mean one, or the silence
        since the last frame where that is longer; it closes as soon as this lies after oldest + max_wait. Both
        conditions are solved for t.
        """
        latest = oldest + self._max_wait
        last, gap = self._arrivals.get(geometry, (oldest, self._max_wait))
        return min(latest - missing * gap, (latest + missing * last) / (1 + missing))
