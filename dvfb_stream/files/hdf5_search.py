"""Frames of an HDF5 file or group of which nobody said the dataset: NeXus's default, or the only one there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.checks import NARROWEST_FRAME, beside
from dvfb_stream.files.hdf5_reading import Hdf5Reading
from dvfb_stream.files.hdf5_stacks import Selection, Stack, colours_of, is_worth_offering, text_attribute
from dvfb_stream.files.virtual import mappings

MOST_OFFERED = 6
"""Datasets named in one line of advice."""

DEEPEST_LEVEL = 12
"""Levels of groups searched for datasets: NeXus files have six; links may form circles."""

MOST_LOOKED_AT = 50_000
"""Groups and datasets of a file; a session's file of a thousand scans, at 20 microseconds each, takes a second."""

NUMBERED = re.compile(r"data_(\d{6,})")
"""Parts of one stack: DECTRIS links its files as data_000001, data_000002, ... Other numbers, of data1 and data2, may
be of a sample and its background, or of two detectors."""

NO_FRAMES = frozenset(
    {
        *(
            "pixel_mask",
            "flatfield",
            "flatfield_error",
            "flatfield_errors",
            "dead_time",
            "data_errors",
            "errors",
        ),
        *("x_pixel_offset", "y_pixel_offset", "z_pixel_offset", "distance", "polar_angle", "azimuthal_angle"),
        *("solid_angle", "saturation_value", "underload_value", "detector_number", "trimbit", "mask"),
    }
)
"""Fields of NeXus's NXdetector and NXdata that have the shape of a frame and are none, and DECTRIS's trimbits."""


NOTHING_FOUND = "it holds no dataset that looks like images"


class AmbiguousError(FrameError):
    """Nobody said which of several datasets holds the frames; the message lists them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What looks like frames."""

    name: str
    what: str
    """Its shape, or why it is not there."""
    stack: Stack
    """By the names that lead there from the file that was searched."""
    place: tuple[str, str] = ("", "")
    """Path and name of what it really is."""
    sources: frozenset[tuple[str, str]] = frozenset()
    """Path and name of the datasets that a virtual one is made of."""
    is_signal: bool = False
    """Whether it is what NeXus would plot of its group."""


def find_stack(reading: Hdf5Reading, path: str, name: str) -> Stack:
    """Return the frames of a group: what NeXus's attributes say, or the only dataset that looks like frames.

    Raises
    ------
    AmbiguousError
        When there are several.
    FrameError
        When there is none.
    NotThereYetError
        When what NeXus says, or the only link, leads to a file that is not there.
    """
    default = _nexus_default(reading, path, name, DEEPEST_LEVEL)
    if default is not None:
        return default
    found, coloured = _candidates(reading, path, name)
    signals = [candidate for candidate in found if candidate.is_signal]
    if len(found) == 1 or len(signals) == 1:
        return (found if len(found) == 1 else signals)[0].stack
    if not found:
        raise FrameError(f"it holds no frames: {coloured or NOTHING_FOUND}")
    raise AmbiguousError(
        f"say which dataset, for there are several that look like images: {_offered(path, found)}"
    )


def offer(reading: Hdf5Reading, path: str) -> str:
    """Return which datasets of a file look like images, in words."""
    found, _ = _candidates(reading, path, "")
    return f"it holds {_offered(path, found)}" if found else NOTHING_FOUND


def _offered(path: str, found: list[Found]) -> str:
    named = ", ".join(f"{path}::{candidate.name} {candidate.what}" for candidate in found[:MOST_OFFERED])
    return named + (f" and {len(found) - MOST_OFFERED} more" if len(found) > MOST_OFFERED else "")


def _nexus_default(reading: Hdf5Reading, path: str, name: str, levels: int) -> Stack | None:
    """Follow ``default`` from group to group, down to the ``signal`` of an NXdata; NeXus manual, 3.3."""
    file, _, group = reading.item(path, name)
    if not hasattr(group, "keys"):
        return None
    next_one = text_attribute(group, "default")
    if next_one and levels and _has_link(group, next_one):
        # By its name in the file that a user named: there is looked for what that says of the detector.
        is_absolute = next_one.startswith("/")
        start, below = (file.path, next_one) if is_absolute else (path, f"{name.rstrip('/')}/{next_one}")
        found = _nexus_default(reading, start, below, levels - 1)
        if found is not None:
            return found
    signal = _signal(group)
    if not signal:
        return None
    numbered = _numbered(path, name, group) if NUMBERED.fullmatch(signal) else None
    if numbered is not None:
        return numbered
    dataset_name = f"{name.rstrip('/')}/{signal}"
    dataset = reading.item(path, dataset_name)[2]
    if not hasattr(dataset, "dtype") or not is_worth_offering(dataset) or colours_of(dataset):
        return None
    return Stack(((path, dataset_name),), _default_slice(group, dataset))


def _signal(group: Any) -> str:
    """Return which field of an NXdata is its signal: the group says so, or in older files the field does."""
    signal = text_attribute(group, "signal")
    if not signal and text_attribute(group, "NX_class") == "NXdata":
        marked = (key for key in group if not _is_external(group, key) and _is_marked(_child(group, key)))
        signal = next(marked, "")
    return signal if signal in group else ""


def _is_marked(item: Any) -> bool:
    return hasattr(item, "dtype") and str(item.attrs.get("signal", "")) in ("1", "b'1'")


def _default_slice(group: Any, dataset: Any) -> Selection:
    """Return what NXdata's ``default_slice`` selects: of DECTRIS's channels, each a threshold, the first."""
    wanted = [_text(part) for part in np.atleast_1d(group.attrs.get("default_slice", []))]
    axes = [_text(part) for part in np.atleast_1d(group.attrs.get("axes", []))]
    images = dataset.ndim - 2
    if len(wanted) != dataset.ndim:
        return Selection()
    picked: list[int | slice] = []
    for axis, part in enumerate(wanted[:images]):
        names = [_text(value) for value in _values(group, axes[axis] if axis < len(axes) else "")]
        if part.isdecimal():
            picked.append(int(part))
        else:
            picked.append(names.index(part) if part in names else slice(None))
    return Selection(tuple(picked)) if any(isinstance(pick, int) for pick in picked) else Selection()


def _values(group: Any, name: str) -> list[Any]:
    field: Any = _child(group, name) if name and name != "." else None
    return list(np.atleast_1d(field[()])) if hasattr(field, "dtype") and field.size < MOST_LOOKED_AT else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _numbered(path: str, name: str, group: Any) -> Stack | None:
    """Return the stack that numbered links make up, in the order of their numbers; None where there are none.

    Datasets of several shapes, or of none that is an image's, are no stack.
    """
    parts = sorted((int(found[1]), key) for key in group if (found := NUMBERED.fullmatch(key)))
    here = [_child(group, key) for _, key in parts if not _is_external(group, key)]
    if not _are_alike([item for item in here if item is not None]):
        return None
    return Stack(tuple((path, f"{name.rstrip('/')}/{key}") for _, key in parts)) if parts else None


def _are_alike(items: list[Any]) -> bool:
    """Whether all are datasets of images, and these of one shape."""
    shapes = {(getattr(item, "shape", None) or ())[-2:] for item in items}
    return len(shapes) < 2 and all(len(shape) == 2 and min(shape) >= NARROWEST_FRAME for shape in shapes)


def _candidates(reading: Hdf5Reading, path: str, name: str) -> tuple[list[Found], str]:
    """Return what looks like frames below a group, each once, and which picture in colours there is, in words."""
    search = _Search(reading)
    found = list(search.below(path, name, DEEPEST_LEVEL))
    within_others = {source for candidate in found for source in candidate.sources}
    return [candidate for candidate in found if candidate.place not in within_others], search.coloured


class _Search:
    """A walk through a file, external links included: h5py's own visititems passes over those of Eiger masters."""

    def __init__(self, reading: Hdf5Reading) -> None:
        self._reading = reading
        self._seen: set[tuple[int, int]] = set()
        self.coloured = ""

    def below(self, path: str, name: str, levels: int) -> Iterator[Found]:
        """Yield what looks like frames."""
        group = self._reading.item(path, name)[2]
        if not hasattr(group, "keys") or not self._is_new(group):
            return
        signal = _signal(group)
        numbered = _numbered(path, name, group)
        if numbered is not None and "data" not in group:
            yield Found(name, f"({len(numbered.parts)} parts)", numbered, is_signal=bool(signal))
        for key in list(group):
            if key in NO_FRAMES or (numbered is not None and NUMBERED.fullmatch(key)):
                continue
            child = f"{name.rstrip('/')}/{key}"
            try:
                there, name_of_child, item = self._reading.item(path, child)
            except NotThereYetError as error:
                if _is_external(group, key):
                    yield Found(child, f"(which is not there: {error})", Stack(((path, child),)))
                continue
            except (FrameError, KeyError, OSError, RuntimeError, ValueError):  # a circle of links, a pipe
                continue
            if hasattr(item, "dtype") and hasattr(item, "shape"):
                place = (there.path, "/" + name_of_child.strip("/"))
                yield from self._dataset(path, child, item, place, is_signal=key == signal)
            elif levels and hasattr(item, "keys"):
                yield from self.below(path, child, levels - 1)

    def _dataset(
        self, path: str, name: str, dataset: Any, place: tuple[str, str], *, is_signal: bool
    ) -> Iterator[Found]:
        if not self._is_new(dataset) or not _is_readable(dataset):
            return
        colours = colours_of(dataset)
        if colours:
            self.coloured = (
                f"{name} is a picture in colours: its shape is {dataset.shape}, and {colours}; colour images are not "
                "frames"
            )
        if colours or not is_worth_offering(dataset):
            return
        sources = _sources(place[0], dataset, self._reading.allowed.permits)
        yield Found(name, str(dataset.shape), Stack(((path, name),)), place, sources, is_signal=is_signal)

    def _is_new(self, item: Any) -> bool:
        """Whether a group or dataset was not met yet, under whatever name."""
        import h5py

        found = h5py.h5o.get_info(item.id)
        place = (found.fileno, found.addr)
        if place in self._seen or len(self._seen) > MOST_LOOKED_AT:
            return False
        self._seen.add(place)
        return True


def _sources(path: str, dataset: Any, permits: Callable[[str], bool]) -> frozenset[tuple[str, str]]:
    """Return path and name of the datasets that a virtual one is made of; none where it is none."""
    if not dataset.is_virtual:
        return frozenset()
    try:
        mapped = list(mappings(dataset))
    except FrameError:
        return frozenset()
    return frozenset(
        (path if m.file == "." else beside(path, m.file, permits), "/" + m.dataset.strip("/")) for m in mapped
    )


def _is_readable(dataset: Any) -> bool:
    """Whether NumPy has the type of a dataset."""
    try:
        return dataset.dtype is not None
    except (TypeError, ValueError):
        return False


def _has_link(group: Any, key: str) -> bool:
    """Whether there is a link of that name, wherever it leads, or leads no more."""
    try:
        return group.get(key, getlink=True) is not None
    except (KeyError, OSError, RuntimeError, ValueError):
        return False


def _is_external(group: Any, key: str) -> bool:
    import h5py

    return isinstance(group.get(key, getlink=True), h5py.ExternalLink)


def _child(group: Any, key: str) -> Any | None:
    try:
        return group.get(key)
    except (KeyError, OSError, RuntimeError, ValueError):  # an external file that is gone, a circle of links
        return None
