"""Who is let in when frames come faster than they are annotated. Pure."""

from __future__ import annotations

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
