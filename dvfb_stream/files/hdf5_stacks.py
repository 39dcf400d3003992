"""Which frames a dataset holds, and in which order: images counted through all axes but the last two."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvfb_stream.errors import FrameError
from dvfb_stream.files.checks import NARROWEST_FRAME, WIDEST_ITEM, is_coloured
from dvfb_stream.frames import COUNT_KINDS, NUMBER_KINDS

SHAPES = "(rows, columns), (N, rows, columns) or (N, n, rows, columns)"

MOST_AXES = 6
"""A scan of a scan of a scan with several thresholds; more is a table of something else."""

ALL = slice(None)

_PICKED = re.compile(r"(?P<name>.*[^/])\[(?P<picked>[-+0-9:,\s]*)\]", re.DOTALL)

_COLOURED = ("rgb", "hsl", "cmyk")
"""How NeXus's ``interpretation`` of a picture in colours begins."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of the images of a dataset: ``[:, 0]`` is the first of each row of images; none picked: all."""

    picked: tuple[int | slice, ...] = ()
    """Along the first axes; all of those that are not named."""

    def count(self, shape: tuple[int, ...]) -> int:
        """Return how many images are selected of a dataset of that shape; FrameError when an axis is too short."""
        return math.prod(len(axis) for axis in self._axes(shape))

    def number(self, shape: tuple[int, ...], position: int) -> int:
        """Return the number, counted through all images of a dataset of that shape, of the selected one there."""
        if not self.picked:
            return position
        axes = self._axes(shape)
        places = np.unravel_index(position, [len(axis) for axis in axes])
        found = [axis[place] for axis, place in zip(axes, places, strict=True)]
        return int(np.ravel_multi_index(found, shape[:-2])) if found else 0

    def _axes(self, shape: tuple[int, ...]) -> list[range]:
        lengths = shape[:-2]
        if len(self.picked) > len(lengths):
            raise FrameError(
                f"it has the shape {shape}: {len(self.picked)} axes are named, and images lie along {len(lengths)}"
            )
        picked = [*self.picked, *[slice(None)] * (len(lengths) - len(self.picked))]
        return [_picked(length, pick, shape) for length, pick in zip(lengths, picked, strict=True)]


def _picked(length: int, pick: int | slice, shape: tuple[int, ...]) -> range:
    if isinstance(pick, slice):
        return range(length)[pick]
    if not -length <= pick < length:
        raise FrameError(f"it has the shape {shape}: none has the number {pick} along an axis of {length}")
    return range(length)[pick : pick + 1 or None]


def split_selection(name: str) -> tuple[str, Selection]:
    """Return the name of a dataset or group, and what ``[...]`` behind it selects.

    Raises
    ------
    FrameError
        When the brackets hold something else than numbers, ``:`` and commas.
    """
    found = _PICKED.fullmatch(name)
    if found is None:
        return name, Selection()
    try:
        picked = [_number_or_slice(part.strip()) for part in found["picked"].split(",")]
    except ValueError:
        raise FrameError(
            f"[{found['picked']}] selects no frames; write for example {found['name']}[:,0] or {found['name']}[10:20]"
        ) from None
    return found["name"], Selection(tuple(picked))


def _number_or_slice(text: str) -> int | slice:
    if ":" not in text:
        return int(text)
    bounds = [int(part) if part.strip() else None for part in text.split(":")]
    if len(bounds) > 3 or (len(bounds) == 3 and bounds[2] == 0):
        raise ValueError(text)
    return slice(*bounds)


@dataclass(frozen=True, slots=True)
class Stack:
    """The frames that a name stands for."""

    parts: tuple[tuple[str, str], ...]
    """Path and name of the datasets, whose frames come one after another."""
    selection: Selection = Selection()
    """Of each of them."""
    images: int | slice | None = None
    """Of several parts, which of their images, counted through all parts; None: all."""

    def selecting(self, selection: Selection) -> Stack:
        """Return what a selection leaves; of several parts its first axis goes through all of them."""
        if not selection.picked:
            return self
        if len(self.parts) == 1:
            return Stack(self.parts, selection)
        images, *others = selection.picked
        of_each = Selection((ALL, *others)) if others else Selection()
        return Stack(self.parts, of_each, None if images == ALL else images)


def is_stack(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> bool:
    """Whether a dataset can be frames of a detector: numbers of two axes or more."""
    if shape is None or dtype.kind not in NUMBER_KINDS or dtype.itemsize > WIDEST_ITEM:
        return False
    return 2 <= len(shape) <= MOST_AXES


def is_worth_offering(dataset: Any) -> bool:
    """Whether an h5py.Dataset, which nobody named, looks like frames: counts, no table, no spectra, no colours."""
    shape, dtype = dataset.shape, np.dtype(dataset.dtype)
    if not is_stack(shape, dtype) or dtype.kind not in COUNT_KINDS or 0 in shape:
        return False
    return min(shape[-2:]) >= NARROWEST_FRAME and _interpretation(dataset) not in ("spectrum", "scalar")


def colours_of(dataset: Any) -> str:
    """Return why an h5py.Dataset is a picture in colours, in words; "" where it is none.

    By its shape, by NeXus's ``interpretation``, or by the HDF5 Image Specification's ``IMAGE_SUBCLASS``.
    """
    shape: tuple[int, ...] = dataset.shape or ()
    if is_coloured(shape):
        return f"its last axis has {shape[-1]} numbers a pixel"
    for name, value in (
        ("interpretation", _interpretation(dataset)),
        ("IMAGE_SUBCLASS", text_attribute(dataset, "IMAGE_SUBCLASS").lower()),
    ):
        if value.startswith(_COLOURED) or value == "image_truecolor":
            return f"its {name} is {value}"
    return ""


def _interpretation(dataset: Any) -> str:
    return text_attribute(dataset, "interpretation").lower()


def text_attribute(item: Any, name: str) -> str:
    """Return an attribute of a group or dataset as text, "" where there is none, or it is no text."""
    value = item.attrs.get(name, "")
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
