"""Pictures and archives: grey PNG files hold counts or masks; the others have lost them, or hold several things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError
from dvfb_stream.files.damage import telling_damage

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

ZIP_MAGIC = b"PK\x03\x04"

PICTURES = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"%PDF": "PDF", b"RIFF": "WebP"}
"""First bytes of what is refused by its name."""

_PNM = b"123467"
"""Of the portable pixmaps P1 to P7, all but P5, which has numbers: bits, text and colours. fabio makes zeros of text
that is missing."""

_GREY = 0
"""Colour type of one number a pixel; PNG specification, 11.2.1."""


def refuse_pictures(path: Path, head: bytes) -> None:
    """Raise FrameError for a file whose first bytes are those of a picture that holds no counts."""
    if head.startswith(ZIP_MAGIC):
        raise FrameError(f"{path} is an archive, as of numpy.savez; save one array by numpy.save")
    kind = next((name for magic, name in PICTURES.items() if head.startswith(magic)), None)
    if kind == "JPEG":
        raise FrameError(f"{path} is a JPEG picture, which has lost the counts; give the detector's own file")
    if head[:1] == b"P" and head[1:2] and head[1] in _PNM and head[2:3].isspace():
        kind = f"P{head[1:2].decode()} (PNM)"
    if kind is not None:
        raise FrameError(f"{path} is a {kind} picture, no frame; give the detector's own file")


def read_png(path: Path, content: bytes) -> NDArray[Any]:
    """Return the (rows, columns) image of a grey PNG, of 8 or 16 bits; fewer bits are spread to 8.

    Raises
    ------
    NotThereYetError
        When it is damaged, or not all written.
    FrameError
        When it is in colours.
    MissingExtraError
        When imagecodecs is not installed.
    """
    try:
        import imagecodecs
    except ImportError:
        raise MissingExtraError("imagecodecs", "files") from None
    if content[25:26] not in (b"", bytes([_GREY])):
        raise FrameError(f"{path} is a picture in colours; colour images are not frames")
    with telling_damage(path):
        return imagecodecs.png_decode(content)
