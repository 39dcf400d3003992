"""Which events of a run are missing, by the numbers that they have in their streams."""

from __future__ import annotations

from dataclasses import dataclass, field

Where = tuple[str, str]
"""A stream and a data key."""


@dataclass(slots=True)
class EventOrder:
    """The numbers (`seq_num`) of the events of one delivery of a run, in the order in which they came.

    Bluesky numbers the events of a stream from 1, under whichever descriptor; after a pause it goes back to the last
    checkpoint, and gives the numbers since then again, to other events. So a number that is skipped is an event that
    did not come; one that was there before is that of a further event. A producer that begins with 0 is understood.
    """

    frames_each: dict[Where, int] = field(default_factory=dict)
    """Frames of the last event, by stream and data key."""
    _of_stream: dict[str, int] = field(default_factory=dict)
    """Number of the last event of each stream, from 1."""
    _of_descriptor: dict[str, int] = field(default_factory=dict)
    """The same by descriptor: some producers count by these."""
    _from_zero: set[str] = field(default_factory=set)

    def copy(self) -> EventOrder:
        """Return one that goes on by itself."""
        return EventOrder(
            dict(self.frames_each), dict(self._of_stream), dict(self._of_descriptor), set(self._from_zero)
        )

    def last(self, stream: str) -> int:
        """Return the number of the last event of a stream, from 1; 0 where none came."""
        return self._of_stream.get(stream, 0)

    def skipped_before(self, stream: str, descriptor: str, seq_num: int | None) -> int:
        """Take note of an event; return how many before it did not come. None: it has no number, and is the next."""
        last = self.last(stream)
        known = max(last, self._of_descriptor.get(descriptor, 0))
        if seq_num is None:
            number = last + 1
        else:
            if seq_num == 0:
                self._from_zero.add(stream)
            number = seq_num + (stream in self._from_zero)
        self._of_stream[stream] = self._of_descriptor[descriptor] = number
        return max(0, number - known - 1)
