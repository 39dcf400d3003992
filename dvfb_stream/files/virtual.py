"""Virtual datasets, whose frames lie in other files: HDF5 reads zeros where such a file is missing or late.

So each part of a frame is looked up here and read from its own file. HDF5 reference manual, H5Pset_virtual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dvfb_stream.errors import FrameError, NotThereYetError

Box = tuple[slice, ...]
"""Part of a dataset: from where to where along each axis."""


def lengths(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(place.stop - place.start for place in box)


def within(box: Box, whole: Box) -> Box:
    """Return where a box lies in another one."""
    return tuple(
        slice(part.start - all_of.start, part.stop - all_of.start)
        for part, all_of in zip(box, whole, strict=True)
    )


BLOCK_NUMBER = "%b"
"""In a file's or dataset's name: stands for the number of the block that it holds."""

_UNLIMITED = 1 << 62
"""HDF5's H5S_UNLIMITED is larger, and no axis is as long."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A regular selection along one axis: `count` blocks of `block` elements, their beginnings `stride` apart."""

    start: int
    stride: int
    count: float
    """Infinite where it grows with the files."""
    block: float

    @property
    def length(self) -> float:
        """Elements selected."""
        return self.count * self.block

    @property
    def has_gaps(self) -> bool:
        """Whether elements between two selected ones are not selected."""
        return self.count > 1 and self.stride != self.block

    def overlap(self, begin: int, end: int) -> tuple[int, int, int] | None:
        """Return what is selected of ``begin:end``, its beginning and end, and the number of its first element.

        Raises
        ------
        FrameError
            When it has gaps there.
        """
        if not self.has_gaps:
            begin, end = max(begin, self.start), int(min(end, self.start + self.length))
            return (begin, end, begin - self.start) if begin < end else None
        if end - begin > 1:
            raise FrameError("a mapping of single rows or columns is not read")
        number, rest = divmod(begin - self.start, self.stride)
        if begin < self.start or number >= self.count or rest >= self.block:
            return None
        return begin, end, int(number * self.block) + rest

    def place(self, number: int, length: int) -> slice:
        """Return where `length` selected elements lie from that number on; FrameError when with gaps."""
        if not self.has_gaps:
            return slice(self.start + number, self.start + number + length)
        if length > 1:
            raise FrameError("a mapping of single rows or columns is not read")
        block, rest = divmod(number, int(self.block))
        begin = self.start + block * self.stride + rest
        return slice(begin, begin + 1)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a frame and where it lies."""

    file: str
    """As the virtual dataset names it; ".": its own."""
    dataset: str
    target: Box
    """In the virtual dataset."""
    numbers: tuple[tuple[float, int, int], ...]
    """Along each axis of what is mapped, those of length 1 left out: its length, the number of the part's first
    element, and how many there are."""
    source: tuple[Axis, ...] | None
    """What is selected in the other dataset; None: all of it."""

    def box(self, shape: tuple[int, ...]) -> Box:
        """Return where the part lies in the other dataset, of that shape now; NotThereYetError if beyond it."""
        axes = tuple(Axis(0, 1, n, 1) for n in shape) if self.source is None else self.source
        mapped = tuple(length for length, _, _ in self.numbers)
        if len(axes) != len(shape) or tuple(a.length for a in axes if a.length != 1) != mapped:
            raise NotThereYetError(f"it has the shape {shape}, and not all that is mapped")
        numbers = iter(self.numbers)
        box = tuple(axis.place(*((0, 1) if axis.length == 1 else next(numbers)[1:])) for axis in axes)
        if any(place.stop > n for place, n in zip(box, shape, strict=True)):
            raise NotThereYetError(f"it has the shape {shape}, and does not reach as far")
        return box


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which part of a virtual dataset lies where."""

    file: str
    dataset: str
    target: tuple[Axis, ...]
    source: tuple[Axis, ...] | None

    def part(self, box: Box) -> Part | None:
        """Return what lies there of `box`, None where nothing does; FrameError when its pixels have gaps."""
        found = [
            axis.overlap(wanted.start, wanted.stop) for axis, wanted in zip(self.target, box, strict=True)
        ]
        overlaps = [overlap for overlap in found if overlap is not None]
        if len(overlaps) < len(found):
            return None
        lengths = [axis.length for axis in self.target]
        file, dataset = self.file, self.dataset
        if BLOCK_NUMBER in file + dataset:
            growing = lengths.index(math.inf) if math.inf in lengths else 0
            size = int(self.target[growing].block)
            begin, end, number = overlaps[growing]
            if end - begin > 1:
                raise FrameError("a mapping of files by number is read frame by frame only")
            file, dataset = (name.replace(BLOCK_NUMBER, str(number // size)) for name in (file, dataset))
            overlaps[growing], lengths[growing] = (begin, end, number % size), size
        numbers = (
            (length, number, end - begin)
            for length, (begin, end, number) in zip(lengths, overlaps, strict=True)
            if length != 1
        )
        target = tuple(slice(begin, end) for begin, end, _ in overlaps)
        return Part(file, dataset, target, tuple(numbers), self.source)


def mappings(dataset: Any) -> Iterator[Mapping]:
    """Yield the mappings of a virtual dataset, an h5py.Dataset; FrameError for what is not regular."""
    import h5py

    settings = dataset.id.get_create_plist()
    for number in range(settings.get_virtual_count()):
        source = settings.get_virtual_srcspace(number)
        yield Mapping(
            settings.get_virtual_filename(number),
            settings.get_virtual_dsetname(number),
            _axes(settings.get_virtual_vspace(number), dataset.shape),
            None if source.get_select_type() == h5py.h5s.SEL_ALL else _axes(source, source.shape),
        )


def _axes(space: Any, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    import h5py

    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return tuple(Axis(0, 1, n, 1) for n in shape)
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        raise FrameError("a mapping of anything but regular blocks is not read")
    return tuple(
        Axis(
            int(start),
            int(stride),
            math.inf if count > _UNLIMITED else int(count),
            math.inf if block > _UNLIMITED else int(block),
        )
        for start, stride, count, block in zip(*space.get_regular_hyperslab(), strict=True)
    )
