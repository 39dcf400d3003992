"""One thread that annotates frames in batches, and the bounded queue before it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.worker.interface import FullQueuePolicy, SupportsAnnotate, WorkerStats, dropped_reason

logger = logging.getLogger(__name__)

Deliver = Callable[[Annotation], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A frame that was taken in and has no row yet."""

    number: int
    """Running number of admission: the order in which `drain` and ageing look at frames."""
    frame: Frame
    deliver: Deliver
    n_bytes: int
    admitted_at: float
    """Monotonic clock, seconds."""


class Worker:
    """Annotates submitted frames in batches on one daemon thread of its own.

    Life of a frame: `submit` takes it in, or applies `policy` where there is no room. Frames of equal geometry
    wait together until there are `batch_size` of them, or the first has waited `max_wait`, or no further frame
    would be let in, or somebody drains. Of several batches that are due, the one with the oldest frame goes
    first. Then `deliver` is called with the frame's annotation, **exactly once** for every submitted frame:

    - from the worker's thread, in the order of submission within one geometry;
    - from the submitting thread, before `submit` returns, for a frame that was dropped or came after `close`.

    `deliver` may block: that is how a slow receiver slows the worker, and through the full queue whoever
    submits. It must not call `submit`, `drain` or `close`. If it raises, that is logged with the frame's origin
    and counted, and the worker goes on.

    Failures: a batch for which the annotator raises, or returns something other than one annotation a frame,
    is annotated once more frame by frame; a frame that fails alone gets a row of status ``failed``.

    Bounds: the frames held, those being annotated included, are at most `max_frames` and at most `max_bytes`
    of pixels. A frame that alone exceeds `max_bytes` is let in when nothing else is held, so that it gets its
    row too. Pixels are not copied.

    Ends: `drain` waits until all frames taken in so far have their rows and leaves the worker open. `close`
    lets no further frame in, annotates what is held, and fails what its `timeout` did not suffice for. A thread
    stuck inside the annotator cannot be stopped: the frames of that one batch get their rows when it returns.
    The thread is a daemon: a process that ends without `close` abandons what is held. Every method may be
    called from any thread; `close` and `drain` any number of times.

    Parameters
    ----------
    annotator
        What annotates; it is called from the worker's thread alone.
    batch_size
        Most frames in one batch.
    max_wait
        Longest time that a frame waits for others of its geometry, seconds.
    max_frames, max_bytes
        Bounds of what is held.
    policy
        What `submit` does when there is no room.

    Raises
    ------
    SettingsError
        When a bound is not positive.
    """

    def __init__(
        self,
        annotator: SupportsAnnotate,
        *,
        batch_size: int = 16,
        max_wait: float = 0.2,
        max_frames: int = 256,
        max_bytes: int = 1 << 30,
        policy: FullQueuePolicy = FullQueuePolicy.BLOCK,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_frames", max_frames), ("max_bytes", max_bytes)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, not {value}")
        if not max_wait >= 0:
            raise SettingsError(f"max_wait must be 0 s or more, not {max_wait}")
        self._annotator = annotator
        self._identity = annotator.identity
        self._batch_size = batch_size
        self._max_wait = max_wait
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._policy = policy

        self._changed = threading.Condition()
        self._waiting: dict[Geometry, deque[_Entry]] = {}
        self._held: dict[int, _Entry] = {}  # by number, hence oldest first; includes the batch in work
        self._held_bytes = 0
        self._next_number = 0
        self._kept_waiting = 0  # calls of `submit` that wait for room
        self._drain_up_to = -1
        self._closed = False
        self._received = self._annotated = self._failed = self._dropped = self._batches = (
            self._undelivered
        ) = 0
        self._thread = threading.Thread(target=self._work, name="dvfb-worker", daemon=True)
        self._thread.start()

    def submit(self, frame: Frame, deliver: Deliver) -> None:
        """Take `frame` in; `deliver` gets its annotation, exactly once.

        Blocks only under `FullQueuePolicy.BLOCK`, until there is room or the worker is closed. Never raises.
        """
        n_bytes = int(frame.pixels.nbytes)
        with self._changed:
            if self._policy is FullQueuePolicy.BLOCK and not self._has_room(n_bytes):
                self._kept_waiting += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._has_room(n_bytes))
                self._kept_waiting -= 1
            self._received += 1
            if self._closed:
                self._failed += 1
                reason = "the worker was closed before the frame came"
            elif self._has_room(n_bytes):
                self._admit(frame, deliver, n_bytes)
                return
            else:
                self._dropped += 1
                reason = dropped_reason(self._max_frames, self._max_bytes)
        annotation = Annotation.failed(reason, model=self._identity, origin=frame.origin)
        self._hand_over(frame, deliver, annotation)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every frame taken in before this call has its row; return whether that came in time.

        Batches do not wait for more frames meanwhile. Frames submitted during the call do not prolong it.
        """
        with self._changed:
            last = self._next_number - 1
            self._drain_up_to = max(self._drain_up_to, last)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: next(iter(self._held), last + 1) > last, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Let no further frame in, give every held frame its row, and end the thread.

        What is not annotated within `timeout` seconds fails, and its row says so. With None, waits.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self.drain(timeout):
            self._thread.join(timeout)
            return
        with self._changed:
            abandoned = [entry for group in self._waiting.values() for entry in group]
            self._waiting.clear()
        logger.warning("closing the worker after %s s: %d frames are not annotated", timeout, len(abandoned))
        reason = f"the worker was closed and {timeout} s did not suffice to annotate the frame"
        for entry in abandoned:
            self._finish(entry, Annotation.failed(reason, model=self._identity, origin=entry.frame.origin))

    def stats(self) -> WorkerStats:
        """Return what became of the frames so far, all numbers of one moment."""
        with self._changed:
            return WorkerStats(
                received=self._received,
                annotated=self._annotated,
                failed=self._failed,
                dropped=self._dropped,
                queued_frames=len(self._held),
                queued_bytes=self._held_bytes,
                batches=self._batches,
                undelivered=self._undelivered,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the queue, all under the lock -------------------------------------------------------------------

    def _has_room(self, n_bytes: int) -> bool:
        if not self._held:
            return True
        return len(self._held) < self._max_frames and self._held_bytes + n_bytes <= self._max_bytes

    def _admit(self, frame: Frame, deliver: Deliver, n_bytes: int) -> None:
        entry = _Entry(self._next_number, frame, deliver, n_bytes, time.monotonic())
        self._next_number += 1
        self._held[entry.number] = entry
        self._held_bytes += n_bytes
        self._waiting.setdefault(frame.geometry, deque()).append(entry)
        self._changed.notify_all()

    def _due(self, group: deque[_Entry], now: float) -> bool:
        """Whether the frames of one geometry should wait no longer."""
        oldest = group[0]
        return (
            len(group) >= self._batch_size
            or self._closed
            or oldest.number <= self._drain_up_to
            or now - oldest.admitted_at >= self._max_wait
            # Nobody can add to the batch now: waiting for its age would only hold up who submits.
            or self._kept_waiting > 0
            or not self._has_room(oldest.n_bytes)
        )

    def _next_batch(self) -> list[_Entry]:
        """Wait for a batch that is due and take it; empty once the worker is closed and nothing waits."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = [group for group in self._waiting.values() if self._due(group, now)]
                if due:
                    group = min(due, key=lambda group: group[0].number)
                    batch = [group.popleft() for _ in range(min(self._batch_size, len(group)))]
                    if not group:
                        del self._waiting[batch[0].frame.geometry]
                    self._batches += 1
                    return batch
                if self._closed and not self._waiting:
                    return []
                oldest = min((group[0].admitted_at for group in self._waiting.values()), default=None)
                self._changed.wait(None if oldest is None else max(0.0, oldest + self._max_wait - now))

    # -- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while self._work_off_one_batch():
            pass

    def _work_off_one_batch(self) -> bool:
        # A function of its own, so that no local name keeps pixels alive while the thread waits for more.
        batch = self._next_batch()
        for entry, annotation in zip(batch, self._annotate(batch) if batch else (), strict=True):
            self._finish(entry, annotation)
        return bool(batch)

    def _annotate(self, batch: Sequence[_Entry]) -> list[Annotation]:
        try:
            return self._annotate_together(batch)
        except Exception as error:  # whatever it was, it costs the frames that cause it, not the thread
            if len(batch) > 1:
                logger.warning(
                    "a batch of %d frames failed (%r); retrying frame by frame",
                    len(batch),
                    error,
                    exc_info=True,
                )
                return [annotation for entry in batch for annotation in self._annotate([entry])]
            origin = batch[0].frame.origin
            logger.warning("annotating the frame %s failed", origin, exc_info=True)
            reason = str(error) if isinstance(error, DvfbError) else f"{type(error).__name__}: {error}"
            return [Annotation.failed(reason, model=self._identity, origin=origin)]

    def _annotate_together(self, batch: Sequence[_Entry]) -> list[Annotation]:
        annotations = self._annotator.annotate([entry.frame for entry in batch])
        if len(annotations) != len(batch):
            raise RuntimeError(
                f"the annotator returned {len(annotations)} annotations for {len(batch)} frames"
            )
        return annotations

    def _finish(self, entry: _Entry, annotation: Annotation) -> None:
        self._hand_over(entry.frame, entry.deliver, annotation)
        with self._changed:
            del self._held[entry.number]
            self._held_bytes -= entry.n_bytes
            if annotation.ok:
                self._annotated += 1
            else:
                self._failed += 1
            self._changed.notify_all()

    def _hand_over(self, frame: Frame, deliver: Deliver, annotation: Annotation) -> None:
        try:
            deliver(annotation)
        except Exception:  # the receiver's failure must not end the thread that serves all the others
            logger.exception("whoever asked for the frame %s did not take its annotation", frame.origin)
            with self._changed:
                self._undelivered += 1
