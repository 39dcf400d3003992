"""One thread that reads pixels, so that neither a scan nor a network waits for a disk."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.annotations import Status
from dvfb_stream.callbacks.frame_sequence import FileFrames
from dvfb_stream.errors import FrameError, NotThereYetError, SettingsError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import FrameReader, Remark
from dvfb_stream.log_facts import log_facts
from dvfb_stream.metrics import Metrics, Stage, catalogue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotRead:
    """Why there are no pixels of a frame."""

    status: Status
    """`FAILED`, or `DROPPED` where too many frames waited."""
    reason: str


Deliver = Callable[[int, NDArray[Any] | NotRead, str], None]
"""Called with a frame's position among those submitted with it, its pixels, or why there are none, and a remark."""

TOO_MANY = NotRead(Status.DROPPED, "too many frames wait to be read from files")
CLOSED = NotRead(Status.FAILED, "the reader was closed before the frame was read")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a file that is late is looked at again; doubled each time."""


@dataclass(slots=True, kw_only=True)
class ReaderStats:
    """What became of the frames so far."""

    read: int = 0
    """Frames read."""
    failed: int = 0
    """Frames that could not be read, or not in time, or not before the reader was closed."""
    refused: int = 0
    """Frames for which there was no room."""
    waiting: int = 0
    """Frames taken and not delivered yet."""
    retries: int = 0
    """Attempts that found a frame not to be there yet."""
    bytes: int = 0
    """Bytes of the pixels read."""
    seconds: float = 0.0
    """Spent reading."""
    open_files: int = 0
    """Files open now."""


@dataclass(slots=True, eq=False)
class _Entry:
    """Frames submitted together, as far as they are not delivered."""

    number: int
    references: FileFrames
    deliver: Deliver
    run: str
    submitted: float
    """By the clock, seconds."""
    next: int
    """Position of the frame that is read next."""
    end: int
    """One past the last position."""
    refusal: NotRead | None
    """Why they are not read, but only said to be so."""


@dataclass(slots=True, eq=False)
class _Source:
    """What is read from one source, in order."""

    name: str
    entries: deque[_Entry] = field(default_factory=deque)
    pause: float = FIRST_PAUSE


class PixelReader:
    """Reads the pixels of frames on one daemon thread of its own.

    Frames that a document announces together are submitted together: what that costs does not depend on how many
    they are. Those of one source are read in the order of submission. One that is not there yet is tried again with
    growing pauses, while other sources go on, until `patience` seconds after it was submitted; then it fails, and so
    does, each at its own time, what waits behind it. Sources take turns, frame by frame.

    `deliver` is called **exactly once** for each frame, without a lock, from the reader's thread; from the thread
    that submits only where the reader is closed, or so far behind that it cannot even keep the refusals. It may
    block: a slow worker slows reading, and memory holds one frame here. It must not call `drain` or `close`. What it
    raises is logged, and the reader goes on.

    `drain` waits until all that was submitted is delivered. `close` takes nothing more, reads what is there, and
    fails what `timeout` did not suffice for.

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
    clock
        Gives seconds, monotonic.

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
        clock: Callable[[], float] = time.monotonic,
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
        self._clock = clock
        self._changed = threading.Condition()  # guards what follows
        self._numbers = itertools.count()
        self._entries: dict[int, _Entry] = {}
        """Not delivered, by number."""
        self._sources: dict[str, _Source] = {}
        self._tasks: list[tuple[float, int, Callable[[], None]]] = []
        """Heap of what the thread does next: when, and the next frame of each source, or closing files."""
        self._closed = self._gives_up = False
        self._stats = ReaderStats()
        self._thread = threading.Thread(target=self._work, name="dvfb-reader", daemon=True)
        self._thread.start()

    def submit(self, references: FileFrames, deliver: Deliver, *, run: str = "", wait: bool = False) -> None:
        """Take frames of a raw run; with `wait`, block until there is room for all of them.

        Those for which there is no room, the last ones, are delivered as `TOO_MANY`, or as `CLOSED`.
        """
        first, count = 0, len(references)
        with self._changed:
            while first < count and not self._closed:
                if wait:
                    self._changed.wait_for(lambda: self._closed or self._stats.waiting < self._max_pending)
                room = 0 if self._closed else self._max_pending - self._stats.waiting
                end = min(count, first + room)
                if end > first:
                    self._add(references, deliver, run, first, end)
                    first = end
                if not wait:
                    break
            if first == count:
                return
            refusal = CLOSED if self._closed else TOO_MANY
            self._stats.refused += count - first
            if not self._closed and len(self._entries) < 2 * self._max_pending:
                self._add(references, deliver, run, first, count, refusal)
                return
        for position in range(first, count):
            _hand_on(deliver, position, refusal)

    def release(self, run: str) -> None:
        """Close what is open for a run all of whose frames are delivered."""
        with self._changed:
            if not self._closed:
                self._plan(self._clock(), partial(self._release, run))

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all frames submitted before this call are delivered; return whether that came in time."""
        with self._changed:
            last = next(self._numbers)
            return self._changed.wait_for(lambda: next(iter(self._entries), last) >= last, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, deliver what waits, end the thread and close the files.

        What is not read within `timeout` seconds fails, and its reason says so. With None, waits.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self.drain(timeout):
            with self._changed:
                self._gives_up = True
                waiting = self._stats.waiting
                self._changed.notify_all()
            logger.warning("closing the reader after %s s: %d frames are not read", timeout, waiting)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._files.close()

    def stats(self) -> ReaderStats:
        """Return what became of the frames so far, all numbers of one moment but that of open files."""
        open_files = self._files.open_files
        with self._changed:
            return replace(self._stats, open_files=open_files)

    # -- by whoever holds the lock -------------------------------------------------------------------------

    def _add(
        self,
        references: FileFrames,
        deliver: Deliver,
        run: str,
        first: int,
        end: int,
        refusal: NotRead | None = None,
    ) -> None:
        now = self._clock()
        entry = _Entry(next(self._numbers), references, deliver, run, now, first, end, refusal)
        self._entries[entry.number] = entry
        if refusal is None:
            self._count_waiting(end - first)
        name = "" if refusal else references.source  # refusals do not wait for a file that is late
        source = self._sources.setdefault(name, _Source(name))
        source.entries.append(entry)
        if len(source.entries) == 1:
            self._plan(now + self._head_start, partial(self._read_next, source))

    def _plan(self, when: float, task: Callable[[], None]) -> None:
        heapq.heappush(self._tasks, (when, next(self._numbers), task))
        self._changed.notify_all()

    def _count_waiting(self, change: int) -> None:
        self._stats.waiting += change
        self._metrics.add(catalogue.UNREAD_FRAMES, change)

    # -- the thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            task()

    def _next_task(self) -> Callable[[], None] | None:
        """Wait for what is to be done; None once the reader is closed and nothing waits."""
        with self._changed:
            while self._tasks or not self._closed:
                left = self._tasks[0][0] - self._clock() if self._tasks else None
                if left is not None and (left <= 0 or self._gives_up):
                    return heapq.heappop(self._tasks)[2]
                self._changed.wait(left)
        return None

    def _release(self, run: str) -> None:
        try:
            self._files.release(run)
        except Exception:
            logger.exception("the files of run %s were not closed", run)

    def _read_next(self, source: _Source) -> None:
        """Read the frame that is next, or plan to look for it later."""
        with self._changed:
            entry, gives_up = source.entries[0], self._gives_up
        begun = self._clock()
        remarks: list[str] = []
        found = entry.refusal or (CLOSED if gives_up else self._read(entry, source.name, remarks.append))
        now = self._clock()
        with self._changed:
            if entry.refusal is None:
                self._stats.seconds += now - begun
            if found is None:
                self._stats.retries += 1
                self._plan(now + source.pause, partial(self._read_next, source))
                source.pause = min(2.0 * source.pause, LONGEST_PAUSE)
                return
            if entry.refusal is None and isinstance(found, NotRead):
                self._stats.failed += 1
            elif not isinstance(found, NotRead):
                self._stats.read += 1
                self._stats.bytes += found.nbytes
                self._metrics.observe(catalogue.STAGE_SECONDS, now - begun, Stage.READ)
            position, source.pause = entry.next, FIRST_PAUSE
            entry.next += 1
            if entry.next == entry.end:
                source.entries.popleft()
            if source.entries:
                begins = source.entries[0].submitted + self._head_start
                self._plan(max(now, begins), partial(self._read_next, source))
            else:
                del self._sources[source.name]
        _hand_on(entry.deliver, position, found, " ".join(remarks))
        with self._changed:
            if entry.next == entry.end:
                del self._entries[entry.number]
            if entry.refusal is None:
                self._count_waiting(-1)
            self._changed.notify_all()

    def _read(self, entry: _Entry, source: str, remark: Remark) -> NDArray[Any] | NotRead | None:
        """Return the pixels of the frame that is next, or why there are none; None: it may be there later."""
        try:
            with log_facts(run=entry.run, file=source):
                return self._files.read(entry.references[entry.next], entry.run, remark)
        except NotThereYetError as error:
            if self._clock() - entry.submitted < self._patience:
                return None
            return NotRead(Status.FAILED, f"{error}; it did not come within {self._patience:g} s")
        except FrameError as error:
            return NotRead(Status.FAILED, str(error))
        except Exception as error:  # whatever it was, it costs this frame, not the thread
            logger.exception("reading %s failed", source, extra={"run": entry.run, "file": source})
            return NotRead(Status.FAILED, f"{source} cannot be read: {type(error).__name__}: {error}")


def _hand_on(deliver: Deliver, position: int, found: NDArray[Any] | NotRead, remark: str = "") -> None:
    try:
        deliver(position, found, remark)
    except Exception:
        logger.exception("a frame was read, but could not be handed on")
