"""The worker's state: which frames are held, who is let in, and which batch is due. One lock guards all of it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Frame, Origin, pixels_of
from dvfb_stream.worker.policy import BatchLimit, FullQueuePolicy, Pace, Sampler, Source, sampling_interval
from dvfb_stream.worker.preparation import Preparation
from dvfb_stream.worker.stats import DropReason, Tally

logger = logging.getLogger(__name__)

Deliver = Callable[[Annotation], None]

Keep = Callable[[NDArray[Any]], NDArray[Any]]
"""Makes of the pixels of a frame that is let in some that may be kept: that nobody else writes to."""


class State(Enum):
    """Of a queue; it only goes on to the next."""

    OPEN = "open"
    """Frames are let in."""
    CLOSED = "closed"
    """No frame is let in; those that are held are annotated."""
    ENDED = "ended"
    """No batch is begun any more, and none waits for an annotator that is not ready."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A frame that was let in and has no row yet."""

    number: int
    """Running number of admission: the order in which `drain` and ageing look at frames."""
    frame: Frame
    deliver: Deliver
    n_bytes: int
    admitted_at: float
    """On the queue's clock, seconds."""
    not_before: float
    """When work on it may begin, unless its batch is full or somebody waits for it; likewise."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame was not let in."""

    status: Status
    """Of its row."""
    reason: str


_TOO_LATE = Refusal(Status.FAILED, "the worker was closed before the frame came")


class FrameQueue:
    """Frames held, bounded in number and bytes: those that wait, by geometry, and those in the batch in work.

    Parameters
    ----------
    max_frames, max_bytes
        Bounds of what is held. A frame that alone exceeds `max_bytes` is let in when nothing else is held.
    max_wait
        Longest time that a frame waits for others of its geometry, seconds.
    policy
        What becomes of frames for which there is no room.
    tally
        Told of frames let in, refused and finished, in one moment with what happens to them here.
    preparation
        Told of frames that were let in and of those that have their row.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        max_frames: int,
        max_bytes: int,
        max_wait: float,
        policy: FullQueuePolicy,
        tally: Tally,
        preparation: Preparation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._policy = policy
        self._tally = tally
        self._preparation = preparation
        self._clock = clock
        self._changed = threading.Condition(threading.Lock())  # guards the rest
        self._state = State.OPEN
        self._pace = Pace(max_wait)
        self._sampler = Sampler()
        self._waiting: dict[str, deque[Entry]] = {}  # by the geometry's digest
        self._held: dict[int, Entry] = {}  # by number, hence oldest first
        self._last_number = -1
        # Room that is taken, by what is held and by frames that are being copied.
        self._frames = self._bytes = 0
        self._submitters_waiting = 0
        self._drain_up_to = -1

    # -- by whoever submits --------------------------------------------------------------------------------

    def admit(
        self,
        frame: Frame,
        deliver: Deliver,
        *,
        wait: bool | None = None,
        keep: Keep | None = None,
        head_start: float = 0.0,
    ) -> Refusal | None:
        """Let a frame in, when there is room or as the policy has it; return why not, or None where it was let in.

        `keep` is called outside the lock: room is reserved before, and given back if `keep` raises or the queue was
        closed meanwhile. Parameters as in `Worker.submit`.
        """
        try:
            pixels = pixels_of(frame)
        except FrameError as error:
            with self._changed:
                self._tally.refused()
            return Refusal(Status.FAILED, str(error))
        geometry, n_bytes = frame.geometry.digest, pixels.nbytes
        refusal = self._reserve(n_bytes, frame.origin, wait=wait)
        if refusal is not None:
            return refusal
        try:
            kept = frame if keep is None else Frame(keep(pixels), frame.geometry, frame.origin)
        except BaseException as error:
            self._refuse_reserved(n_bytes)
            if not isinstance(error, Exception):  # Ctrl-C in the midst of a copy
                raise
            # Memory that cannot be had, for one; it costs this frame.
            logger.exception("the frame %s cannot be kept", frame.origin)
            return Refusal(Status.FAILED, f"the frame could not be kept: {type(error).__name__}: {error}")
        with self._changed:
            if self._state is not State.OPEN:
                self._give_back(n_bytes)
                self._tally.refused()
                return _TOO_LATE
            now = self._clock()
            self._last_number += 1
            entry = Entry(self._last_number, kept, deliver, n_bytes, now, now + head_start)
            self._pace.arrived(geometry, now)
            self._held[entry.number] = entry
            self._waiting.setdefault(geometry, deque()).append(entry)
            self._tally.let_in(n_bytes)
            if self._preparation is not None:
                self._preparation.add(entry.number, kept)
            self._changed.notify_all()
            return None

    def _reserve(self, n_bytes: int, origin: Origin | None, *, wait: bool | None) -> Refusal | None:
        """Take room for a frame; return why it gets none, or None where it does."""
        waits = self._policy is FullQueuePolicy.BLOCK if wait is None else wait
        with self._changed:
            if waits and not self._has_room(n_bytes):
                self._wait_for_room(n_bytes)
            if self._state is not State.OPEN:
                self._tally.refused()
                return _TOO_LATE
            fill = max(self._frames / self._max_frames, self._bytes / self._max_bytes)
            samples = self._policy is FullQueuePolicy.SAMPLE
            interval = sampling_interval(fill) if samples and not waits else 1
            source = Source.of(origin) if samples else None
            if samples and not self._sampler.is_due(source, interval):
                why = DropReason.SAMPLED_OUT
                said = f"sampled out, one frame in {interval} was let in while the queue was {fill:.0%} full"
            elif not self._has_room(n_bytes):
                why = DropReason.QUEUE_FULL
                said = f"the queue was full ({self._max_frames} frames, {self._max_bytes} bytes at most)"
            else:
                if samples:
                    self._sampler.let_in(source)
                self._frames += 1
                self._bytes += n_bytes
                return None
            if samples:
                self._sampler.left_out(source)
            self._tally.dropped(why, Source.of(origin))
            return Refusal(Status.DROPPED, said)

    def _wait_for_room(self, n_bytes: int) -> None:
        self._submitters_waiting += 1
        try:
            self._changed.notify_all()  # no batch waits for more frames while somebody waits for room
            self._changed.wait_for(lambda: self._state is not State.OPEN or self._has_room(n_bytes))
        finally:
            self._submitters_waiting -= 1

    def _has_room(self, n_bytes: int) -> bool:
        if not self._frames:
            return True
        return self._frames < self._max_frames and self._bytes + n_bytes <= self._max_bytes

    def _refuse_reserved(self, n_bytes: int) -> None:
        with self._changed:
            self._give_back(n_bytes)
            self._tally.refused()

    def _give_back(self, n_bytes: int) -> None:
        self._frames -= 1
        self._bytes -= n_bytes
        self._changed.notify_all()

    # -- by the thread that annotates ----------------------------------------------------------------------

    def next_batch(self, limit: BatchLimit) -> list[Entry]:
        """Wait for a batch that is due and take it; empty when there will be none any more."""
        with self._changed:
            while self._state is State.OPEN or (self._state is State.CLOSED and self._held):
                found = self._take(limit.frames)
                if isinstance(found, list):
                    return found
                self._changed.wait(None if found == math.inf else found - self._clock())
            return []

    def take(self, limit: int) -> list[Entry] | float:
        """Take the batch that is due and has the oldest frame; or return the time at which one will be due."""
        with self._changed:
            return self._take(limit)

    def _take(self, limit: int) -> list[Entry] | float:
        now, due, wake = self._clock(), None, math.inf
        hurry = self._state is not State.OPEN or self._submitters_waiting
        for geometry, group in self._waiting.items():
            oldest = group[0]
            closes = now
            # Where nobody can add to the batch now, waiting would only hold up who submits.
            if not (
                hurry
                or len(group) >= limit
                or oldest.number <= self._drain_up_to
                or not self._has_room(oldest.n_bytes)
            ):
                closes = self._pace.closes_at(geometry, len(group), limit, oldest.admitted_at)
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
        self._tally.batch(len(batch), now - batch[0].admitted_at)
        return batch

    def finish(self, entry: Entry, annotation: Annotation) -> None:
        """Hold a frame no longer: it has its row."""
        if self._preparation is not None:
            self._preparation.forget(entry.number)
        with self._changed:
            del self._held[entry.number]
            self._give_back(entry.n_bytes)
            self._tally.finished(annotation, entry.n_bytes)

    def pause(self, seconds: float) -> bool:
        """Wait that long; False, and at once, when the queue has ended: nobody waits for rows any more."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._state is State.ENDED, seconds)

    # -- by whoever waits, closes or asks --------------------------------------------------------------------

    def drain(self, timeout: float | None) -> bool:
        """Wait until the frames let in before have their rows; return whether that came in time."""
        with self._changed:
            last = self._last_number
            self._drain_up_to = last
            self._changed.notify_all()
            return self._changed.wait_for(lambda: next(iter(self._held), last + 1) > last, timeout)

    def close(self) -> None:
        """Let no further frame in, and nobody wait for room."""
        with self._changed:
            if self._state is State.OPEN:
                self._state = State.CLOSED
                self._changed.notify_all()

    def end(self) -> None:
        """Let no further frame in and begin no further batch; what is held stays without a row."""
        with self._changed:
            self._state = State.ENDED
            self._changed.notify_all()

    def abandon(self) -> list[Entry]:
        """End, and return all that wait, oldest first. Whoever calls gives them their rows, and calls `finish`."""
        self.end()
        with self._changed:
            entries = [entry for group in self._waiting.values() for entry in group]
            self._waiting.clear()
        return sorted(entries, key=lambda entry: entry.number)

    def __len__(self) -> int:
        return len(self._held)
