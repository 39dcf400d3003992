"""The door of the queue: takes frames in, makes their submitters wait, or says why it does not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dvfb_stream.annotations import Status
from dvfb_stream.frames import Frame
from dvfb_stream.worker.frame_queue import Deliver, FrameQueue
from dvfb_stream.worker.policy import FullQueuePolicy, Sampler, Source, sampling_interval
from dvfb_stream.worker.preparation import Preparation
from dvfb_stream.worker.stats import DropReason, Tally, full_reason, sampled_reason

logger = logging.getLogger(__name__)

Keep = Callable[[Frame], Frame]
"""Makes a frame that is let in one that may be kept: with pixels that nobody else writes to. If it raises, the
frame is refused, and counted as failed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame was not taken in."""

    status: Status
    """Of its row."""
    reason: str


class Intake:
    """Takes frames into a queue as the policy has it, until it is closed.

    Parameters
    ----------
    changed
        The worker's lock, reentrant; notified when a frame was taken in or somebody begins to wait.
    queue, tally
        Guarded by it.
    policy
        What becomes of frames for which there is no room.
    preparation
        Told of frames that were taken in.
    """

    def __init__(
        self,
        changed: threading.Condition,
        *,
        queue: FrameQueue,
        tally: Tally,
        policy: FullQueuePolicy,
        preparation: Preparation | None,
    ) -> None:
        self._changed = changed
        self._queue = queue
        self._tally = tally
        self._policy = policy
        self._preparation = preparation
        self._sampler = Sampler()
        self._kept_waiting = 0
        self._deciding: int | None = None  # the thread that does; all under the lock
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether no further frame is taken in."""
        return self._closed

    @property
    def keeps_waiting(self) -> bool:
        """Whether somebody waits for room."""
        return self._kept_waiting > 0

    @property
    def is_interrupted(self) -> bool:
        """Whether the calling thread was interrupted while it took a frame in: by the handler of a signal."""
        return self._deciding == threading.get_ident()

    def close(self) -> None:
        """Take no further frame in, and let those go who wait for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take_in(
        self,
        frame: Frame,
        deliver: Deliver,
        *,
        wait: bool | None,
        keep: Keep | None = None,
        head_start: float = 0.0,
    ) -> Refusal | None:
        """Take a frame in; return why not, or None where it was. Parameters as in `Worker.submit`."""
        n_bytes = int(frame.pixels.nbytes)
        waits = self._policy is FullQueuePolicy.BLOCK if wait is None else wait
        samples = self._policy is FullQueuePolicy.SAMPLE and not waits
        with self._changed:
            while True:
                self._deciding = threading.get_ident()
                try:
                    if self._closed or not waits or self._queue.has_room(n_bytes):
                        return self._decide(
                            frame, deliver, n_bytes, samples=samples, keep=keep, head_start=head_start
                        )
                finally:
                    self._deciding = None
                self._wait()

    def _wait(self) -> None:
        self._kept_waiting += 1
        try:
            self._changed.notify_all()
            self._changed.wait()
        finally:
            self._kept_waiting -= 1

    def _decide(
        self,
        frame: Frame,
        deliver: Deliver,
        n_bytes: int,
        *,
        samples: bool,
        keep: Keep | None,
        head_start: float,
    ) -> Refusal | None:
        if self._closed:
            self._tally.came_too_late()
            return Refusal(Status.FAILED, "the worker was closed before the frame came")
        source = Source.of(frame.origin)
        fill = self._queue.fill
        interval = sampling_interval(fill) if samples else 1
        if not self._sampler.is_due(source, interval):
            reason, said = DropReason.SAMPLED_OUT, sampled_reason(fill, interval)
        elif not self._queue.has_room(n_bytes):
            reason, said = DropReason.QUEUE_FULL, full_reason(self._queue.max_frames, self._queue.max_bytes)
        else:
            try:
                frame = frame if keep is None else keep(frame)
            except Exception as error:  # memory that cannot be had, for one; it costs this frame
                logger.exception("the frame %s cannot be kept", frame.origin)
                self._tally.came_too_late()
                return Refusal(Status.FAILED, f"the frame could not be kept: {type(error).__name__}: {error}")
            entry = self._queue.add(frame, deliver, n_bytes, time.monotonic(), head_start)
            self._sampler.let_in(source)
            self._tally.let_in(n_bytes)
            if self._preparation is not None:
                self._preparation.add(entry.number, frame)
            self._changed.notify_all()
            return None
        self._sampler.left_out(source)
        self._tally.dropped(reason, source)
        return Refusal(Status.DROPPED, said)
