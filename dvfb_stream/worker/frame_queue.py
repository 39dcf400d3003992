"""The frames that were taken in and have no row yet: bounded, and sorted by geometry into batches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Frame
from dvfb_stream.worker.batching import Pace

Deliver = Callable[[Annotation], None]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A frame that was taken in and has no row yet."""

    number: int
    """Running number of admission: the order in which `drain` and ageing look at frames."""
    frame: Frame
    deliver: Deliver
    n_bytes: int
    admitted_at: float
    """Monotonic clock, seconds."""
    not_before: float
    """When work on it may begin, unless its batch is full or somebody waits for it; likewise."""


class FrameQueue:
    """Frames held: those that wait, by geometry, and those that were taken. Not locked: its worker does that.

    Parameters
    ----------
    max_frames, max_bytes
        Bounds of what is held, those being annotated included.
    max_wait
        Longest time that a frame waits for others of its geometry, seconds.
    """

    def __init__(self, *, max_frames: int, max_bytes: int, max_wait: float) -> None:
        self.max_frames = max_frames
        self.max_bytes = max_bytes
        self._pace = Pace(max_wait)
        self._waiting: dict[str, deque[Entry]] = {}  # by the geometry's digest
        self._held: dict[int, int] = {}  # bytes by number, hence oldest first
        self._bytes = 0
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def n_bytes(self) -> int:
        """Bytes of the pixels held."""
        return self._bytes

    @property
    def fill(self) -> float:
        """Share of the bounds that is taken; above 1 where a single frame exceeds them."""
        return max(len(self._held) / self.max_frames, self._bytes / self.max_bytes)

    @property
    def last_number(self) -> int:
        """Number of the frame taken in last; -1 before the first."""
        return self._next_number - 1

    def has_room(self, n_bytes: int) -> bool:
        """Return whether a frame of `n_bytes` may come in: one that exceeds the bounds may when nothing is held."""
        if not self._held:
            return True
        return len(self._held) < self.max_frames and self._bytes + n_bytes <= self.max_bytes

    def add(self, frame: Frame, deliver: Deliver, n_bytes: int, now: float, head_start: float = 0.0) -> Entry:
        """Take a frame in; whoever brings it has `head_start` seconds before work on it begins."""
        entry = Entry(self._next_number, frame, deliver, n_bytes, now, now + head_start)
        geometry = frame.geometry.digest
        self._next_number += 1
        self._pace.arrived(geometry, now)
        self._held[entry.number] = n_bytes
        self._bytes += n_bytes
        self._waiting.setdefault(geometry, deque()).append(entry)
        return entry

    def take(self, now: float, limit: int, *, drain_up_to: int, hurry: bool) -> list[Entry] | float:
        """Return the batch that is due and has the oldest frame; or the time at which there will be one.

        Parameters
        ----------
        now
            On the clock of `add`.
        limit
            Most frames in a batch.
        drain_up_to
            Frames up to this number are due.
        hurry
            Whether all are due.
        """
        due, wake = None, math.inf
        for geometry, group in self._waiting.items():
            oldest = group[0]
            if (
                hurry
                or len(group) >= limit
                or oldest.number <= drain_up_to
                # Nobody can add to the batch now: waiting would only hold up who submits.
                or not self.has_room(oldest.n_bytes)
            ):
                closes = now
            else:
                closes = self._pace.closes_at(geometry, limit - len(group), oldest.admitted_at)
                closes = max(closes, oldest.not_before)
            if closes > now:
                wake = min(wake, closes)
            elif due is None or oldest.number < due[0].number:
                due = group
        if due is None:
            return wake
        batch = [due.popleft() for _ in range(min(limit, len(due)))]
        if not due:
            del self._waiting[batch[0].frame.geometry.digest]
        return batch

    def remove(self, entry: Entry) -> None:
        """Hold a frame no longer: it has its row."""
        self._bytes -= self._held.pop(entry.number)

    def abandon(self) -> list[Entry]:
        """Return all that wait, oldest first; nobody else will get them. They stay held."""
        entries = [entry for group in self._waiting.values() for entry in group]
        self._waiting.clear()
        return sorted(entries, key=lambda entry: entry.number)

    def holds_up_to(self, number: int) -> bool:
        """Return whether a frame of this number or below is held."""
        return next(iter(self._held), number + 1) <= number
