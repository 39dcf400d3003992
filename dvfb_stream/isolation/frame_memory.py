"""Memory for the pixels of waiting frames: used again, since new memory is dear, and seen by other processes."""

from __future__ import annotations

import bisect
import math
import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.frames import NUMBER_KINDS

SMALL = 1 << 18
"""Bytes below which NumPy's own memory is as fast: the allocator does not give it back to the system."""

MAX_IDLE_BYTES = 1 << 28

_EXTENT = 1 << 26
"""Bytes mapped at once, at least: a mapping costs a descriptor in each process, of which there may be only 256."""

_EXTENTS_MAPPED = 16
"""Of another process's memory. Each is as large as all before it together, so that these are terabytes."""

_POPULATE = 23
"""``MADV_POPULATE_WRITE`` of Linux, which Python does not name: maps pages all at once."""

_SECONDS_LEFT_ALONE = 0.005
"""Whoever asked for memory last is, before more is made ready; some is ready meanwhile."""

Place = Mapping[str, Any]
"""Where an array lies in a `FrameMemory`, and what it is; JSON-ready."""


@dataclass(frozen=True, slots=True, eq=False)
class _Extent:
    """A part of the file that is mapped as a whole, and what of it is free."""

    offset: int
    """In the file."""
    memory: mmap.mmap
    free: list[tuple[int, int]] = field(default_factory=list)
    """First byte and size of ranges, in order; no two touch."""

    def take(self, size: int) -> int | None:
        """Return where a range begins that was free until now; None: there is none that large."""
        for n, (start, length) in enumerate(self.free):
            if length >= size:
                self.free[n : n + 1] = [(start + size, length - size)] if length > size else []
                return start
        return None

    def give_back(self, start: int, size: int) -> None:
        """Make a range free, and give its memory back to the system."""
        with suppress(OSError, AttributeError):
            self.memory.madvise(mmap.MADV_REMOVE, start, size)
        first = after = bisect.bisect(self.free, (start, size))
        end = start + size
        if first and sum(self.free[first - 1]) == start:
            first -= 1
            start = self.free[first][0]
        if after < len(self.free) and self.free[after][0] == end:
            end = sum(self.free[after])
            after += 1
        self.free[first:after] = [(start, end - start)]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A range that is lent, or kept to be lent again."""

    extent: _Extent
    start: int
    size: int

    def array(self, kind: np.dtype[Any], count: int) -> NDArray[Any]:
        return np.ndarray((count,), kind, self.extent.memory, self.start)

    def map_pages(self) -> None:
        """Map all pages at once, where the system can do that; else they are mapped as they are written to."""
        with suppress(OSError, ValueError, AttributeError):
            self.extent.memory.madvise(_POPULATE, self.start, self.size)

    def give_back(self) -> None:
        self.extent.give_back(self.start, self.size)


class FrameMemory:
    """Lends arrays whose memory is used again once nothing refers to them. Safe to share between threads.

    The pages of a new array of megabytes are mapped one by one as they are written to: 2.1 ms for 4 MB, where the
    copy takes 0.2 ms. So memory of frames that are done is kept for frames to come, and with `ahead` a daemon thread
    sees to it that there is some in time. All of it lies in one file that has no name, which a process that is given
    its descriptor maps as well: see `place_of` and `MappedFrames`.

    A forked process shares the memory with the one that has made it, and must leave it alone: there, `empty` and
    `copy` return NumPy's own, and what has a place cannot be had.

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
        self._process = os.getpid()
        self._max_idle_bytes = max_idle_bytes
        self._ahead = ahead
        # Of the thread; guards the next three.
        self._changed = threading.Condition()
        self._wanted = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        # The last reference may be dropped anywhere, also by the thread that has the lock: no wait for it then. What
        # comes back lies here until somebody has it. Appending and popping need none.
        self._returned: deque[_Block] = deque()
        self._lent: dict[int, _Block] = {}  # by address
        # Guards the rest.
        self._lock = threading.Lock()
        self._end = 0  # of the file
        self._extents: list[_Extent] = []
        self._idle: dict[int, list[_Block]] = {}  # by size
        self._idle_bytes = 0

    @property
    def idle_bytes(self) -> int:
        """Bytes kept for later."""
        if self._is_in_another_process:
            return 0
        with self._sorted():
            return self._idle_bytes

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values, in C order and the machine's byte order.

        NumPy's own, where it is small or holds something other than numbers.
        """
        kind = np.dtype(dtype).newbyteorder("=")
        if (
            math.prod(shape) * kind.itemsize < SMALL
            or kind.kind not in NUMBER_KINDS
            or self._is_in_another_process
        ):
            return np.empty(shape, kind)
        return self.shared(shape, kind)

    def copy(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return a read-only copy, in C order and the machine's byte order."""
        copy = self.empty(image.shape, image.dtype)
        np.copyto(copy, image)
        copy.flags.writeable = False
        return copy

    def take_over(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return `image` as a read-only array that nobody else can write to, where need be a copy.

        An array inside an Event may be the detector's own buffer, which the next exposure overwrites while this one
        waits in the queue; so it is copied. Only what lies in immutable bytes, as decoded messages do, is taken as it
        is.
        """
        return image if _lies_in_bytes(image) else self.copy(image)

    def shared(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values that has a place, in C order, however small.

        Raises
        ------
        TypeError
            When it would hold something other than numbers.
        ValueError
            When a dimension is negative.
        RuntimeError
            In a process forked from the one that has made the memory.
        """
        kind = _number(dtype)
        if any(length < 0 for length in shape):
            raise ValueError(f"no dimension may be negative: {shape}")
        if self._is_in_another_process:
            raise RuntimeError(
                f"this memory is of process {self._process}, from which this one, {os.getpid()}, was forked: "
                "make another FrameMemory here"
            )
        count = math.prod(shape)
        # Whole pages, which can be given back.
        size = max(1, -(-count * kind.itemsize // mmap.PAGESIZE)) * mmap.PAGESIZE
        with self._sorted():
            kept = self._idle.get(size)
            is_new = not kept
            if kept:
                block = kept.pop()
                self._idle_bytes -= size
            else:
                block = self._new_block(size)
            is_short = len(kept or ()) < self._ahead
        # Views of it, and tensors, refer to this array and not to the memory: NumPy does not look through a base
        # that is no array.
        flat = block.array(kind, count)
        address = _address(flat)
        self._lent[address] = block
        weakref.finalize(flat, self._take_back, block, address).atexit = False
        if is_new:
            block.map_pages()
        if size >= SMALL and is_short:
            self._want(size)
        return flat.reshape(shape)

    def with_place(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array equal to `array` that has a place: itself, if it has one and is not empty.

        Raises
        ------
        TypeError
            When it holds something other than numbers.
        RuntimeError
            In a process forked from the one that has made the memory.
        """
        _number(array.dtype)
        # An empty one at the end of a block has the address of the next.
        if (
            array.flags.c_contiguous
            and array.size
            and _address(array) in self._lent
            and not self._is_in_another_process
        ):
            return array
        copy = self.shared(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy

    def place_of(self, array: NDArray[Any]) -> dict[str, Any]:
        """Return the place of an array that `shared` or `with_place` has returned; valid as long as it is held."""
        block = self._lent[_address(array)]
        return {
            "extent": [block.extent.offset, len(block.extent.memory)],
            "offset": block.start,
            "shape": list(array.shape),
            "dtype": array.dtype.str,
        }

    def close(self) -> None:
        """Make nothing ready any more and end the thread; what is lent stays valid."""
        if self._is_in_another_process:
            return  # the thread is not here, and may have had the lock
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            # Not for long: the handler of a signal may have interrupted who holds what the thread waits for.
            self._thread.join(1.0)

    @property
    def _is_in_another_process(self) -> bool:
        return os.getpid() != self._process

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
                # Who has asked is about to copy into what he got: the system maps pages for one at a time.
                self._changed.wait_for(lambda: self._closed, _SECONDS_LEFT_ALONE)
            while not self._closed and (block := self._block_ahead(size)) is not None:
                # Maps its pages, and lets other threads go on meanwhile.
                block.array(np.dtype(np.uint8), size).fill(0)
                self._returned.append(block)
                self._sort_if_free()

    def _block_ahead(self, size: int) -> _Block | None:
        """Return a new block; None when enough are ready, or another would be more than is kept."""
        with self._sorted():
            ready = len(self._idle.get(size, ()))
            if ready >= self._ahead or (ready + 1) * size > self._max_idle_bytes:
                return None
            return self._new_block(size)

    def _take_back(self, block: _Block, address: int) -> None:
        if self._is_in_another_process:
            return
        self._lent.pop(address, None)
        self._returned.append(block)
        self._sort_if_free()

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        """Have the lock, with all sorted that has come back."""
        with self._lock:
            self._sort_returned()
            yield
        self._sort_if_free()

    def _sort_if_free(self) -> None:
        """Sort what has come back, unless somebody has the lock: who has it calls this afterwards."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._sort_returned()
            finally:
                self._lock.release()

    # -- by whoever holds the lock -------------------------------------------------------------------------

    def _sort_returned(self) -> None:
        """Keep what has come back, and give back what is too much."""
        while self._returned:
            block = self._returned.popleft()
            if self._idle_bytes + block.size > self._max_idle_bytes:
                # What is kept of other sizes is of a detector that is not read any more.
                for size in [size for size in self._idle if size != block.size]:
                    for other in self._idle.pop(size):
                        self._idle_bytes -= size
                        other.give_back()
            if self._idle_bytes + block.size > self._max_idle_bytes:
                block.give_back()
            else:
                self._idle.setdefault(block.size, []).append(block)
                self._idle_bytes += block.size

    def _new_block(self, size: int) -> _Block:
        for extent in self._extents:
            start = extent.take(size)
            if start is not None:
                return _Block(extent, start, size)
        length = max(size, self._end, _EXTENT)
        os.ftruncate(self.file, self._end + length)
        extent = _Extent(self._end, mmap.mmap(self.file, length, offset=self._end), [(0, length)])
        self._extents.append(extent)
        self._end += length
        extent.take(size)
        return _Block(extent, 0, size)


class MappedFrames:
    """Finds arrays that lie in the `FrameMemory` of another process; for any thread.

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
        self._mapped = BoundedCache[tuple[int, int], mmap.mmap](_EXTENTS_MAPPED)  # by offset and size

    def array(self, place: Place) -> NDArray[Any]:
        """Return the array at a place, where it lies; it is what it is as long as the other process holds it."""
        offset, size = place["extent"]
        memory = self._mapped.get_or_make(
            (offset, size), lambda: mmap.mmap(self._file, size, access=self._access, offset=offset)
        )
        return np.ndarray(tuple(place["shape"]), np.dtype(place["dtype"]), memory, place["offset"])


def _lies_in_bytes(image: NDArray[Any]) -> bool:
    if not (image.dtype.isnative and image.flags.c_contiguous):
        return False
    owner: object = image
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, bytes)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _number(dtype: DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in NUMBER_KINDS:
        raise TypeError(f"{kind} means nothing to another process")
    return kind


def _file_in_memory() -> int:
    """Return the descriptor of a file without a name, in memory where the system has such files; still empty."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dvfb-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
