"""A second thread that prepares waiting frames while a batch is annotated."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from dvfb_stream.frame_annotator import FrameAnnotator
from dvfb_stream.frames import Frame


class Preparation:
    """Prepares frames one by one, oldest first, ahead of their batches, whatever batches they will make.

    The thread that annotates takes part for the frames of its batch that are not prepared yet, so that both share
    the work when the queue is short. Nothing is prepared twice, but what failed and is asked for again.

    Parameters
    ----------
    annotator
        Its `prepare` is called.
    most_ahead
        Frames that may be prepared and without a row, those in work included. What `prepare` returned is held besides
        the pixels.
    """

    def __init__(self, annotator: FrameAnnotator, *, most_ahead: int) -> None:
        self._annotator = annotator
        self._most_ahead = most_ahead
        self._changed = threading.Condition()
        self._frames: dict[int, Frame] = {}  # by number, hence oldest first
        self._unclaimed: dict[int, None] = {}  # of them
        self._prepared: dict[int, Future[Any]] = {}  # those being prepared included
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dvfb-prepare", daemon=True)
        self._thread.start()

    def add(self, number: int, frame: Frame) -> None:
        """Take note of a frame; it will be prepared when it is its turn."""
        with self._changed:
            self._frames[number] = frame
            self._unclaimed[number] = None
            self._changed.notify()

    def prepared(self, numbers: Sequence[int]) -> list[Any]:
        """Return what `prepare` made of frames, in order; may be asked for repeatedly until they are forgotten.

        Raises
        ------
        BaseException
            What `prepare` raised for one of them; it is prepared again when it is asked for again.
        """
        for number in numbers:
            with self._changed:
                claimed = self._claim(number)
            if claimed is not None:
                self._prepare(*claimed)
        try:
            return [self._prepared[number].result() for number in numbers]
        except BaseException:
            self._drop_failed(numbers)
            raise

    def start_over(self) -> None:
        """Prepare everything again: what is there is of no use any more."""
        with self._changed:
            self._prepared.clear()
            self._unclaimed = dict.fromkeys(self._frames)
            self._changed.notify()

    def forget(self, number: int) -> None:
        """Let a frame go that has its row."""
        with self._changed:
            self._frames.pop(number, None)
            self._unclaimed.pop(number, None)
            self._prepared.pop(number, None)
            self._changed.notify()

    def close(self, timeout: float = 0.0) -> None:
        """End the thread once it is through with what it is at, and wait that long; `prepared` goes on without it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while self._prepare_one():
            pass

    def _prepare_one(self) -> bool:
        # A function of its own, so that no local name keeps pixels alive while the thread waits for more.
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_go_ahead())
            if self._closed:
                return False
            claimed = self._claim(next(iter(self._unclaimed)))
        if claimed is not None:
            self._prepare(*claimed)
        return True

    def _may_go_ahead(self) -> bool:
        return (
            bool(self._unclaimed)
            and len(self._prepared) < self._most_ahead
            and self._annotator.prepares_ahead  # no more, once it has fallen back to the CPU
        )

    def _claim(self, number: int) -> tuple[Frame, Future[Any]] | None:
        """Return a frame that nobody prepares or has prepared, and where to put what becomes of it."""
        self._unclaimed.pop(number, None)
        if number in self._prepared:
            return None
        future = self._prepared[number] = Future()
        return self._frames[number], future

    def _drop_failed(self, numbers: Sequence[int]) -> None:
        with self._changed:
            for number in numbers:
                future = self._prepared[number]
                if future.done() and future.exception() is not None:
                    # Not due again: who retries prepares it, and nobody else does beforehand.
                    del self._prepared[number]

    def _prepare(self, frame: Frame, future: Future[Any]) -> None:
        try:
            future.set_result(self._annotator.prepare(frame))
        except BaseException as error:  # noqa: BLE001 - raised again where the frame's batch is annotated
            future.set_exception(error)
