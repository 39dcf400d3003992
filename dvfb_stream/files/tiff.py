"""A look at a TIFF before fabio reads it: fabio follows a circle of images for ever and greys coloured ones."""

from __future__ import annotations

import struct
from pathlib import Path

from dvfb_stream.errors import FrameError

SAMPLES_PER_PIXEL = 277
"""Tag, TIFF 6.0: 1 where a pixel is one number, 3 where it is a colour."""

MOST_IMAGES = 100_000
"""Longer chains are refused: fabio opens every directory before the first image is read."""


def check_tiff_directories(path: Path) -> None:
    """Follow the image directories of a TIFF; do nothing for other files (BigTIFF included, which ends by itself).

    Raises
    ------
    FrameError
        When the chain leads back into itself, out of the file, or past `MOST_IMAGES`, or an image is coloured.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or head[:4] not in (b"II*\x00", b"MM\x00*"):
            return
        order = "<" if head[:2] == b"II" else ">"
        seen: set[int] = set()
        (offset,) = struct.unpack(order + "I", head[4:])
        while offset:
            if offset in seen or len(seen) >= MOST_IMAGES:
                raise FrameError(f"{path} is damaged: its chain of images has no end")
            seen.add(offset)
            file.seek(offset)
            number = file.read(2)
            length = 12 * struct.unpack(order + "H", number)[0] + 4 if len(number) == 2 else 4
            directory = file.read(length)
            if len(directory) < length:
                raise FrameError(
                    f"{path} is incomplete: the description of image {len(seen) - 1} is not all there"
                )
            for tag, _, _, value in struct.iter_unpack(order + "HHIH2x", directory[:-4]):
                if tag == SAMPLES_PER_PIXEL and value != 1:
                    raise FrameError(f"{path} has {value} colours a pixel; colour images are not frames")
            (offset,) = struct.unpack(order + "I", directory[-4:])
