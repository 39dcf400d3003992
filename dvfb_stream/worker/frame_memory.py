"""Memory for the pixels of waiting frames: used again, since new memory is dear, and seen by other processes."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL = 1 << 18
"""Bytes below which NumPy's own memory is as fast: the allocator does not give it back to the system."""

MAX_IDLE_BYTES = 1 << 28

_BLOCKS_MAPPED = 1024
"""Of another process's memory, a few megabytes of address space each; more than frames are under way."""

_NUMBERS = "buif"
"""NumPy's kinds that mean the same in another process: boolean, unsigned, signed, floating."""

Place = Mapping[str, Any]
"""Where an array lies in a `FrameMemory`, and what it is; JSON-ready."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    memory: mmap.mmap
    offset: int
    """In the file that other processes map."""
    size: int


class FrameMemory:
    """Lends arrays whose memory is used again once nothing refers to them. Safe to share between threads.

    The pages of a new array of megabytes are mapped one by one as they are written to: 2.1 ms for 4 MB, where the
    copy takes 0.2 ms. So memory of frames that are done is kept for frames to come, and with `ahead` a daemon thread
    sees to it that there is some in time. All of it lies in one file that has no name, which a process that is given
    its descriptor maps as well: see `place_of` and `MappedFrames`.

    Parameters
    ----------
    max_idle_bytes
        Most bytes kept for later.
    ahead
        Arrays of the size asked for last that are made ready beforehand; 0: none, and no thread.

    Attributes
    ----------
    file
        Descriptor of the file.
    """

    def __init__(self, max_idle_bytes: int = MAX_IDLE_BYTES, *, ahead: int = 0) -> None:
        self.file = _file_in_memory()
        weakref.finalize(self, os.close, self.file)
        self._max_idle_bytes = max_idle_bytes
        self._ahead = ahead
        self._changed = threading.Condition()
        self._end = 0  # of the file
        self._wanted = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        # Appending, popping and setting need no lock; whatever drops the last reference could not wait for one.
        self._idle: dict[int, deque[_Block]] = {}  # by size
        self._lent: dict[int, _Block] = {}  # by address

    @property
    def idle_bytes(self) -> int:
        """Bytes kept for later."""
        return sum(size * len(kept) for size, kept in list(self._idle.items()))

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values, in C order and the machine's byte order; a small one is NumPy's own."""
        kind = np.dtype(dtype).newbyteorder("=")
        if int(np.prod(shape)) * kind.itemsize < SMALL:
            return np.empty(shape, kind)
        return self.shared(shape, kind)

    def copy(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return a read-only copy, in C order and the machine's byte order."""
        copy = self.empty(image.shape, image.dtype)
        np.copyto(copy, image)
        copy.flags.writeable = False
        return copy

    def shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values that has a place, in C order, however small."""
        kind = np.dtype(dtype)
        count = int(np.prod(shape))
        # Whole pages, of which mappings are made.
        size = max(1, -(-count * kind.itemsize // mmap.PAGESIZE)) * mmap.PAGESIZE
        try:
            block = self._idle[size].pop()
        except LookupError:
            block = self._new_block(size)
        if size >= SMALL and len(self._idle.get(size, ())) < self._ahead:
            self._want(size)
        # Views of it, and tensors, refer to this array and not to the memory: NumPy does not look through a base
        # that is no array.
        flat = np.frombuffer(block.memory, kind, count)
        address = _address(flat)
        self._lent[address] = block
        weakref.finalize(flat, self._take_back, block, address).atexit = False
        return flat.reshape(shape)

    def with_place(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array equal to `array` that has a place: itself, if it has one.

        Raises
        ------
        TypeError
            When it holds something other than numbers.
        """
        if array.dtype.kind not in _NUMBERS:
            raise TypeError(f"{array.dtype} means nothing to another process")
        if array.flags.c_contiguous and _address(array) in self._lent:
            return array
        copy = self.shared(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy

    def place_of(self, array: NDArray[Any]) -> dict[str, Any]:
        """Return the place of an array that `shared` or `with_place` has returned; valid as long as it is held."""
        block = self._lent[_address(array)]
        return {"offset": block.offset, "shape": list(array.shape), "dtype": array.dtype.str}

    def close(self) -> None:
        """Make nothing ready any more and end the thread; what is lent stays valid."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            # Not for long: the handler of a signal may have interrupted who holds what the thread waits for.
            self._thread.join(1.0)

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
                self._keep(self._new_block(size))
                if self.idle_bytes + size > self._max_idle_bytes:
                    break

    def _new_block(self, size: int) -> _Block:
        with self._changed:
            offset, self._end = self._end, self._end + size
            os.ftruncate(self.file, self._end)
        # Its pages are mapped all at once where the system can do that.
        memory = mmap.mmap(
            self.file, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), offset=offset
        )
        return _Block(memory, offset, size)

    def _take_back(self, block: _Block, address: int) -> None:
        self._lent.pop(address, None)
        self._keep(block)

    def _keep(self, block: _Block) -> None:
        size = block.size
        if self.idle_bytes + size > self._max_idle_bytes:
            # What is kept of other sizes is of a detector that is not read any more.
            let_go, self._idle = self._idle, {size: self._idle.get(size, deque())}
            for kept in (kept for other, kept in let_go.items() if other != size):
                while kept:
                    _give_back(kept.pop())
        if self.idle_bytes + size <= self._max_idle_bytes:
            self._idle.setdefault(size, deque()).append(block)
        else:
            _give_back(block)


class MappedFrames:
    """Finds arrays that lie in the `FrameMemory` of another process.

    Parameters
    ----------
    file
        Descriptor of its file.
    access
        ``mmap.ACCESS_READ``, or ``ACCESS_WRITE`` for arrays that are to be filled here.
    """

    def __init__(self, file: int, access: int = mmap.ACCESS_READ) -> None:
        self._file = file
        self._access = access
        self._mapped: OrderedDict[tuple[int, int], mmap.mmap] = OrderedDict()  # by offset and size

    def array(self, place: Place) -> NDArray[Any]:
        """Return the array at a place, where it lies; it is what it is as long as the other process holds it."""
        kind, shape = np.dtype(place["dtype"]), tuple(place["shape"])
        key = (int(place["offset"]), max(1, int(np.prod(shape)) * kind.itemsize))
        memory = self._mapped.get(key)
        if memory is None:
            memory = self._mapped[key] = mmap.mmap(self._file, key[1], access=self._access, offset=key[0])
            if len(self._mapped) > _BLOCKS_MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(key)
        return np.ndarray(shape, kind, memory)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _file_in_memory() -> int:
    """Return the descriptor of a file without a name, in memory where the system has such files; still empty."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dvfb-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _give_back(block: _Block) -> None:
    """Give memory back to the system; what the file is short of is never written to again."""
    with suppress(OSError, AttributeError):
        block.memory.madvise(mmap.MADV_REMOVE)
