"""Memory for the pixels of waiting frames, used again: new memory costs ten times what a copy into it does."""

from __future__ import annotations

import mmap
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL = 1 << 18
"""Bytes below which NumPy's own memory is as fast: the allocator does not give it back to the system."""

MAX_IDLE_BYTES = 1 << 28


class FrameMemory:
    """Lends arrays whose memory is used again once nothing refers to them. Safe to share between threads.

    The pages of a new array of megabytes are mapped one by one as they are written to: 2.1 ms for 4 MB, where the
    copy takes 0.2 ms. So memory of frames that are done is kept for frames to come, and with `ahead` a daemon thread
    sees to it that there is some in time.

    Parameters
    ----------
    max_idle_bytes
        Most bytes kept for later.
    ahead
        Arrays of the size asked for last that are made ready beforehand; 0: none, and no thread.
    """

    def __init__(self, max_idle_bytes: int = MAX_IDLE_BYTES, *, ahead: int = 0) -> None:
        self._max_idle_bytes = max_idle_bytes
        self._ahead = ahead
        self._changed = threading.Condition()
        self._wanted = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        # Appending and popping need no lock; whatever drops the last reference could not wait for one.
        self._idle: dict[int, deque[mmap.mmap]] = {}

    @property
    def idle_bytes(self) -> int:
        """Bytes kept for later."""
        return sum(size * len(kept) for size, kept in list(self._idle.items()))

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values, in C order and the machine's byte order."""
        kind = np.dtype(dtype).newbyteorder("=")
        count = int(np.prod(shape))
        size = count * kind.itemsize
        if size < SMALL:
            return np.empty(shape, kind)
        try:
            memory = self._idle[size].pop()
        except LookupError:
            memory = _mapped(size)
        if len(self._idle.get(size, ())) < self._ahead:
            self._want(size)
        # Views of it, and tensors, refer to this array and not to the memory: NumPy does not look through a base
        # that is no array.
        flat = np.frombuffer(memory, kind, count)
        weakref.finalize(flat, self._take_back, memory, size).atexit = False
        return flat.reshape(shape)

    def copy(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return a read-only copy, in C order and the machine's byte order."""
        copy = self.empty(image.shape, image.dtype)
        np.copyto(copy, image)
        copy.flags.writeable = False
        return copy

    def close(self) -> None:
        """Make nothing ready any more and end the thread; what is lent stays valid."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _want(self, size: int) -> None:
        with self._changed:
            self._wanted = size
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._make_ready, name="dvfb-memory", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _make_ready(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted)
                if self._closed:
                    return
                size, self._wanted = self._wanted, 0
            while len(self._idle.get(size, ())) < self._ahead and not self._closed:
                memory = mmap.mmap(-1, size)
                # Maps its pages, and lets other threads go on meanwhile.
                np.frombuffer(memory, np.uint8).fill(0)
                self._take_back(memory, size)
                if self.idle_bytes + size > self._max_idle_bytes:
                    break

    def _take_back(self, memory: mmap.mmap, size: int) -> None:
        if self.idle_bytes + size > self._max_idle_bytes:
            # What is kept of other sizes is of a detector that is not read any more.
            self._idle = {size: self._idle.get(size, deque())}
        if self.idle_bytes + size <= self._max_idle_bytes:
            self._idle.setdefault(size, deque()).append(memory)


def _mapped(size: int) -> mmap.mmap:
    """Return new memory, its pages mapped all at once where the system can do that."""
    if hasattr(mmap, "MAP_POPULATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    return mmap.mmap(-1, size)
