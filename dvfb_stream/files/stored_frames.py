"""Reading part of an HDF5 dataset that has storage of its own, once all of that part is really written.

HDF5 reads the fill value, mostly zero, of what is not written yet and of what lies past a file's end.
"""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.hdf5_files import OpenHdf5
from dvfb_stream.files.regular_files import regular_file
from dvfb_stream.files.virtual import Box

MOST_KEPT_BYTES = 256 * 2**20
"""Of the frames of one chunk: 16 of a 4-megapixel detector. Larger chunks are decompressed once a frame."""

_NOTHING = bytearray()


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """The frames of a compressed chunk, or of those side by side that make up as many frames."""

    stored: list[bytes]
    """The chunks as they lie in the file: as long as they are the same, so are the frames."""
    box: Box
    pixels: NDArray[Any]


class StoredFrames:
    """Reads from datasets; keeps what the last chunk of several frames held, for the next frame lies there too."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def forget(self) -> None:
        """Let go of what is kept."""
        self._kept = None

    def read(self, file: OpenHdf5, dataset: Any, box: Box, out: NDArray[Any]) -> None:
        """Read `box` of an h5py.Dataset into `out`, of the lengths of the box, contiguous.

        Raises
        ------
        NotThereYetError
            When not all of it is written.
        FrameError
            When it is compressed in a way that is not known here.
        """
        if dataset.chunks is None:
            _require_contiguous(file, dataset, box)
            dataset.read_direct(out, box)
            return
        _require_begun(file, dataset)
        chunks = _chunks(dataset, box)
        sizes = [_stored_size(dataset, chunk) for chunk in chunks]
        if 0 in sizes:
            raise NotThereYetError("it is not written yet")
        if _has_filters(dataset):
            self._read_filtered(dataset, box, chunks, out)
            return
        if len(chunks) == 1 and sizes[0] == out.nbytes and _lies_as_in_memory(dataset, out):
            # A third of the time that read_direct takes for a frame of 4 MB: no copy by way of the chunk cache.
            dataset.id.read_direct_chunk(chunks[0], out=out.reshape(-1).view(np.uint8).data)
        else:
            dataset.read_direct(out, box)
        if file.is_growing and not file.is_shared and not out.reshape(-1)[-1]:
            # A file of another machine may be seen to be longer only after it says so; HDF5 reads zeros then.
            # To find out where a chunk lies, HDF5 goes through all of them: 3 ms among 20,000.
            for chunk in chunks:
                found = dataset.id.get_chunk_info_by_coord(chunk)
                _require_size(file, found.byte_offset + found.size)

    def _read_filtered(
        self, dataset: Any, box: Box, chunks: list[tuple[int, ...]], out: NDArray[Any]
    ) -> None:
        several = _whole_chunks(dataset, box)
        size = math.prod(place.stop - place.start for place in several) * out.itemsize
        if size < 2 * out.nbytes or size > MOST_KEPT_BYTES:
            dataset.read_direct(out, box)
            return
        stored = [dataset.id.read_direct_chunk(chunk)[1] for chunk in chunks]
        kept = self._kept
        if kept is None or kept.box != several or kept.pixels.dtype != out.dtype or kept.stored != stored:
            self._kept = None  # its memory is free for the next
            pixels = np.empty([place.stop - place.start for place in several], out.dtype)
            dataset.read_direct(pixels, several)
            self._kept = kept = _Kept(stored, several, pixels)
        np.copyto(
            out,
            kept.pixels[
                tuple(
                    slice(place.start - whole.start, place.stop - whole.start)
                    for place, whole in zip(box, several, strict=True)
                )
            ],
        )


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


def _chunks(dataset: Any, box: Box) -> list[tuple[int, ...]]:
    """Return where the chunks begin that a box lies in."""
    return list(
        itertools.product(
            *(
                range(place.start - place.start % length, place.stop, length)
                for place, length in zip(box, dataset.chunks, strict=True)
            )
        )
    )


def _whole_chunks(dataset: Any, box: Box) -> Box:
    """Return the box that the chunks of a box make up, as far as the dataset goes."""
    return tuple(
        slice(place.start - place.start % length, min(-(-place.stop // length) * length, n))
        for place, length, n in zip(box, dataset.chunks, dataset.shape, strict=True)
    )


def _require_begun(file: OpenHdf5, dataset: Any) -> None:
    """See to it that any chunk is written: before, HDF5 has no index, and takes any size for that of a chunk.

    It goes through all chunks for that, so it is asked once.
    """
    import h5py

    if dataset.name in file.begun:
        return
    if dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        raise NotThereYetError("it is not written yet")
    file.begun.add(dataset.name)


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


def _lies_as_in_memory(dataset: Any, out: NDArray[Any]) -> bool:
    """Whether the bytes of a dataset's elements are those of `out`; an enumeration's numbers may be any."""
    import h5py

    return bool(
        dataset.dtype == out.dtype
        and dataset.dtype.isnative
        and dataset.dtype.kind != "b"
        and h5py.check_enum_dtype(dataset.dtype) is None
    )


def _require_contiguous(file: OpenHdf5, dataset: Any, box: Box) -> None:
    import h5py

    settings = dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.COMPACT:
        return
    # Rows in C order: the last element of the box is the farthest.
    last = np.ravel_multi_index([place.stop - 1 for place in box], dataset.shape)
    end = (int(last) + 1) * dataset.id.get_type().get_size()
    if settings.get_external_count():
        _require_external(settings, end)
        return
    offset = dataset.id.get_offset()
    if offset is None:
        raise NotThereYetError("it is not written yet")
    if not file.is_shared:
        _require_size(file, offset + end)


def _require_external(settings: Any, end: int) -> None:
    """See to it that files outside HDF5 hold the first `end` bytes of a dataset."""
    for number in range(settings.get_external_count()):
        name, offset, size = settings.get_external(number)
        path = os.fsdecode(name)
        needed = min(end, size)
        if needed > 0 and regular_file(path).st_size < offset + needed:
            raise NotThereYetError(f"its data in {path} are not written yet")
        end -= needed


def _require_size(file: OpenHdf5, end: int) -> None:
    size = regular_file(file.path).st_size
    if size < end:
        raise NotThereYetError(f"it is not whole: it ends at byte {end}, the file at byte {size}")
