"""One frame of a chunk of many, compressed by bitshuffle and LZ4 as detectors do, without the rest of the chunk.

HDF5 decompresses a chunk as a whole: 2.7 GB for 300 frames of 9 MB. Bitshuffle compresses it in blocks of 8 kB, each
by itself, so that those which hold a frame can be made a chunk of their own. The format, as bitshuffle's README has
it: eight bytes say how many bytes there are in all, four how many a block has; then each block follows, behind four
bytes that say how many it takes; blocks are of eight elements or multiples of that, and what is left of the last one
lies at the end, as it is. Numbers are big-endian.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import NotThereYetError

BITSHUFFLE = 32008
"""Number of the filter, as The HDF Group has registered it."""
_LZ4 = 2
_HEAD = 12
_TOGETHER = 8
"""Elements that bitshuffle takes at least."""
MOST_BLOCKS = 1 << 24
_WINDOW = 1 << 22
"""Bytes of a file that are looked at together for where blocks begin."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkBlocks:
    """Where the blocks of a chunk lie in its file."""

    place: tuple[int, int]
    """First byte of the chunk in the file, and how many it has."""
    n_bytes: int
    """Decompressed."""
    block_bytes: int
    offsets: NDArray[np.int64]
    """Of each block from the first byte of the chunk, and, last, where they end."""

    def part(self, file: int, start: int, stop: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return what is at bytes `start` to `stop` of the decompressed chunk, both multiples of an element's.

        `file` is the descriptor of the file; NotThereYetError when it has become shorter.
        """
        first, end = start // self.block_bytes, -(-stop // self.block_bytes)
        whole_blocks = self.n_bytes // self.block_bytes
        if end <= whole_blocks:
            n_bytes, last = (end - first) * self.block_bytes, int(self.offsets[end])
        else:  # with what is left at the end
            n_bytes, last = self.n_bytes - first * self.block_bytes, self.place[1]
        begin = int(self.offsets[first])
        packed = os.pread(file, last - begin, self.place[0] + begin)
        if len(packed) < last - begin:
            raise NotThereYetError("it is not whole any more")
        chunk = struct.pack(">QI", n_bytes, self.block_bytes) + packed
        found = _decompressed(chunk, n_bytes // dtype.itemsize, dtype)
        skipped = start - first * self.block_bytes
        return found[skipped // dtype.itemsize : (skipped + stop - start) // dtype.itemsize]


def blocks_of(dataset: Any, chunk: tuple[int, ...], file: int) -> ChunkBlocks | None:
    """Return where the blocks of a chunk of an h5py.Dataset lie, in a file of that descriptor.

    None where it is not compressed so, or is damaged.
    """
    settings = dataset.id.get_create_plist()
    if settings.get_nfilters() != 1:
        return None
    code, _, options, _ = settings.get_filter(0)
    info = dataset.id.get_chunk_info_by_coord(chunk)
    if code != BITSHUFFLE or len(options) < 5 or options[4] != _LZ4 or info.filter_mask:
        return None
    begin, size = int(info.byte_offset), int(info.size)
    head = os.pread(file, _HEAD, begin)
    if size < _HEAD or len(head) < _HEAD:
        return None
    n_bytes, block_bytes = struct.unpack(">QI", head)
    item = dataset.dtype.itemsize
    if n_bytes != math.prod(dataset.chunks) * item or not block_bytes or block_bytes % (_TOGETHER * item):
        return None
    whole, rest = divmod(n_bytes, block_bytes)
    blocks = whole + (rest >= _TOGETHER * item)
    if blocks > MOST_BLOCKS:
        return None
    offsets, position = np.empty(blocks + 1, np.int64), _HEAD
    window, window_begins = b"", 0
    for number in range(blocks):
        offsets[number] = position
        if position + 4 > size:
            return None
        if position + 4 > window_begins + len(window):
            window, window_begins = os.pread(file, _WINDOW, begin + position), position
            if len(window) < 4:
                return None
        position += 4 + struct.unpack_from(">I", window, position - window_begins)[0]
    offsets[blocks] = position
    if position + rest % (_TOGETHER * item) != size:
        return None
    return ChunkBlocks((begin, size), n_bytes, block_bytes, offsets)


def _decompressed(chunk: bytes, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return what HDF5 makes of a chunk, in a file in memory."""
    import h5py

    with h5py.File("part", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "d", (count,), dtype, chunks=(count,), compression=BITSHUFFLE, compression_opts=(0, _LZ4)
        )
        dataset.id.write_direct_chunk((0,), chunk)
        found: NDArray[Any] = dataset[...]
    return found
