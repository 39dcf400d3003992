"""Lets the consumer go on polling while the pipeline is busy: a thread that hands documents over in order.

The pipeline makes its caller wait when frames come faster than they are annotated. Were that caller the
thread that polls Kafka, a long wait would exceed ``max_poll_interval`` and the broker would give the
partitions to somebody else. So the consumer's thread puts documents into this queue, pauses the partition
when the queue is full, and goes on polling.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

ENTRY_BYTES = 200
"""That an entry of the queue takes beside its message: nothing else bounds messages that are no documents."""

Deliver = Callable[[int, str, dict[str, Any]], None]


class DocumentFeed:
    """A queue of documents in front of a pipeline, emptied by one thread.

    Parameters
    ----------
    deliver
        Called as ``deliver(offset, name, doc)`` from the thread, in the order of `put`; may block. An exception
        from it ends the thread: see `failure`.
    max_bytes
        Message bytes, and `ENTRY_BYTES` for each, at which the queue counts as full. It takes what it is given all
        the same: the caller stops fetching, and what was fetched already must go somewhere.
    """

    def __init__(self, deliver: Deliver, *, max_bytes: int) -> None:
        self._deliver = deliver
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._queue: deque[tuple[int, str, dict[str, Any], int]] = deque()
        self._bytes = 0
        self._busy = False
        self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="dvfb-document-feed", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether fetching should stop."""
        with self._changed:
            return self._bytes >= self._max_bytes

    @property
    def is_busy(self) -> bool:
        """Whether something waits to be handed over, or is being handed over."""
        with self._changed:
            return bool(self._queue) or self._busy

    @property
    def failure(self) -> Exception | None:
        """What the pipeline raised, after which nothing is handed over any more."""
        with self._changed:
            return self._failure

    def put(self, offset: int, name: str, doc: dict[str, Any], *, size: int) -> None:
        """Queue a document of `size` message bytes that was read at `offset`."""
        with self._changed:
            if not self._closed:
                self._queue.append((offset, name, doc, size))
                self._bytes += size + ENTRY_BYTES
                self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until all was handed over, at most `timeout` seconds; return whether it was."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not (self._queue or self._busy), timeout)
            return not (self._closed or self._queue or self._busy)

    def close(self) -> None:
        """Hand nothing over any more; what is queued is dropped. Does not wait for a document in progress."""
        with self._changed:
            self._shut()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                offset, name, doc, size = self._queue.popleft()
                self._busy = True
            try:
                self._deliver(offset, name, doc)
            # The pipeline refuses bad documents by itself, so what it raises is an error of ours or of the
            # machine. It must stop the daemon: a document that was not handed over is a row that is missing.
            except Exception as error:  # noqa: BLE001
                with self._changed:
                    self._failure = error
                    self._shut()
                return
            with self._changed:
                # Counted until handed over: a frame that the pipeline cannot take yet still fills the queue.
                self._bytes = max(0, self._bytes - size - ENTRY_BYTES)
                self._busy = False
                self._changed.notify_all()

    def _shut(self) -> None:
        self._closed = True
        self._queue.clear()
        self._bytes = 0
        self._changed.notify_all()
