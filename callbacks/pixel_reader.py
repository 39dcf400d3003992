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

from dvfb_stream.annotations import Status
from dvfb_stream.callbacks.file_sequences import PixelReferences
from dvfb_stream.errors import FrameError, NotThereYetError, SettingsError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import FrameReader
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotRead:
    """Why there are no pixels of a frame."""

    status: Status
    """`FAILED`, or `DROPPED` where too many frames waited."""
    reason: str


Deliver = Callable[[int, NDArray[Any] | NotRead], None]
"""Called with a frame's position among those submitted with it and its pixels, or why there are none."""

TOO_MANY = NotRead(Status.DROPPED, "too many frames wait to be read from files")
CLOSED = NotRead(Status.FAILED, "the reader was closed before the frame was read")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a file that is late is looked at again; doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStats:
    """What became of the frames so far."""

    read: int
    """Frames read."""
    failed: int
    """Frames that could not be read, or not in time, or not before the reader was closed."""
    refused: int
    """Frames for which there was no room."""
    waiting: int
    """Frames taken and not delivered yet."""
    retries: int
    """Attempts that found a frame not to be there yet."""
    bytes: int
    """Bytes of the pixels read."""
    seconds: float
    """Spent reading."""
    open_files: int
    """Files open now."""


@dataclass(slots=True, eq=False)
class _Entry:
    """Frames submitted together, as far as they are not delivered."""

    number: int
    references: PixelReferences
    deliver: Deliver
    run: str
    submitted: float
    """Monotonic clock, seconds."""
    position: int
    """Of the frame that is next."""
    end: int
    """One past the last position."""
    refusal: NotRead | None = None
    """Why they are not read, but only said to be so."""


@dataclass(slots=True, eq=False)
class _Line:
    """What is read from one source, in order."""

    entries: deque[_Entry] = field(default_factory=deque)
    pause: float = FIRST_PAUSE


class PixelReader:
    """Reads the pixels of frames on one daemon thread of its own.

    Frames that a document announces together are submitted together: what that costs does not depend on how many
    they are. Those of one source are read in the order of submission. One that is not there yet is tried again with
    growing pauses, while other sources go on, until `patience` seconds after it was submitted; then it fails, and so
    does, each at its own time, what waits behind it. Sources take turns, frame by frame.

    `deliver` is called **exactly once** for each frame, from the reader's thread; from the one that submits only
    where the reader is closed, or so far behind that it cannot even keep the refusals. It may block: so a slow worker
    slows reading, and memory holds one frame here. It must not call `drain` or `close`. If it raises, that is logged
    and the reader goes on.

    Ends: `drain` waits until all that was submitted is delivered; `close` takes nothing more, reads what is there,
    and fails what `timeout` did not suffice for. The thread is a daemon.

    Parameters
    ----------
    files
        What opens files; closed with the reader. None: one of its own.
    max_pending
        Frames that may wait; and submissions of frames that were refused. Some hundred bytes each submission.
    patience
        Seconds that a frame may be late.
    head_start
        Seconds that who submits to an idle reader has the processor to himself before it begins.
    metrics
        What is counted and timed here is added to it.

    Raises
    ------
    SettingsError
        When a bound is not positive.
    """

    def __init__(
        self,
        files: FrameReader | None = None,
        *,
        max_pending: int = 100_000,
        patience: float = 30.0,
        head_start: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        if max_pending < 1:
            raise SettingsError(f"max_pending must be at least 1, not {max_pending}")
        if not patience >= 0:
            raise SettingsError(f"patience must be 0 s or more, not {patience}")
        self._files: FrameReader = FrameFiles() if files is None else files
        self._metrics = Metrics() if metrics is None else metrics
        self._max_pending = max_pending
        self._patience = patience
        self._head_start = head_start
        self._changed = threading.Condition()
        self._lines: dict[str, _Line] = {}
        self._ready: deque[str] = deque()
        self._late: list[tuple[float, int, str]] = []
        """Heap of when a late source is looked at again."""
        self._ended: deque[str] = deque()
        """Runs for which files need not be kept open."""
        self._numbers = itertools.count()
        self._entries: dict[int, _Entry] = {}
        self._pending = 0
        self._closed = False
        self._give_up = False
        self._read = self._failed = self._refused = self._retries = self._bytes = 0
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._work, name="dvfb-reader", daemon=True)
        self._thread.start()

    def submit(
        self, references: PixelReferences, deliver: Deliver, *, run: str = "", wait: bool = False
    ) -> None:
        """Take frames; with `wait`, block until there is room for all of them.

        Those for which there is no room, the last ones, are delivered as `TOO_MANY`, or as `CLOSED`.

        Parameters
        ----------
        references
            Where they lie.
        deliver
            Called once for each.
        run
            The raw run for which they are read.
        wait
            Whether to wait for room rather than refuse.
        """
        first, count = 0, len(references)
        with self._changed:
            while first < count and not self._closed:
                if wait:
                    self._changed.wait_for(lambda: self._closed or self._pending < self._max_pending)
                room = 0 if self._closed else min(count - first, self._max_pending - self._pending)
                if room:
                    self._add(references, deliver, run, first, first + room)
                    first += room
                if not wait:
                    break
            if first == count:
                return
            self._refused += count - first
            reason = CLOSED if self._closed else TOO_MANY
            if not self._closed and len(self._entries) < 2 * self._max_pending:
                self._add(references, deliver, run, first, count, refusal=reason)
                return
        for position in range(first, count):
            self._hand_on(deliver, position, reason)

    def _add(
        self,
        references: PixelReferences,
        deliver: Deliver,
        run: str,
        first: int,
        end: int,
        *,
        refusal: NotRead | None = None,
    ) -> None:
        number = next(self._numbers)
        entry = _Entry(number, references, deliver, run, time.monotonic(), first, end, refusal)
        self._entries[number] = entry
        if refusal is None:
            self._pending += end - first
            self._metrics.change(catalogue.UNREAD_FRAMES, end - first)
        # Refusals do not wait for a file that is late.
        source = "" if refusal else references.source
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = _Line()
            self._ready.append(source)
        line.entries.append(entry)
        self._changed.notify_all()

    def release(self, run: str) -> None:
        """Close what is open for a run all of whose frames are delivered."""
        with self._changed:
            if not self._closed:
                self._ended.append(run)
                self._changed.notify_all()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all frames submitted before this call are delivered; return whether that came in time."""
        with self._changed:
            last = next(self._numbers) - 1
            return self._changed.wait_for(lambda: next(iter(self._entries), last + 1) > last, timeout)

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
                    "closing the reader after %s s: %d frames are not read", timeout, self._pending
                )
                self._changed.notify_all()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._files.close()

    def stats(self) -> ReaderStats:
        """Return what became of the frames so far, all numbers of one moment but that of open files."""
        open_files = self._files.open_files
        with self._changed:
            return ReaderStats(
                read=self._read,
                failed=self._failed,
                refused=self._refused,
                waiting=self._pending,
                retries=self._retries,
                bytes=self._bytes,
                seconds=self._seconds,
                open_files=open_files,
            )

    # -- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            source = self._next_source()
            if source is None:
                return
            self._read_one(source)

    def _next_source(self) -> str | None:
        """Wait for a source with a frame to read; None once the reader is closed and nothing waits."""
        while True:
            with self._changed:
                now = time.monotonic()
                while self._late and (self._late[0][0] <= now or self._give_up):
                    self._ready.append(heapq.heappop(self._late)[2])
                if not self._ended:
                    if self._ready:
                        begins = self._lines[self._ready[0]].entries[0].submitted + self._head_start
                        if now >= begins or self._closed:
                            return self._ready.popleft()
                        self._changed.wait(begins - now)
                        continue
                    if self._closed and not self._entries:
                        return None
                    self._changed.wait(self._late[0][0] - now if self._late else None)
                    continue
                run = self._ended.popleft()
            try:
                self._files.release(run)
            except Exception:
                logger.exception("the files of run %s were not closed", run)

    def _read_one(self, source: str) -> None:
        with self._changed:
            line = self._lines[source]
            entry, give_up = line.entries[0], self._give_up
        found: NDArray[Any] | NotRead | None = entry.refusal or (CLOSED if give_up else None)
        started = time.monotonic()
        late = ""
        if found is None:
            try:
                found = self._files.read(entry.references[entry.position], entry.run)
            except NotThereYetError as error:
                late = str(error)
            except FrameError as error:
                found = NotRead(Status.FAILED, str(error))
            except Exception as error:  # whatever it was, it costs this frame, not the thread
                logger.exception("reading %s failed", source)
                found = NotRead(Status.FAILED, f"{source} cannot be read: {type(error).__name__}: {error}")
        now = time.monotonic()
        if found is None:
            if now - entry.submitted < self._patience:
                self._try_again(source, line, now, now - started)
                return
            found = NotRead(Status.FAILED, f"{late}; it did not come within {self._patience:g} s")
        pixels = None if isinstance(found, NotRead) else found
        if pixels is not None:
            self._metrics.observe(catalogue.STAGE_SECONDS, now - started, Stage.READ)
        position = entry.position
        with self._changed:
            entry.position += 1
            if entry.position == entry.end:
                line.entries.popleft()
            line.pause = FIRST_PAUSE
            if entry.refusal is None:
                self._seconds += now - started
                self._read += pixels is not None
                self._failed += pixels is None
                self._bytes += 0 if pixels is None else pixels.nbytes
            if line.entries:
                self._ready.append(source)
            else:
                del self._lines[source]
        self._hand_on(entry.deliver, position, found)
        with self._changed:
            if entry.position == entry.end:
                del self._entries[entry.number]
            if entry.refusal is None:
                self._pending -= 1
                self._metrics.change(catalogue.UNREAD_FRAMES, -1)
            self._changed.notify_all()

    def _hand_on(self, deliver: Deliver, position: int, found: NDArray[Any] | NotRead) -> None:
        try:
            deliver(position, found)
        except Exception:
            logger.exception("a frame was read, but could not be handed on")

    def _try_again(self, source: str, line: _Line, now: float, spent: float) -> None:
        with self._changed:
            self._retries += 1
            self._seconds += spent
            heapq.heappush(self._late, (now + line.pause, next(self._numbers), source))
            line.pause = min(2.0 * line.pause, LONGEST_PAUSE)
