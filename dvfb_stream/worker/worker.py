"""One thread that annotates frames in batches, and the bounded queue before it."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Self

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import check_at_least
from dvfb_stream.frame_annotator import SupportsAnnotate, as_frame_annotator
from dvfb_stream.frames import Frame, Origin
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker.batch_retry import BatchRetry
from dvfb_stream.worker.frame_queue import Deliver, Entry, FrameQueue, Keep
from dvfb_stream.worker.policy import BatchLimit, FullQueuePolicy
from dvfb_stream.worker.preparation import Preparation
from dvfb_stream.worker.shutdown import seconds_left
from dvfb_stream.worker.stats import Tally, WorkerStats

logger = logging.getLogger(__name__)


class Worker:
    """Annotates submitted frames in batches on one daemon thread of its own.

    Life of a frame: `submit` lets it in, or applies `policy` where there is no room. Then `deliver` is called with
    the frame's annotation, **exactly once** for every submitted frame:

    - from the worker's thread, in the order of submission within one geometry;
    - from the submitting thread, before `submit` returns, for a frame that was dropped or came after `close`;
    - from the closing thread, for a frame for which the time of `close` did not suffice.

    `deliver` may block: that slows the worker, and through the full queue whoever submits. It must not call `submit`.
    If it raises, that is logged with the frame's origin and counted, and the worker goes on.

    Batches: frames of equal geometry wait together. While a batch is annotated the next ones gather, up to
    `batch_size` frames each: load alone makes batches large. An idle worker takes a batch that is not full as soon
    as, at the pace of its geometry, it will not fill before its oldest frame has waited `max_wait`: frames of a slow
    scan, and the first of any, go at once. No batch waits while somebody drains or waits for room, or when no further
    frame would be let in. Of several batches that are due, the one with the oldest frame goes first.

    Ahead: an annotator that `prepares_ahead` has waiting frames prepared by a second daemon thread, oldest first,
    while the first annotates: up to two batches, that in work included.

    Failures: see `BatchRetry`. A frame that fails costs its own row, exhausted memory makes batches smaller for a
    while, after the device is lost the annotator falls back where it can, and while its process starts again, frames
    wait in the queue.

    Bounds: the frames held, those being annotated included, are at most `max_frames` and at most `max_bytes` of
    pixels, which are not copied. A frame that alone exceeds `max_bytes` is let in when nothing else is held.

    Ends: `drain` waits until all frames let in so far have their rows and leaves the worker open. `close` lets no
    further frame in, annotates what is held, and fails what its `timeout` did not suffice for. A thread stuck inside
    the annotator cannot be stopped: the frames of that one batch get their rows when it returns, whoever has closed
    the worker since, and however often. The threads are daemons: a process that ends without `close`, or is killed,
    abandons what is held; but the end of the process waits for the batch in work, within `shutdown.SECONDS_AT_EXIT`.

    Every method may be called from any thread; `close` and `drain` any number of times, and from `atexit`: they start
    no thread. Called by `deliver`, on the worker's own thread, they do not wait.

    Parameters
    ----------
    annotator
        What annotates, a `FrameAnnotator` or any object with `identity` and `annotate`; `annotate` is called from the
        worker's thread alone.
    batch_size
        Most frames in one batch.
    max_wait
        Longest time that a frame waits for others of its geometry while the worker is idle, seconds.
    max_frames, max_bytes
        Bounds of what is held.
    policy
        What `submit` does when there is no room.
    metrics
        Where counts and times are added, of this worker and of the annotator's stages; None: nowhere.

    Raises
    ------
    SettingsError
        When a bound is not positive, or `annotator` is none.
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
        metrics: Metrics | None = None,
    ) -> None:
        check_at_least(1, batch_size=batch_size, max_frames=max_frames, max_bytes=max_bytes)
        check_at_least(0, max_wait=max_wait)
        annotator = as_frame_annotator(annotator)
        self._identity = annotator.identity
        self._pid = os.getpid()
        if metrics is not None:
            annotator.report_stages(metrics.took)
        metrics = Metrics() if metrics is None else metrics
        self._tally = Tally(metrics)
        self._preparation = (
            Preparation(annotator, most_ahead=2 * batch_size) if annotator.prepares_ahead else None
        )
        self._queue = FrameQueue(
            max_frames=max_frames,
            max_bytes=max_bytes,
            max_wait=max_wait,
            policy=policy,
            tally=self._tally,
            preparation=self._preparation,
        )
        self._limit = BatchLimit(batch_size)
        self._retry = BatchRetry(
            annotator,
            preparation=self._preparation,
            limit=self._limit,
            tally=self._tally,
            metrics=metrics,
            pause=self._queue.pause,
        )
        self._thread = threading.Thread(target=self._work, name="dvfb-worker", daemon=True)
        self._thread.start()
        _workers.add(self)

    def submit(
        self,
        frame: Frame,
        deliver: Deliver,
        *,
        wait: bool | None = None,
        keep: Keep | None = None,
        head_start: float = 0.0,
    ) -> None:
        """Let `frame` in; `deliver` gets its annotation, exactly once. Raises nothing but an interrupt, as Ctrl-C is.

        Parameters
        ----------
        frame
            Nobody may write to its pixels until its annotation is delivered, unless `keep` sees to that.
        deliver
            Called with the annotation; see the class.
        wait
            True: block until there is room or the worker is closed; False: never block; None: as the policy says,
            which is to block under `FullQueuePolicy.BLOCK` only. Where that is not to block, a frame for which there
            is no room is dropped.
        keep
            Called with the pixels, before this returns, if there is room for the frame; what it returns is annotated
            in their place: a copy that nobody writes to. What is dropped costs no copy. If it raises, the frame
            fails. Other threads submit and annotate meanwhile.
        head_start
            Seconds that who submits has the processor to himself: an idle worker begins with the frame only then.
        """
        origin = getattr(frame, "origin", None)
        try:
            refusal = self._queue.admit(frame, deliver, wait=wait, keep=keep, head_start=head_start)
        except BaseException as error:  # Ctrl-C in the midst of a copy
            reason = f"interrupted: {type(error).__name__}"
            self._hand_over(origin, deliver, Annotation.failed(reason, model=self._identity, origin=origin))
            raise
        if refusal is not None:
            annotation = Annotation(
                status=refusal.status, reason=refusal.reason, model=self._identity, origin=origin
            )
            self._hand_over(origin, deliver, annotation)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every frame let in before this call has its row; return whether that came in time.

        Batches do not wait for more frames meanwhile. Frames submitted during the call do not prolong it.

        Parameters
        ----------
        timeout
            Seconds; None: as long as it takes.
        """
        return self._queue.drain(0.0 if self._is_own_thread else timeout)

    def close(self, timeout: float | None = None) -> None:
        """Let no further frame in, give every held frame its row, and end the threads.

        What is not annotated within `timeout` seconds fails, and its row says so. With None, waits as long as it
        takes.
        """
        self._queue.close()
        if self._is_own_thread:
            return
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if self._queue.drain(timeout):
            self._thread.join(None if timeout is None else max(0.0, deadline - time.monotonic()))
            return
        abandoned = self._queue.abandon()
        if abandoned:
            logger.warning("closing after %s s: %d frames are not annotated", timeout, len(abandoned))
        self._fail(abandoned, f"the worker was closed and {timeout} s did not suffice to annotate the frame")

    def stats(self) -> WorkerStats:
        """Return what became of the frames so far, all numbers of one moment."""
        return self._tally.stats(batch_limit=self._limit.frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rest(self, timeout: float) -> None:
        """Begin no further batch, abandon what is held, and wait for the threads to come to rest.

        A process that was forked off has none of the threads, and nothing to wait for.
        """
        if os.getpid() != self._pid:
            return
        deadline = time.monotonic() + timeout
        self._queue.end()
        self._thread.join(timeout)
        if self._preparation is not None:
            self._preparation.close(max(0.0, deadline - time.monotonic()))

    @property
    def _is_own_thread(self) -> bool:
        """Whether `deliver` calls: it would wait for itself."""
        return threading.current_thread() is self._thread

    # -- annotating, on the worker's thread ----------------------------------------------------------------

    def _work(self) -> None:
        while self._work_off_one_batch():
            pass
        if self._preparation is not None:
            self._preparation.close()

    def _work_off_one_batch(self) -> bool:
        # A function of its own, so that no local name keeps pixels alive while the thread waits for more.
        batch = self._queue.next_batch(self._limit)
        without_row = {entry.number: entry for entry in batch}
        try:
            for entry, annotation in self._retry.annotated(batch) if batch else ():
                del without_row[entry.number]
                self._finish(entry, annotation)
        except BaseException as error:  # a fault of ours must not end the thread that serves all the others
            logger.exception("a batch of %d frames could not be worked off", len(batch))
            self._fail(list(without_row.values()), f"{type(error).__name__}: {error}")
        return bool(batch)

    def _fail(self, entries: list[Entry], reason: str) -> None:
        for entry in entries:
            self._finish(entry, Annotation.failed(reason, model=self._identity, origin=entry.frame.origin))

    def _finish(self, entry: Entry, annotation: Annotation) -> None:
        self._hand_over(entry.frame.origin, entry.deliver, annotation)
        self._queue.finish(entry, annotation)

    def _hand_over(self, origin: Origin | None, deliver: Deliver, annotation: Annotation) -> None:
        try:
            deliver(annotation)
        except BaseException:  # the receiver's failure must not end the thread that serves all the others
            logger.exception("whoever asked for the frame %s did not take its annotation", origin)
            self._tally.undelivered()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _rest_all() -> None:
    """Run after what was registered later: `close`, by whoever wants the frames that are held annotated."""
    for worker in list(_workers):
        worker.rest(seconds_left())
