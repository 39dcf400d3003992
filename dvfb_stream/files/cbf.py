"""CBF images as Pilatus and Eiger write them, decoded with fabio's decompressor but not with its header parser.

fabio's parser never returns from a CBF that was cut off in its header or has an unbalanced quote there, and takes a
damaged image for a good one; files that are still being copied look like that.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import hashlib
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError

MAGIC = b"###CBF"
SECTION = b"--CIF-BINARY-FORMAT-SECTION--"
STARTER = b"\x0c\x1a\x04\xd5"
"""What precedes the compressed pixels, from the CBF definition."""

ELEMENT_TYPES = {
    f"{sign} {bits}-bit integer": f"{kind}{bits}"
    for sign, kind in (("signed", "int"), ("unsigned", "uint"))
    for bits in (8, 16, 32, 64)
}
"""imgCIF dictionary, X-Binary-Element-Type."""

_COMPRESSED: dict[str, type[gzip.GzipFile] | type[bz2.BZ2File]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}
_FIELD = re.compile(rb"^\s*([A-Za-z0-9-]+)\s*[:=]\s*\"?([^\"\r\n]*)\"?", re.MULTILINE)


def is_cbf(path: Path) -> bool:
    """Whether the name or the first bytes say CBF."""
    stem = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    if stem.suffix.lower() == ".cbf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_cbf(path: Path) -> NDArray[Any]:
    """Return the (rows, columns) image of a CBF.

    Raises
    ------
    NotThereYetError
        When it is not a CBF, not complete, or its checksum is wrong.
    FrameError
        When it is compressed in another way than by byte offsets, or holds other than integers.
    """
    try:
        from fabio.compression import decByteOffset
    except ImportError:
        raise MissingExtraError("fabio", "files") from None
    content = _content(path)
    section = content.find(SECTION)
    start = content.find(STARTER, max(section, 0))
    if section < 0 or start < 0:
        whole = (
            "it ends before its image; was it copied completely?"
            if MAGIC in content[:64]
            else "it is not a CBF"
        )
        raise NotThereYetError(f"{path} cannot be read: {whole}")
    fields = {
        key.decode().lower(): value.decode("latin-1").strip()
        for key, value in _FIELD.findall(content[section:start])
    }
    compression = fields.get("conversions", "none")
    if compression.lower() != "x-cbf_byte_offset":
        raise FrameError(f"{path} is compressed by {compression!r}; only x-CBF_BYTE_OFFSET can be read")
    shape = (
        _number(path, fields, "x-binary-size-second-dimension"),
        _number(path, fields, "x-binary-size-fastest-dimension"),
    )
    size = _number(path, fields, "x-binary-size")
    element = fields.get("x-binary-element-type", "signed 32-bit integer")
    if element not in ELEMENT_TYPES:
        raise FrameError(f"{path} holds {element!r} values; a frame's pixels are integers")
    start += len(STARTER)
    compressed = content[start : start + size]
    if len(compressed) < size:
        raise NotThereYetError(
            f"{path} is incomplete: {len(compressed)} of {size} bytes of its image are there"
        )
    _check_md5(path, fields.get("content-md5"), compressed)
    # Byte offsets take at least one byte a pixel; a header that promises more pixels would have us allocate them.
    if shape[0] * shape[1] > size:
        raise NotThereYetError(
            f"{path} says it has {shape[0]} x {shape[1]} pixels, but holds only {size} bytes"
        )
    pixels = np.asarray(decByteOffset(compressed, size=shape[0] * shape[1], dtype=ELEMENT_TYPES[element]))
    return pixels.reshape(shape)


def _content(path: Path) -> bytes:
    try:
        opener = _COMPRESSED.get(path.suffix.lower())
        if opener is None:
            return path.read_bytes()
        with opener(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise NotThereYetError(f"{path} cannot be read: {error}") from error


def _number(path: Path, fields: dict[str, str], name: str) -> int:
    text = fields.get(name, "")
    if not text.isdecimal() or not 0 < len(text) < 12 or int(text) == 0:
        raise NotThereYetError(f"{path} is damaged: its header says {name} = {text or 'nothing'!r}")
    return int(text)


def _check_md5(path: Path, expected: str | None, compressed: bytes) -> None:
    if expected is None:
        return
    try:
        wanted = base64.b64decode(expected, validate=True)
    except (binascii.Error, ValueError):
        wanted = b""
    if wanted != hashlib.md5(compressed, usedforsecurity=False).digest():
        raise NotThereYetError(f"{path} is damaged: the checksum of its image is wrong; copy it again")
