"""HDF5 files open for reading, and what of their datasets is really written.

HDF5 reads the fill value, mostly zero, of what is not written yet and of what lies past a file's end.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.bitshuffle_parts import ChunkBlocks, blocks_of
from dvfb_stream.files.checks import regular_file
from dvfb_stream.files.file_facts import FileFacts
from dvfb_stream.files.hdf5_stacks import Stack
from dvfb_stream.files.open_files_cache import MOST_KEPT_BYTES, KeptOpen
from dvfb_stream.files.virtual import Box, Mapping, lengths, within

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FIRST_USER_BLOCK = 512
"""Bytes: what precedes HDF5 in a file, the user block, is as long, or twice, four times, ... as long."""

MATLAB = b"MATLAB 7.3"
"""How the user block of MATLAB's files begins. MATLAB writes columns first."""

SUPERBLOCK_BYTES = 36
"""Of the superblock, version 3, up to the end of the file as it has it; HDF5 file format, II.A."""
WRITTEN_SWMR = 0x04
"""The superblock's flag of a file that is open for writing while others read."""

_NOTHING = bytearray()


@dataclass(slots=True, eq=False)
class OpenHdf5:
    """An HDF5 file open for reading, and what was found out of it that does not change."""

    path: str
    handle: Any
    """h5py.File."""
    identity: tuple[int, int]
    """Device and inode: a file that replaces another under its name has others."""
    size: int
    """Bytes of the file when it was looked at last."""
    changed: int
    """When it was written last, as far as it was known when it was opened; nanoseconds."""
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By name: path and name of the dataset that it leads to, in this file or, by external links, in another."""
    begun: set[str] = field(default_factory=set)
    """Names of datasets of which a chunk has been written."""
    mappings: dict[str, tuple[Mapping, ...]] = field(default_factory=dict)
    """By name of a virtual dataset."""
    stacks: dict[str, Stack] = field(default_factory=dict)
    """By what a frame's dataset is called: which frames that stands for."""
    checked: set[str] = field(default_factory=set)
    """Names of datasets that hold frames, no pictures and no tables."""
    facts: dict[tuple[str, tuple[int, ...]], FileFacts] = field(default_factory=dict)
    """By a dataset's name and the shape of its frames: what the file says of them besides."""
    blocks: dict[str, tuple[tuple[int, ...], ChunkBlocks | None]] = field(default_factory=dict)
    """By a dataset's name: in which of its chunks compressed blocks were looked for last, and where they lie."""
    is_column_major: bool = False
    """Whether arrays have their axes in reverse, as MATLAB writes them."""
    allowed: AllowedRoots = EVERYWHERE
    """Which files it may lead to."""

    def close(self) -> None:
        """Close the file."""
        self.handle.close()

    @property
    def is_shared(self) -> bool:
        """Whether this process writes the file, which is then read through the writer's memory."""
        return bool(self.handle.mode != "r")

    @property
    def is_growing(self) -> bool:
        """Whether it is written, by whomever, while it is read."""
        return self.is_shared or bool(self.handle.swmr_mode)

    def is_outdated(self, status: os.stat_result) -> bool:
        """Whether the file, of which the system says that now, shows more or other than the open one."""
        if self.identity != (status.st_dev, status.st_ino) or status.st_size < self.size:
            return True
        return not self.is_growing and (status.st_size, status.st_mtime_ns) != (self.size, self.changed)


def open_hdf5(path: str, status: os.stat_result, allowed: AllowedRoots) -> OpenHdf5:
    """Open a file, of which the system says that, without a lock, which would keep writers from opening it.

    Plainly wherever HDF5 lets us: opened as being written, a file that was cut off has HDF5 search it for ever.

    Raises
    ------
    NotThereYetError
        When HDF5 cannot open it: it may be being written.
    FrameError
        When what was opened is not allowed.
    MissingExtraError
        When h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(error.name or "h5py", "files") from None
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers its filters
    try:
        handle = h5py.File(path, "r", locking=False)
    except (OSError, ValueError, RuntimeError) as error:
        try:
            if "locking flag" in str(
                error
            ):  # this process has it open, and locked: it must be asked for alike
                handle = h5py.File(path, "r")
            elif _is_written(path, status.st_size):
                handle = h5py.File(path, "r", locking=False, swmr=True)
            else:
                raise
        except (OSError, ValueError, RuntimeError) as refused:
            raise NotThereYetError(
                f"{path} cannot be opened as HDF5 ({str(refused).partition(chr(10))[0]}); it is incomplete, damaged "
                "or still being written"
            ) from refused
    try:
        allowed.check_opened(handle.id.get_vfd_handle(), path)
    except FrameError:
        handle.close()
        raise
    return OpenHdf5(
        path,
        handle,
        (status.st_dev, status.st_ino),
        status.st_size,
        status.st_mtime_ns,
        is_column_major=bool(handle.userblock_size) and _begins_with(path, MATLAB),
        allowed=allowed,
    )


def hdf5_begins_at(file: BinaryIO) -> int | None:
    """Return the byte at which HDF5 begins in an open file, None where it does not; HDF5 file format, II.A."""
    size, place = file.seek(0, 2), 0
    while place + len(SIGNATURE) <= size:
        file.seek(place)
        if file.read(len(SIGNATURE)) == SIGNATURE:
            return place
        place = 2 * place or FIRST_USER_BLOCK
    return None


def _begins_with(path: str, text: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(text)) == text


def _is_written(path: str, size: int) -> bool:
    """Whether somebody writes a file while others read, and it is as long as it was when that began."""
    with open(path, "rb") as file:
        file.seek(hdf5_begins_at(file) or 0)
        superblock = file.read(SUPERBLOCK_BYTES)
    if len(superblock) < SUPERBLOCK_BYTES or superblock[:9] != SIGNATURE + b"\x03":
        return False
    end = int.from_bytes(superblock[28:36], "little")
    return bool(superblock[11] & WRITTEN_SWMR) and size >= end


# -- datasets that have storage of their own -----------------------------------------------------------------


def read_stored(file: OpenHdf5, dataset: Any, box: Box, out: NDArray[Any], kept: KeptOpen) -> None:
    """Read `box` of an h5py.Dataset into `out`, of the lengths of the box, contiguous.

    What the last compressed chunk of several frames holds is kept: the next frame lies there too.

    Raises
    ------
    NotThereYetError
        When not all of it is written.
    FrameError
        When it is compressed in a way that is not known here.
    """
    import h5py

    if dataset.chunks is None:
        _require_contiguous(dataset, box, file.allowed)
        dataset.read_direct(out, box)
        return
    # Before any chunk is written, HDF5 has no index, and takes any size for that of a chunk. It goes through all
    # chunks to tell, so it is asked once.
    if dataset.name not in file.begun:
        if dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
            raise NotThereYetError("it is not written yet")
        file.begun.add(dataset.name)
    # The box that chunks make up, as far as the dataset goes, and where these begin.
    several = tuple(
        slice(place.start - place.start % length, min(-(-place.stop // length) * length, n))
        for place, length, n in zip(box, dataset.chunks, dataset.shape, strict=True)
    )
    starts = (range(place.start, place.stop, n) for place, n in zip(several, dataset.chunks, strict=True))
    chunks = list(itertools.product(*starts))
    sizes = [_stored_size(dataset, chunk) for chunk in chunks]
    if 0 in sizes:
        raise NotThereYetError("it is not written yet")
    if _has_filters(dataset):
        if len(chunks) == 1 and _read_part(file, dataset, box, chunks[0], out):
            return
        several = _next_ones(box, several, out.nbytes)
        size = math.prod(lengths(several)) * out.itemsize
        if 2 * out.nbytes <= size <= MOST_KEPT_BYTES:
            np.copyto(out, _stack(file, dataset, several, chunks, out.dtype, kept)[within(box, several)])
        else:
            dataset.read_direct(out, box)
        return
    lies_as_in_memory = dataset.dtype == out.dtype and dataset.dtype.isnative and dataset.dtype.kind != "b"
    if len(chunks) == 1 and sizes[0] == out.nbytes and lies_as_in_memory:
        # A third of the time that read_direct takes for a frame of 4 MB: no copy by way of the chunk cache.
        dataset.id.read_direct_chunk(chunks[0], out=out.reshape(-1).view(np.uint8).data)
    else:
        dataset.read_direct(out, box)
    if file.is_growing and not file.is_shared and not out.reshape(-1)[-1]:
        # A file of another machine may be seen to be longer only after it says so; HDF5 reads zeros then.
        # To find out where a chunk lies, HDF5 goes through all of them: 3 ms among 20,000.
        for chunk in chunks:
            found = dataset.id.get_chunk_info_by_coord(chunk)
            end, size = found.byte_offset + found.size, regular_file(file.path).st_size
            if size < end:
                raise NotThereYetError(f"it is not whole: it ends at byte {end}, the file at byte {size}")


def _read_part(file: OpenHdf5, dataset: Any, box: Box, chunk: tuple[int, ...], out: NDArray[Any]) -> bool:
    """Read a frame of a chunk that is too large to be kept, where that can be done without all of it; whether it was.

    Only of files that do not grow, in which chunks stay where they are.
    """
    others = all(place.stop - place.start == n for place, n in zip(box[1:], dataset.chunks[1:], strict=True))
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if size <= MOST_KEPT_BYTES or not others or file.is_growing or file.handle.userblock_size:
        return False
    descriptor = file.handle.id.get_vfd_handle()
    known = file.blocks.get(dataset.name)
    if known is None or known[0] != chunk:
        known = file.blocks[dataset.name] = chunk, blocks_of(dataset, chunk, descriptor)
    if known[1] is None:
        return False
    each = size // dataset.chunks[0]
    first = (box[0].start - chunk[0]) * each
    last = first + (box[0].stop - box[0].start) * each
    np.copyto(out, known[1].part(descriptor, first, last, dataset.dtype).reshape(out.shape))
    return True


def _next_ones(box: Box, several: Box, each: int) -> Box:
    """Return the part of `several` that is kept, of which each frame in a box takes `each` bytes.

    All of it, if that is not too much; else as many frames along the first axis as are not, the same for each.
    """
    size = math.prod(lengths(several)) // max(1, math.prod(lengths(box))) * each
    first, place = several[0], box[0].start
    number = MOST_KEPT_BYTES // max(1, size // (first.stop - first.start))
    if size <= MOST_KEPT_BYTES or number < 2 or box[0].stop - place > 1:
        return several
    start = place - (place - first.start) % number
    return slice(start, min(start + number, first.stop)), *several[1:]


def _stack(
    file: OpenHdf5, dataset: Any, box: Box, chunks: list[Any], dtype: np.dtype[Any], kept: KeptOpen
) -> NDArray[Any]:
    """Return the frames of compressed chunks, decompressed once as long as these lie in the file as they did."""
    stored: Any
    if file.is_growing or math.prod(lengths(box)) >= len(chunks) * math.prod(dataset.chunks):
        stored = [dataset.id.read_direct_chunk(chunk)[1] for chunk in chunks]
    else:  # of a part of a chunk it would take longer to compare all; a file that is written anew is opened anew
        stored = file.size, file.changed
    key = (file.path, dataset.name, dtype, *((place.start, place.stop) for place in box))
    known, pixels = kept.stacks.get(key) or (None, None)
    if pixels is None or known != stored:
        kept.stacks.clear()  # its memory is free for the next
        pixels = np.empty(lengths(box), dtype)
        dataset.read_direct(pixels, box)
        kept.stacks.put(key, (stored, pixels), n_bytes=pixels.nbytes)
    return pixels


def _has_filters(dataset: Any) -> bool:
    """Whether chunks are compressed or otherwise filtered; FrameError where that cannot be undone here."""
    import h5py

    settings = dataset.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise FrameError(
                f"it is compressed by the HDF5 filter {code} ({os.fsdecode(name) or 'without a name'}), which is not "
                "installed; pip install 'dvfb-stream[files]' brings those of detectors"
            )
    return bool(settings.get_nfilters())


def _stored_size(dataset: Any, chunk: tuple[int, ...]) -> int:
    """Return the bytes that a chunk takes up in the file, 0 where it is not written.

    HDF5 finds one chunk at once, but h5py tells its size only when reading it, or when there is no room for it.
    """
    try:
        dataset.id.read_direct_chunk(chunk, out=_NOTHING)
    except ValueError as error:
        return int(next(word for word in reversed(str(error).split()) if word.isdecimal()))
    except RuntimeError:
        pass
    return 0


def _require_contiguous(dataset: Any, box: Box, allowed: AllowedRoots) -> None:
    import h5py

    settings = dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.COMPACT:
        return
    # Rows in C order: the last element of the box is the farthest.
    last = np.ravel_multi_index([place.stop - 1 for place in box], dataset.shape)
    end = (int(last) + 1) * dataset.id.get_type().get_size()
    external = settings.get_external_count()  # files outside HDF5, which hold it one after the other
    for number in range(external):
        name, offset, size = settings.get_external(number)
        path, needed = os.fsdecode(name), min(end, size)
        allowed.check(path if allowed.roots is None else os.path.abspath(path))  # which HDF5 opens by itself
        if needed > 0 and regular_file(path).st_size < offset + needed:
            raise NotThereYetError(f"its data in {path} are not written yet")
        end -= needed
    # HDF5 itself refuses a contiguous dataset that lies past the end of its file.
    if not external and dataset.id.get_offset() is None:
        raise NotThereYetError("it is not written yet")
