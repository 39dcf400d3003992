"""The directories of a TIFF, one an image, followed to the end of their chain before anything else reads the file.

The libraries pass over a chain that breaks off or leads back into itself: frames would be missing without a word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dvfb_stream.errors import NotThereYetError

MOST_IMAGES = 100_000
"""Longer chains are refused: every directory is looked at before the first image is read."""

NEW_SUBFILE_TYPE = 254
REDUCED_OR_MASK = 0b101
"""Bits of NewSubfileType, TIFF 6.0: a smaller copy of another image of the file, and its transparency."""

SUBFILE_TYPE = 255
REDUCED = 2
"""Value of the older SubfileType: a smaller copy of another image of the file."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How directories are laid out: TIFF 6.0, section 2, and BigTIFF, which widens all numbers."""

    first: str
    """Where the offset of the first directory stands in the file's head, as a struct."""
    number: str
    entry: str
    """Tag, type, count, and the value where it is short enough."""
    offset: str


_TIFF = _Form("4xI", "H", "HHI4s", "I")
_BIG_TIFF = _Form("8xQ", "Q", "HHQ8s", "Q")
_FORMS = {
    b"II*\x00": ("<", _TIFF),
    b"MM\x00*": (">", _TIFF),
    b"II+\x00": ("<", _BIG_TIFF),
    b"MM\x00+": (">", _BIG_TIFF),
}

MAGICS = tuple(_FORMS)
"""First four bytes of a TIFF."""

_SHORT, _LONG = 3, 4
_NUMBERS = {_SHORT: "H", _LONG: "I"}
"""Types of values, TIFF 6.0."""

MOST_BYTES = 2**20
"""Of one directory: TIFF has at most 65,535 entries, 0.8 MB; BigTIFF may claim 2^64."""


def frame_directories(path: Path, file: BinaryIO) -> list[int]:
    """Return which directories of a TIFF, counted from 0, are frames: smaller copies and transparencies are not.

    Raises
    ------
    NotThereYetError
        When the chain leads back into itself, out of the file, or past `MOST_IMAGES`.
    """
    frames: list[int] = []
    seen: set[int] = set()
    order, form = _FORMS[file.read(4)]
    file.seek(0)
    offset = _read(path, file, order + form.first)[0]
    while offset:
        if offset in seen or len(seen) >= MOST_IMAGES:
            raise NotThereYetError(f"{path} is damaged: its chain of images has no end")
        number = len(seen)
        seen.add(offset)
        file.seek(offset)
        where = f"the description of image {number}"
        (entries,) = _read(path, file, order + form.number, where)
        content = _bytes(path, file, entries * struct.calcsize(order + form.entry), where)
        if not any(
            _is_no_frame(order, tag, kind, value)
            for tag, kind, _, value in struct.iter_unpack(order + form.entry, content)
        ):
            frames.append(number)
        (offset,) = _read(path, file, order + form.offset, where)
    if not seen:
        raise NotThereYetError(f"{path} holds no images yet")
    return frames


def _is_no_frame(order: str, tag: int, kind: int, value: bytes) -> bool:
    """Return whether an entry says that its image is a smaller copy or a transparency of another."""
    if tag not in (NEW_SUBFILE_TYPE, SUBFILE_TYPE) or kind not in _NUMBERS:
        return False
    (number,) = struct.unpack_from(order + _NUMBERS[kind], value)
    return bool(number & REDUCED_OR_MASK) if tag == NEW_SUBFILE_TYPE else number == REDUCED


def _read(path: Path, file: BinaryIO, form: str, what: str = "its head") -> tuple[int, ...]:
    return struct.unpack(form, _bytes(path, file, struct.calcsize(form), what))


def _bytes(path: Path, file: BinaryIO, length: int, what: str) -> bytes:
    found = file.read(min(length, MOST_BYTES))
    if len(found) < length:
        raise NotThereYetError(f"{path} cannot be read: it is incomplete, {what} is not all there")
    return found
