"""What NeXus and DECTRIS files say of a detector beside its frames: its mask, and what is no count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.files.declared_centre import with_nexus_centre
from dvfb_stream.files.file_facts import FileFacts
from dvfb_stream.frames import InvalidValues

PIXEL_MASK = "pixel_mask"
"""NXdetector: 0 where a pixel is valid; bits say why it is not."""

SPECIFIC = "detectorSpecific"
"""DECTRIS keeps in this group of the detector what NXdetector has no word for, and in some versions its mask."""

CHANNEL = "_channel"
"""How the names of NXdetector_channel groups end, one for each threshold, which have masks of their own."""

BIT_DEPTHS = ("bit_depth_image", "bit_depth_readout")
"""With n bits 2^n-1 and 2^n-2 are no counts. The first is that of the frames, the second of the electronics."""

SATURATIONS = ("saturation_value", "countrate_correction_count_cutoff")
"""Greater counts are not right: NXdetector's word, DECTRIS's."""


def detector_group(file: Any, dataset: str) -> Any | None:
    """Return the NXdetector group of the frames in a dataset; None where there is none, or it is not clear which.

    It is the group that the dataset lies in, else the only one in an NXinstrument of the same entry, else the one
    of these that has the dataset, too: by a link.

    Parameters
    ----------
    file
        Open h5py.File, the one that a user named: an Eiger's master file, not where its links lead.
    dataset
        Path in it.
    """
    parts = [part for part in dataset.split("/") if part]
    for depth in range(len(parts) - 1, 0, -1):
        group = _item(file, "/".join(parts[:depth]))
        if _is_group(group) and _class(group) == "NXdetector":
            return group
    # A dataset must not be opened here: it would be open twice.
    is_below = len(parts) > 1 or (bool(parts) and file.get(parts[0], getclass=True) is type(file["/"]))
    entry = _item(file, parts[0]) if is_below else file
    found = list(_detectors(entry)) if _is_group(entry) else []
    if len(found) > 1:
        place = _place(file, dataset)
        found = [
            group
            for group in found
            if place is not None and any(_place(group, key) == place for key in group)
        ]
    return found[0] if len(found) == 1 else None


def detector_facts(group: Any, shape: tuple[int, ...]) -> FileFacts:
    """Return what an NXdetector group says of invalid pixels, of the beam centre and the sides of a pixel.

    Parameters
    ----------
    group
        h5py.Group.
    shape
        (rows, columns) of the frames. A mask of another shape is another mode's, and not used.
    """
    mask, said = _mask(group, shape)
    source, refused = ("", said) if mask is None else (said, "")
    facts = FileFacts(invalid_values=_invalid_values(group), mask=mask, mask_source=source, no_mask=refused)
    return with_nexus_centre(facts, group)


def _mask(group: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_] | None, str]:
    """Return the mask and where it stands; or None, and why those that there are cannot be used, "" for none."""
    refused = ""
    for name in (PIXEL_MASK, f"{SPECIFIC}/{PIXEL_MASK}"):
        valid, said = _mask_at(group, name, shape)
        if valid is not None:
            return valid, said
        refused = refused or said
    found = [_mask_at(group, f"{name}/{PIXEL_MASK}", shape) for name in group if name.endswith(CHANNEL)]
    usable = [(valid, said) for valid, said in found if valid is not None]
    if usable:
        # Of several, one for each threshold, any masks a pixel.
        valid, source = (
            np.logical_and.reduce([valid for valid, _ in usable]),
            ", ".join(said for _, said in usable),
        )
        return (valid, source) if valid.any() else (None, f"together {source} mask every pixel")
    return None, refused or next((said for _, said in found if said), "")


def _mask_at(group: Any, name: str, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_] | None, str]:
    """Return the mask of that name, and its place; or None, and why it is not used, "" where there is none."""
    found = _item(group, name)
    if getattr(found, "shape", None) is None:
        return None, ""
    place = f"{found.file.filename}::{found.name}"
    if found.dtype.kind not in "biuf":
        return None, f"{place} holds values of the type {found.dtype}"
    if found.shape[-2:] != shape:
        return None, f"{place} has the shape {found.shape}, the frames {shape}"
    valid = (np.asarray(found[()]) == 0).reshape(-1, *shape).all(axis=0)
    return (valid, place) if valid.any() else (None, f"{place} masks every pixel")


def _invalid_values(group: Any) -> InvalidValues | None:
    depth = next(_numbers(group, BIT_DEPTHS), None)
    above = next((value for value in _numbers(group, SATURATIONS) if value > 0), None)
    below = next(_numbers(group, ("underload_value",)), None)
    values: tuple[float, ...] = ()
    if depth is not None and depth == int(depth) and 1 < depth <= 64:
        values = (2.0**depth - 1, 2.0**depth - 2)
    if not values and above is None and below is None:
        return None
    return InvalidValues(values=values, above=above, below=below)


def _numbers(group: Any, names: tuple[str, ...]) -> Iterator[float]:
    """Yield those of the group's numbers that there are, in order; one of an array of one, as DECTRIS writes them."""
    for name in names:
        for place in (name, f"{SPECIFIC}/{name}"):
            found = _item(group, place)
            if getattr(found, "size", None) == 1 and found.dtype.kind in "iuf":
                value = float(np.asarray(found[()]).reshape(-1)[0])
                if math.isfinite(value):
                    yield value


def _detectors(entry: Any) -> Iterator[Any]:
    """Yield the NXdetector groups of an NXentry: in its instruments."""
    for name in entry:
        if entry.get(name, getclass=True, getlink=True).__name__ == "ExternalLink":
            continue
        instrument = _item(entry, name)
        if _is_group(instrument) and (_class(instrument) == "NXinstrument" or name == "instrument"):
            for key in instrument:
                detector = _item(instrument, key)
                if _is_group(detector) and (_class(detector) == "NXdetector" or key == "detector"):
                    yield detector


def _place(group: Any, name: str) -> tuple[int, int] | None:
    """Return where an object lies, without opening it; None where it is not there."""
    import h5py

    try:
        found = h5py.h5o.get_info(group.id, name.encode())
    except (KeyError, OSError, RuntimeError, ValueError):
        return None
    return found.fileno, found.addr


def _is_group(item: Any) -> bool:
    return hasattr(item, "keys")


def _class(group: Any) -> str:
    name = group.attrs.get("NX_class", b"")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _item(group: Any, name: str) -> Any:
    """Return what is there under a name; None where there is nothing, or it cannot be had."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):  # an external file that is gone, a circle of links
        return None
