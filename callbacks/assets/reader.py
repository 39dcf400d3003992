"""One thread that reads pixels, so that neither a scan nor a network waits for a disk."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.callbacks.assets.files import FrameFiles
from dvfb_stream.callbacks.assets.references import Files, NotThereYetError, PixelReference
from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)

Deliver = Callable[[NDArray[Any] | None, str], None]
"""Called with the pixels, or with None and the reason why there are none."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a file that is late is looked at again; doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStats:
    """What became of the references so far."""

    read: int
    """Frames read."""
    failed: int
    """Frames that could not be read, or not in time, or not before the reader was closed."""
    refused: int
    """References for which there was no room."""
    waiting: int
    """References not delivered yet."""
    retries: int
    """Attempts that found a frame not to be there yet."""
    bytes: int
    """Bytes of the pixels read."""
    seconds: float
    """Spent reading."""
    open_files: int
    """Files open now."""


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    reference: PixelReference
    deliver: Deliver
    run: str
    submitted: float
    """Monotonic clock, seconds."""


@dataclass(slots=True, eq=False)
class _Line:
    """The references of one file, in order."""

    entries: deque[_Entry] = field(default_factory=deque)
    pause: float = FIRST_PAUSE


class PixelReader:
    """Reads the pixels of references on one daemon thread of its own.

    References of one file are read in the order of submission. One whose frame is not there yet is tried again with
    growing pauses, while other files go on, until `patience` seconds after it was submitted; then it fails, and so
    does, each at its own time, what waits behind it. Files take turns, frame by frame.

    `deliver` is called **exactly once** for each reference that was taken, from the reader's thread. It may block:
    so a slow worker slows reading, and memory holds one frame here. It must not call `drain` or `close`. If it
    raises, that is logged and the reader goes on.

    Ends: `drain` waits until all that was taken is delivered; `close` takes nothing more, reads what is there, and
    fails what `timeout` did not suffice for. The thread is a daemon.

    Parameters
    ----------
    files
        What opens files; closed with the reader. None: one of its own.
    max_pending
        References that may wait; 200 bytes each.
    patience
        Seconds that a frame may be late.
    metrics
        What is counted and timed here is added to it.

    Raises
    ------
    SettingsError
        When a bound is not positive.
    """

    def __init__(
        self,
        files: Files | None = None,
        *,
        max_pending: int = 100_000,
        patience: float = 30.0,
        metrics: Metrics | None = None,
    ) -> None:
        if max_pending < 1:
            raise SettingsError(f"max_pending must be at least 1, not {max_pending}")
        if not patience >= 0:
            raise SettingsError(f"patience must be 0 s or more, not {patience}")
        self._files: Files = files or FrameFiles()
        self._metrics = Metrics() if metrics is None else metrics
        self._max_pending = max_pending
        self._patience = patience
        self._changed = threading.Condition()
        self._lines: dict[str, _Line] = {}
        self._ready: deque[str] = deque()
        self._late: list[tuple[float, int, str]] = []
        """Heap of when a late file is looked at again."""
        self._numbers = itertools.count()
        self._waiting: dict[int, None] = {}
        self._closed = False
        self._give_up = False
        self._read = self._failed = self._refused = self._retries = self._bytes = 0
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._work, name="dvfb-reader", daemon=True)
        self._thread.start()

    def submit(
        self, reference: PixelReference, deliver: Deliver, *, run: str = "", wait: bool = False
    ) -> bool:
        """Take a reference, and return whether it was taken; with `wait`, block until there is room.

        `deliver` is not called for one that is not taken: the reader is full, or closed.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._max_pending)
            if self._closed or len(self._waiting) >= self._max_pending:
                self._refused += 1
                return False
            entry = _Entry(next(self._numbers), reference, deliver, run, time.monotonic())
            self._waiting[entry.number] = None
            self._metrics.change(catalogue.UNREAD_FRAMES, 1)
            line = self._lines.get(reference.file)
            if line is None:
                line = self._lines[reference.file] = _Line()
                self._ready.append(reference.file)
            line.entries.append(entry)
            self._changed.notify_all()
            return True

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all references taken before this call are delivered; return whether that came in time."""
        with self._changed:
            last = next(self._numbers) - 1
            return self._changed.wait_for(lambda: next(iter(self._waiting), last + 1) > last, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, deliver what waits, end the thread and close the files.

        What is not read within `timeout` seconds fails, and its reason says so. With None, waits.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self.drain(timeout):
            with self._changed:
                self._give_up = True
                logger.warning(
                    "closing the reader after %s s: %d frames are not read", timeout, len(self._waiting)
                )
                self._changed.notify_all()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._files.close()

    def stats(self) -> ReaderStats:
        """Return what became of the references so far, all numbers of one moment."""
        with self._changed:
            return ReaderStats(
                read=self._read,
                failed=self._failed,
                refused=self._refused,
                waiting=len(self._waiting),
                retries=self._retries,
                bytes=self._bytes,
                seconds=self._seconds,
                open_files=self._files.open_files,
            )

    # -- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            name = self._next_file()
            if name is None:
                return
            self._read_one(name)

    def _next_file(self) -> str | None:
        """Wait for a file with a frame to read; None once the reader is closed and nothing waits."""
        with self._changed:
            while True:
                now = time.monotonic()
                while self._late and (self._late[0][0] <= now or self._give_up):
                    self._ready.append(heapq.heappop(self._late)[2])
                if self._ready:
                    return self._ready.popleft()
                if self._closed and not self._waiting:
                    return None
                self._changed.wait(self._late[0][0] - now if self._late else None)

    def _read_one(self, name: str) -> None:
        with self._changed:
            line = self._lines[name]
            entry, give_up = line.entries[0], self._give_up
        pixels, reason, late = None, "", None
        started = time.monotonic()
        if give_up:
            reason = "the reader was closed before the frame was read"
        else:
            try:
                pixels = entry.reference.read(self._files, entry.run)
            except NotThereYetError as error:
                late = error
            except FrameError as error:
                reason = str(error)
            except Exception as error:  # whatever it was, it costs this frame, not the thread
                logger.exception("reading %s failed", name)
                reason = f"{name} cannot be read: {type(error).__name__}: {error}"
        now = time.monotonic()
        if late is not None:
            if now - entry.submitted < self._patience:
                self._try_again(name, line, now, now - started)
                return
            reason = f"{late}; it did not come within {self._patience:g} s"
        if pixels is not None:
            self._metrics.observe(catalogue.STAGE_SECONDS, now - started, Stage.READ)
        with self._changed:
            line.entries.popleft()
            line.pause = FIRST_PAUSE
            self._seconds += now - started
            self._read += pixels is not None
            self._failed += pixels is None
            self._bytes += 0 if pixels is None else pixels.nbytes
            if line.entries:
                self._ready.append(name)
            else:
                del self._lines[name]
        try:
            entry.deliver(pixels, reason)
        except Exception:
            logger.exception("a frame of %s was read, but could not be handed on", name)
        with self._changed:
            del self._waiting[entry.number]
            self._metrics.change(catalogue.UNREAD_FRAMES, -1)
            self._changed.notify_all()

    def _try_again(self, name: str, line: _Line, now: float, spent: float) -> None:
        with self._changed:
            self._retries += 1
            self._seconds += spent
            heapq.heappush(self._late, (now + line.pause, next(self._numbers), name))
            line.pause = min(2.0 * line.pause, LONGEST_PAUSE)
