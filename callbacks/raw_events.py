"""What is remembered of raw events: that they were taken, and which of them a stream's frames belong to."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.callbacks.recent import Recent

MOST_EVENTS = 100_000
"""Of all open runs; a few hundred bytes each. As many frames may wait to be read, each with its event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEvent:
    """What a row says of its raw event."""

    uid: str
    time: float
    """Seconds since 1970."""


class RawEvents:
    """Events of all open runs. One thread notes them; any may ask."""

    def __init__(self) -> None:
        self._taken: Recent[str, int] = Recent(MOST_EVENTS)
        self._of_streams: Recent[tuple[str, int], RawEvent] = Recent(MOST_EVENTS)

    def is_repeated(self, uid: str, delivery: int) -> bool:
        """Return whether an event was taken before in the same delivery of its run, as far as is remembered."""
        return self._taken.get(uid) == delivery

    def take(self, uid: str, delivery: int) -> None:
        """Remember that an event was taken."""
        self._taken.put(uid, delivery)

    def add(self, descriptor: str, seq_num: int, event: RawEvent) -> None:
        """Remember an event whose frames a stream datum announces."""
        self._of_streams.put((descriptor, seq_num), event)

    def find(self, descriptor: str, seq_num: int) -> RawEvent | None:
        """Return the event with a number under a descriptor; None where it has not come, or there is none."""
        return self._of_streams.get((descriptor, seq_num))
