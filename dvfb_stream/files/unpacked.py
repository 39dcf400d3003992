"""Files that were compressed as a whole, by gzip or bzip2: what is in them, if it is all there."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dvfb_stream.errors import FrameError
from dvfb_stream.files.damage import telling_damage
from dvfb_stream.files.references import LARGEST_FRAME

_PACKED: dict[bytes, Callable[..., gzip.GzipFile | bz2.BZ2File]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}


def content_of_packed(path: Path, file: BinaryIO) -> bytes | None:
    """Return what is in a compressed file, None where it is not compressed.

    Raises
    ------
    NotThereYetError
        When it is cut off or damaged: its end says how long it is, and what its checksum.
    FrameError
        When there is more in it than `LARGEST_FRAME`: a file of a megabyte may hold a gigabyte of zeros.
    """
    head = file.read(3)
    opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
    file.seek(0)
    if opener is None:
        return None
    with telling_damage(path), opener(file, "rb") as packed:
        content = packed.read(LARGEST_FRAME + 1)
    if len(content) > LARGEST_FRAME:
        raise FrameError(f"{path} holds more than {LARGEST_FRAME >> 20} MB when unpacked; unpack it first")
    return content
