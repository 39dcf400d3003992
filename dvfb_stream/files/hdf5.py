"""Frames of HDF5 datasets and groups, through external links and virtual datasets to the file that they lie in."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import DvfbError, FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.damage import passing_on_want_of_memory
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.files.hdf5_open_files import OpenHdf5
from dvfb_stream.files.hdf5_reading import Hdf5Reading
from dvfb_stream.files.hdf5_search import AmbiguousError, find_stack, offer
from dvfb_stream.files.hdf5_stacks import (
    MOST_AXES,
    SHAPES,
    Stack,
    colours_of,
    is_stack,
    split_selection,
)
from dvfb_stream.files.nexus_facts import detector_facts, detector_group
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.references import FrameAllocator, Hdf5Frame, Remark, unheard
from dvfb_stream.files.stack_parts import StackPart, picked_of, with_absent_frames
from dvfb_stream.files.virtual import lengths

logger = logging.getLogger(__name__)

PLANNED = ("nimages", "ntrigger")
"""What DECTRIS's masters say of the series in `DETECTOR_SPECIFIC`: images a trigger, and triggers."""

DETECTOR_SPECIFIC = "/entry/instrument/detector/detectorSpecific"


class Hdf5Frames:
    """Reads frames of HDF5 files, which stay open; one thread at a time.

    Parameters
    ----------
    kept
        Keeps the files open, under their paths.
    memory
        Where frames are read to.
    allowed
        Which files may be opened.
    """

    def __init__(self, kept: KeptOpen, memory: FrameAllocator, allowed: AllowedRoots = EVERYWHERE) -> None:
        self._kept = kept
        self._memory = memory
        self._allowed = allowed

    def read(
        self, frame: Hdf5Frame, run: str, remark: Remark = unheard, *, file_mask: bool = False
    ) -> NDArray[Any]:
        """Return a frame; see `FrameReader`.

        Parameters
        ----------
        frame
            Which.
        run
            For which its files are kept open.
        remark
            Told what a row should say of it.
        file_mask
            Whether pixels that the file says are no counts are marked.
        """
        where = f"{frame.path}::{frame.dataset} frame {frame.number}"
        with self._reading(where, run) as reading:
            if frame.number < 0:
                raise FrameError(f"{where} is none: frames are numbered from 0")
            stack = _stack(reading, frame.path, frame.dataset)
            path, named, number = _located(reading, stack, frame.number)
            file, name, found = reading.dataset(path, named)
            if name not in file.checked:
                _refuse_what_is_no_stack(found, where)
                file.checked.add(name)
            if file.is_growing:
                found.refresh()
            shape, dtype = found.shape, found.dtype
            stored, leading = shape[-2:], shape[:-2]
            frame.expected.check_promise(stored[::-1] if file.is_column_major else stored, dtype, where)
            if frame.each is not None:
                number = _as_announced(reading, stack, leading, number, frame, remark)
            count = math.prod(leading)
            if number >= count:
                raise NotThereYetError(f"the dataset has {count} frames, none with number {number}")
            place = (number,) if len(leading) == 1 else np.unravel_index(number, leading) if leading else ()
            box = (
                *(slice(int(index), int(index) + 1) for index in place),
                *(slice(0, length) for length in stored),
            )
            pixels = self._memory.empty(stored, dtype.newbyteorder("="))
            reading.fill(file, name, found, box, pixels.reshape(lengths(box)))
            pixels = frame.expected.check(pixels.T if file.is_column_major else pixels, where)
            if not file_mask:
                return pixels
            facts = _facts(reading, path, named, pixels.shape)
            if facts.remark:
                remark(facts.remark)
            return facts.marked(pixels)

    def facts(self, path: str, name: str, shape: tuple[int, ...]) -> FileFacts:
        """Return what a file says of the frames of a dataset besides their pixels; nothing where that is damaged.

        Parameters
        ----------
        path
            File that a user or a document named: a master file's data files say nothing.
        name
            Dataset in it.
        shape
            (rows, columns) of the frames.
        """
        with self._reading(f"{path}::{name}", "") as reading:
            return _facts(reading, path, name, shape)

    def parts(self, path: str, name: str) -> list[StackPart]:
        """Return the datasets whose frames a dataset, a group or, for "", a file stands for, in order.

        Raises
        ------
        NotThereYetError
            When none of them is there.
        FrameError
            When there are none, or several that look like frames; the message says which datasets there are.
        """
        where = f"{path}::{name}" if name else path
        try:
            with self._reading(where, "") as reading:
                stack = _stack(reading, path, name)
                found = [_part(reading, stack, *place, where) for place in stack.parts]
                planned = _planned(reading, path) if len(found) > 1 else None
                each = 1 if stack.images is None else _frames_of_an_image(reading, found)
        except AmbiguousError:
            raise
        except FrameError as error:
            if not name.strip("/"):
                raise
            with self._reading(path, "") as reading:
                raise type(error)(f"{error}; {offer(reading, path)}") from error
        if all(part.absent for part in found):
            raise NotThereYetError(f"{where} is not there: {found[0].absent}") from found[0].absent
        whole = with_absent_frames(found, planned)
        return whole if stack.images is None else picked_of(whole, stack.images, each, where)

    @contextmanager
    def _reading(self, where: str, run: str) -> Iterator[Hdf5Reading]:
        reading = Hdf5Reading(self._kept, run, self._allowed)
        try:
            with passing_on_want_of_memory():
                yield reading
        except MemoryError:
            reading.drop()
            raise
        except NotThereYetError as error:
            # What was not opened for reading while it grows shows what was there then.
            reading.drop()
            said = str(error)
            raise NotThereYetError(said if where in said else f"{where} is not there: {said}") from error
        except AmbiguousError as error:
            raise AmbiguousError(f"{where}: {error}") from error
        except FrameError as error:
            raise (error if where in str(error) else FrameError(f"{where}: {error}")) from error
        except MissingExtraError:
            raise
        except TypeError as error:
            raise FrameError(f"{where} is of a type that NumPy has not: {error}") from error
        except Exception as error:  # h5py raises nearly any of a damaged file
            reading.drop()
            raise NotThereYetError(f"{where} cannot be read: {str(error).partition(chr(10))[0]}") from error
        finally:
            reading.close()
            # Kept open, what this process writes would stay marked as being written after its writer has closed it.
            self._kept.drop_where(lambda opened: isinstance(opened, OpenHdf5) and opened.is_shared)


def _facts(reading: Hdf5Reading, path: str, name: str, shape: tuple[int, ...]) -> FileFacts:
    """Return what a file says of the frames of a dataset, as it did the first time; nothing where that is damaged."""
    file = reading.file(path)
    if (name, shape) not in file.facts:
        try:
            group = detector_group(file.handle, name)
            file.facts[name, shape] = NO_FACTS if group is None else detector_facts(group, shape)
        except (DvfbError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            logger.warning("what %s says of its detector is not used: %s", path, error)
            return NO_FACTS
    return file.facts[name, shape]


def _stack(reading: Hdf5Reading, path: str, name: str) -> Stack:
    """Return the frames that a name stands for: of a dataset, of a group, or of what ``[...]`` selects of it."""
    file = reading.file(path)
    if name not in file.stacks:
        named, selection = name, split_selection("")[1]
        try:
            item = reading.item(path, name)[2]
        except NotThereYetError:
            named, selection = split_selection(name)
            if named == name:
                raise
            item = reading.item(path, named)[2]
        if hasattr(item, "keys"):
            stack = find_stack(reading, path, named)
            # Under another name a dataset may be open a second time; see `close`.
            reading.close()
            file.stacks[name] = stack.selecting(selection)
        else:
            file.stacks[name] = Stack(((path, named),), selection)
    return file.stacks[name]


def _located(reading: Hdf5Reading, stack: Stack, number: int) -> tuple[str, str, int]:
    """Return path and name of the dataset that a frame of a stack lies in, and its number there.

    A part is taken for whole when a frame of the next is asked for: detectors write one after the other.
    """
    if stack.images is not None:
        raise FrameError(
            "which images of several datasets are meant is not known while they may grow; name one"
        )
    if len(stack.parts) == 1 and not stack.selection.picked:
        return *stack.parts[0], number
    passed, longest = 0, 0
    for path, name in stack.parts:
        try:
            shape = _shape(reading, path, name)
        except NotThereYetError:
            # It has as many as those before it, all but the last of which have equally many.
            if number < passed + longest or not longest:
                raise
            passed += longest
            continue
        count = stack.selection.count(shape)
        if number < passed + count:
            return path, name, stack.selection.number(shape, number - passed)
        passed, longest = passed + count, max(longest, count)
    raise NotThereYetError(f"there are {passed} frames, none with number {number}")


def _as_announced(
    reading: Hdf5Reading,
    stack: Stack,
    leading: tuple[int, ...],
    number: int,
    frame: Hdf5Frame,
    remark: Remark,
) -> int:
    """Return the number of a frame in its dataset, of which documents say how many a point has.

    Raises
    ------
    FrameError
        When documents and dataset disagree about how many images a point has, so that any would be a guess.
    """
    announced = frame.each or 1
    if len(stack.parts) > 1 or stack.parts[0] != (frame.path, frame.dataset):
        # Of a group, the frames are those of one point. All parts but the last have as many as the first.
        first, more = stack.selection.count(_shape(reading, *stack.parts[0])), len(stack.parts) - 1
        if more * first >= announced if more else first > announced:
            remark(
                f"{frame.path} has more images than the {announced} that the documents say: the others have no rows."
            )
        return number
    if len(leading) != 2 or leading[1] in (1, announced) or stack.selection.picked:
        return number
    if announced > 1:
        raise FrameError(
            f"each point has {leading[1]} images, where the documents say {announced}: which of them is meant is not "
            "known"
        )
    remark(
        f"Each point of {frame.dataset} has {leading[1]} images, where the documents say 1: this is the first."
    )
    return number * leading[1]


def _shape(reading: Hdf5Reading, path: str, name: str) -> tuple[int, ...]:
    file, _, dataset = reading.dataset(path, name)
    if file.is_growing:
        dataset.refresh()
    return dataset.shape or ()


def _part(reading: Hdf5Reading, stack: Stack, path: str, name: str, where: str) -> StackPart:
    try:
        dataset = reading.dataset(path, name)[2]
        if not is_stack(dataset.shape, np.dtype(dataset.dtype)):
            raise FrameError(
                f"{where} has shape {dataset.shape} and holds {dataset.dtype} values; frames are integers or real "
                f"numbers of shape {SHAPES}"
            )
        _refuse_what_is_no_stack(dataset, where)
        shape = _shape(reading, path, name)
    except NotThereYetError as error:
        return StackPart(path, name, (), absent=error)
    if 0 in shape and len(stack.parts) == 1:
        raise FrameError(f"{where} is empty, its shape is {shape}")
    count = stack.selection.count(shape)
    if not stack.selection.picked:
        return StackPart(path, name, range(count), shape[-2:])
    return StackPart(path, name, tuple(stack.selection.number(shape, n) for n in range(count)), shape[-2:])


def _refuse_what_is_no_stack(dataset: Any, where: str) -> None:
    shape = dataset.shape
    if shape is None or not 2 <= len(shape) <= MOST_AXES:
        raise FrameError(f"{where} is in no dataset of images: it has the shape {shape}, not {SHAPES}")
    colours = colours_of(dataset)
    if colours:
        raise FrameError(
            f"{where} is a picture in colours: its shape is {shape}, and {colours}; colour images are not frames"
        )


def _frames_of_an_image(reading: Hdf5Reading, parts: list[StackPart]) -> int:
    """Return how many frames each image along the first axis has: the thresholds that are selected."""
    for part in parts:
        if part.numbers:
            shape = _shape(reading, part.path, part.name)
            return len(part.numbers) // shape[0] if len(shape) > 2 else 1
    return 1


def _planned(reading: Hdf5Reading, path: str) -> int | None:
    """Return how many frames DECTRIS's master says that the series has; None where it does not."""
    planned = 1
    for name in PLANNED:
        try:
            value = np.asarray(reading.dataset(path, f"{DETECTOR_SPECIFIC}/{name}")[2][()])
        except FrameError:
            return None
        if value.size != 1 or value.dtype.kind not in "iu":
            return None
        planned *= int(value.reshape(-1)[0])
    return planned
