"""Who is let in when frames come too fast, how large a batch may be, and when it is due. Pure: the clock is given."""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Origin

LONGEST_INTERVAL = 64
"""Of `FullQueuePolicy.SAMPLE`: the interval of a queue that is all but full. A detector 64 times as fast as the
annotator is thus sampled evenly; of a faster one, a full queue drops the rest."""

SAMPLED_FROM = 0.5
"""Fill of the queue from which on frames are sampled: half of it absorbs bursts without any loss."""

SOURCES_REMEMBERED = 256
"""Sources of which it is remembered how many frames were left out: more than are measured at a time."""

_PATIENCE = 16
"""Batches in a row, each as large as the limit, before a larger one is tried: some seconds of a loaded worker."""

_LONGEST_PATIENCE = 4096
"""Where larger batches fail again and again, one is tried every half an hour or so."""

_MEMORY_OF_PACE = 4
"""Frames over which the pace is averaged: it must follow a scan that begins within less than a batch."""

_GEOMETRIES_REMEMBERED = 64
"""Whose pace is known; a beamline has one or two at a time."""


class FullQueuePolicy(Enum):
    """What `Worker.submit` does with a frame for which there is no room, or little."""

    BLOCK = "block"
    """Wait for room: nothing is lost, and whoever submits is slowed to the annotator's pace."""
    DROP_NEWEST = "drop-newest"
    """Refuse the frame at once: its row says that it was dropped, and whoever submits never waits. Of a scan that
    is too fast, the first frames are annotated, and of the rest those that happen to find room."""
    SAMPLE = "sample"
    """From half a queue on let in every k-th frame of each source, k growing with the fill: what is annotated is
    spread evenly over the scan. The rows of the others say that they were sampled out; whoever submits never
    waits."""

    @classmethod
    def named(cls, name: str | FullQueuePolicy) -> FullQueuePolicy:
        """Return the policy called `name`.

        Raises
        ------
        SettingsError
            When there is no such policy.
        """
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(repr(policy.value) for policy in cls)
            raise SettingsError(f"unknown policy for a full queue: {name!r}; choose one of {known}") from None


class Source(NamedTuple):
    """Where a sequence of frames comes from: one data key of one stream of one run."""

    run_uid: str
    stream: str
    data_key: str

    @classmethod
    def of(cls, origin: Origin | None) -> Source | None:
        """Return the source of a frame; None for one that came from nowhere in particular."""
        return None if origin is None else cls(origin.run_uid, origin.stream, origin.data_key)


def sampling_interval(fill: float) -> int:
    """Return k: of a source's frames, every k-th is let in.

    1 up to half a queue, then growing geometrically to `LONGEST_INTERVAL`, so that the fill settles where k is the
    ratio of what comes to what is annotated, whatever that ratio is.

    Parameters
    ----------
    fill
        Share of the queue that is taken, 0 to 1: of frames or of bytes, whichever is larger.
    """
    excess = (fill - SAMPLED_FROM) / (1 - SAMPLED_FROM)
    return 1 if excess <= 0 else round(LONGEST_INTERVAL ** min(excess, 1.0))


class Sampler:
    """Tells whose turn it is, source by source; remembers `SOURCES_REMEMBERED` of them."""

    def __init__(self) -> None:
        self._left_out = BoundedCache[Source | None, int](SOURCES_REMEMBERED)

    def is_due(self, source: Source | None, interval: int) -> bool:
        """Return whether the next frame of `source` is let in: its first, and each `interval` after the last."""
        return self._left_out.get(source, interval) + 1 >= interval

    def let_in(self, source: Source | None) -> None:
        """Begin to count anew: a frame of `source` was let in."""
        self._left_out.put(source, 0)

    def left_out(self, source: Source | None) -> None:
        """Count a frame of `source` that was not let in."""
        # One that is not remembered is due, and stays so.
        self._left_out.put(source, self._left_out.get(source, LONGEST_INTERVAL) + 1)


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


ENOUGH = 4
"""Frames of a batch from which on more of them gain little: on a processor four take half as long each as one alone,
and sixteen a third."""


class Pace:
    """How fast frames of each geometry come, and until when it pays to wait for more of them.

    A batch waits as long as it can be expected to have `ENOUGH` frames, and then to fill, before its oldest frame has
    waited `max_wait`, judged by the time between the last frames of its geometry and by the silence since. So every
    frame of a slow scan goes at once, and a burst that has ended waits a fraction of `max_wait` for what does not
    come.

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

    def closes_at(self, geometry: str, frames: int, limit: int, oldest: float) -> float:
        """Return when a batch that nobody adds to should go, on the clock of its frames.

        Parameters
        ----------
        geometry
            Digest of its geometry.
        frames
            It has, fewer than
        limit
            those of a full one.
        oldest
            When its oldest frame came.

        Notes
        -----
        At time t the batch is expected to be complete at t + missing · gap, where the gap is the mean one, or the
        silence since the last frame where that is longer; it closes as soon as this lies after oldest + max_wait.
        Both conditions are solved for t.
        """
        missing = (min(ENOUGH, limit) if frames < ENOUGH else limit) - frames
        latest = oldest + self._max_wait
        last, gap = self._arrivals.get(geometry, (oldest, self._max_wait))
        return min(latest - missing * gap, (latest + missing * last) / (1 + missing))
