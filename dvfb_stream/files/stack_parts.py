"""The parts of a stack: which frames each has, those of parts that are not there, and a selection of all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from dvfb_stream.errors import FrameError, NotThereYetError


@dataclass(frozen=True, slots=True)
class StackPart:
    """One of the datasets that make up a stack."""

    path: str
    name: str
    numbers: range | tuple[int, ...]
    """Of its frames in the dataset, in order; see `Hdf5Frame.number`. Empty where it is not there."""
    shape: tuple[int, ...] = ()
    """(rows, columns) of its frames; empty where it is not there."""
    absent: NotThereYetError | None = None
    """Why it is not there."""


def with_absent_frames(parts: list[StackPart], planned: int | None) -> list[StackPart]:
    """Return the parts, with as many frames in those that are not there as they should have.

    All parts but the last have as many as the longest, which is how detectors split a series. Of the last, which may
    have fewer, the master knows; where it does not say, one frame stands for all of it.
    """
    longest = max(len(part.numbers) for part in parts)
    known = sum(len(part.numbers) or longest for part in parts[:-1])
    found = []
    for part in parts:
        count = longest
        if part is parts[-1]:
            count = 1 if planned is None else max(1, min(longest, planned - known))
        found.append(
            part if part.absent is None else StackPart(part.path, part.name, range(count), absent=part.absent)
        )
    return found


def picked_of(parts: list[StackPart], images: int | slice, each: int, where: str) -> list[StackPart]:
    """Return what is left of the parts, in order, when `images` are selected that have `each` so many frames."""
    starts = [(part, start) for part in parts for start in range(0, len(part.numbers), each)]
    try:
        chosen = starts[images] if isinstance(images, slice) else [starts[images]]
    except IndexError:
        raise FrameError(f"{where}: there are {len(starts)} images, none with the number {images}") from None
    if not chosen:
        raise FrameError(f"{where} is empty: there are {len(starts)} images")
    left = []
    for _, run in itertools.groupby(chosen, lambda pair: id(pair[0])):
        pairs = list(run)
        part = pairs[0][0]
        numbers = tuple(number for _, start in pairs for number in part.numbers[start : start + each])
        left.append(replace(part, numbers=numbers))
    if all(part.absent for part in left):
        raise NotThereYetError(f"{where} is not there: {left[0].absent}") from left[0].absent
    return left
