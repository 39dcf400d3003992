"""Notes on what a process has in hand, which outlive it: so that whatever ends it can be told, and not touched again.

A note is a few bytes in memory that is mapped from a file: no call of the system, no turn of the disk. It survives
the process, however it ends; a power failure it need not survive, of which no message is guilty.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import mmap
import os
import re
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock, Timeout

from dvfb_stream.dead_letters.deaths import Cause, Deaths, Item, Suspicion, named, without
from dvfb_stream.dead_letters.memory import kills_for_memory, share_of_memory_left

logger = logging.getLogger(__name__)

_SLOTS = 64
"""Threads that have something in hand at a time: two for each partition, and one; of more, some go without a note."""
_SLOT_BYTES = 1 << 16
"""A batch of 256 frames; of a larger one the first are noted. What is not written to takes no room on the disk."""
_HEADER_BYTES = 4096
_SECONDS_BETWEEN_BEATS = 0.2
"""Looking at the memory takes a tenth of a millisecond; filling it takes longer than a beat."""
_STUCK = "stuck: "
_SHORT_OF_MEMORY = 0.05
"""Share of the memory that was left at the last look, below which a death counts as one for memory."""
_HEADER = struct.Struct("<dq")
"""Share of the memory that was left, and how many processes the system had ended for memory at the start."""
_SLOT = struct.Struct("<IQ")
"""Length of the note, and the thread as `faulthandler` names it."""
_FAULT_SUFFIX, _LOCK_SUFFIX, _SUFFIX = ".fault", ".lock", ".notes"


class InHand:
    """What this process has in hand, and what others had when they died. For any thread.

    Parameters
    ----------
    folder
        One for all processes of a group, on this machine or on all of them; made by `start`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "in-hand"
        self._deaths = Deaths(folder / "deaths")
        self._lock = threading.Lock()
        self._free = list(range(_SLOTS))
        self._notes: mmap.mmap | None = None
        self._path: Path | None = None
        self._file_lock: FileLock | None = None
        self._fault_file: IO[str] | None = None
        self._suspects: dict[Item, Suspicion] = {}
        self._wants_faults = False
        self._loop = 0
        self._next_beat = -inf

    def start(self) -> None:
        """Begin to take notes, and look at those of others; where there is no place for them, the log says so."""
        path = self._folder / f"{os.getpid()}-{uuid4().hex[:8]}{_SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file_lock = FileLock(path.with_suffix(_LOCK_SUFFIX), thread_local=False)
            self._file_lock.acquire(timeout=0)
            with path.open("xb+") as file:
                file.truncate(_HEADER_BYTES + _SLOTS * _SLOT_BYTES)
                self._notes = mmap.mmap(file.fileno(), 0)
            self._path = path
            self.look()
            self._notes[: _HEADER.size] = _HEADER.pack(1.0, kills_for_memory())
            if self._wants_faults:
                self._fault_file = path.with_suffix(_FAULT_SUFFIX).open("w")
                faulthandler.enable(self._fault_file, all_threads=True)
        except (OSError, Timeout) as error:
            logger.warning("%s keeps no notes on what is in hand: %s", self._folder, error)

    def record_faults(self) -> None:
        """From the next `start` on, have a crash leave a note of which thread crashed. One for the whole process."""
        self._wants_faults = True

    def end_as_stuck(self, reason: str) -> None:
        """Note that the process is ended because the thread that calls `beat` is stuck in something."""
        if self._path is not None:
            self._path.with_suffix(_FAULT_SUFFIX).write_text(
                f"{_STUCK}{reason}\nCurrent thread 0x{self._loop:x}\n"
            )

    def beat(self) -> None:
        """Take note, from the loop, of how much memory is left; some times a second is enough."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat, self._loop = now + _SECONDS_BETWEEN_BEATS, threading.get_ident()
        left = struct.pack("<d", share_of_memory_left())
        with self._lock:
            if self._notes is not None:
                self._notes[: len(left)] = left

    def close(self) -> None:
        """Let go of the notes: this process ends by itself."""
        with self._lock:
            notes, self._notes = self._notes, None
        if self._fault_file is not None:
            faulthandler.disable()
            self._fault_file.close()
        if notes is not None and self._path is not None:
            with suppress(BufferError):
                notes.close()
            _remove(self._path)
        if self._file_lock is not None:
            self._file_lock.release()

    # -- what is in hand -----------------------------------------------------------------------------------------

    @contextmanager
    def holding(self, items: Sequence[Item], *, blamed: bool = False) -> Iterator[None]:
        """Note that this thread has `items` in hand, for as long as it is inside.

        Parameters
        ----------
        items
            What it has.
        blamed
            Whether an exception is their fault: it counts as a death, for it ends the process.
        """
        slot = self._put(items)
        try:
            yield
        except Exception as error:
            if blamed:
                for item in items:
                    self._deaths.note(item, Cause.FAILURE, f"{type(error).__name__}: {error}")
            raise
        else:
            for item in items if self._suspects else ():
                if item in self._suspects:
                    self._clear(item, explained=False)
        finally:
            self._take_back(slot)

    def _put(self, items: Sequence[Item]) -> int | None:
        with self._lock:
            if self._notes is None or not self._free or not items:
                return None
            slot = self._free.pop()
            while len(note := json.dumps(items).encode()) > _SLOT_BYTES - _SLOT.size:
                items = items[: len(items) // 2]
            at = _HEADER_BYTES + slot * _SLOT_BYTES
            self._notes[at + _SLOT.size : at + _SLOT.size + len(note)] = note
            # Last: a note that is half written has no length.
            self._notes[at : at + _SLOT.size] = _SLOT.pack(len(note), threading.get_ident())
            return slot

    def _take_back(self, slot: int | None) -> None:
        if slot is None:
            return
        with self._lock:
            if self._notes is not None:
                at = _HEADER_BYTES + slot * _SLOT_BYTES
                self._notes[at : at + _SLOT.size] = _SLOT.pack(0, 0)
            self._free.append(slot)

    # -- what was in others' hands when they died ----------------------------------------------------------------

    def look(self) -> None:
        """Count the deaths of processes that have ended since the last look, and read those that are known."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            lock = FileLock(path.with_suffix(_LOCK_SUFFIX), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):
                continue  # it lives
            try:
                if path.exists():
                    self._count(path)
                    _remove(path)
            except (OSError, ValueError, struct.error) as error:
                logger.warning("the notes %s cannot be read: %s", path, error)
                _remove(path)
            finally:
                lock.release()
        with self._lock:
            self._suspects = self._deaths.read()

    def suspicion(self, item: Item) -> Suspicion | None:
        """Return how often something was in hand at a death; None: never."""
        return self._suspects.get(item) if self._suspects else None

    @property
    def suspects(self) -> list[Item]:
        """What was in hand at deaths that still count."""
        return list(self._suspects)

    def clear(self, item: Item) -> None:
        """Say that something is done with for good: no death counts against it any more."""
        self._clear(item, explained=True)

    def _clear(self, item: Item, *, explained: bool) -> None:
        self._deaths.clear(item, explained=explained)
        with self._lock:
            self._suspects = without(self._suspects, item, explained=explained)

    def _count(self, path: Path) -> None:
        cause, thread, detail = _cause(path)
        content = path.read_bytes()
        held: list[tuple[int, list[Item]]] = []
        for slot in range(_SLOTS):
            at = _HEADER_BYTES + slot * _SLOT_BYTES
            length, holder = _SLOT.unpack_from(content, at)
            if 0 < length <= _SLOT_BYTES - _SLOT.size:
                note = json.loads(content[at + _SLOT.size : at + _SLOT.size + length])
                held.append((holder, [tuple(item) for item in note]))
        guilty = [items for holder, items in held if holder == thread]
        if not guilty and cause is Cause.STUCK:
            return  # whatever the loop is stuck in, it is no message
        if not guilty and cause is Cause.CRASH:
            # A thread that is none of Python's is one of the annotator's: torch has them.
            guilty = [items for _, items in held if items[0][0] == "frame"]
        for items in guilty or [items for _, items in held]:
            for item in items:
                logger.error("a daemon died with %s in hand: %s", named(item), detail or cause)
                self._deaths.note(item, cause, detail)


def _cause(path: Path) -> tuple[Cause, int, str]:
    """Return how the process of some notes ended, in which thread (0: not known), and what it said."""
    try:
        fault = path.with_suffix(_FAULT_SUFFIX).read_text(errors="replace")
    except OSError:
        fault = ""
    if fault:
        thread = re.search(r"Current thread 0x([0-9a-f]+)", fault)
        cause = Cause.STUCK if fault.startswith(_STUCK) else Cause.CRASH
        return cause, int(thread.group(1), 16) if thread else 0, fault.partition("\n")[0].removeprefix(_STUCK)
    with path.open("rb") as file:
        left, kills = _HEADER.unpack(file.read(_HEADER.size))
    if left < _SHORT_OF_MEMORY or kills_for_memory() > kills:
        return Cause.MEMORY, 0, f"{100 * left:.0f} % of the memory was left"
    return Cause.UNEXPLAINED, 0, ""


def _remove(path: Path) -> None:
    for suffix in (_SUFFIX, _FAULT_SUFFIX, _LOCK_SUFFIX):
        path.with_suffix(suffix).unlink(missing_ok=True)
