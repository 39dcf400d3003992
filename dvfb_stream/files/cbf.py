"""CBF images as Pilatus and Eiger write them, decoded with fabio's decompressor but not with its header parser.

fabio's parser never returns from a CBF that was cut off in its header or has an unbalanced quote there, and takes a
damaged image for a good one; files that are still being copied look like that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.file_facts import FileFacts
from dvfb_stream.files.header_facts import pilatus_facts

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

_FIELD = re.compile(rb"^\s*([A-Za-z0-9-]+)\s*[:=]\s*\"?([^\"\r\n]*)\"?", re.MULTILINE)


def is_cbf(path: Path, head: bytes) -> bool:
    """Whether a file, of which those are the first bytes, is a CBF, or says so by its name."""
    return head.startswith(MAGIC) or any(suffix.lower() == ".cbf" for suffix in path.suffixes[-2:])


def read_cbf(path: Path, content: bytes) -> NDArray[Any]:
    """Return the (rows, columns) image of a CBF, of the type that its header says.

    Parameters
    ----------
    path
        For messages.
    content
        Of the file.

    Raises
    ------
    NotThereYetError
        When it is not a CBF, not complete, or its checksum is wrong.
    FrameError
        When it is compressed in another way than by byte offsets, or holds other than integers.
    """
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
    if content.find(STARTER, start + size) >= 0:
        raise FrameError(f"{path} holds several images; save each as a file of its own")
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
    return _decompressed(path, compressed, shape, np.dtype(ELEMENT_TYPES[element]))


def cbf_facts(content: bytes) -> FileFacts:
    """Return what the header of a CBF's content says of invalid pixels, where a Pilatus wrote it."""
    section = content.find(SECTION)
    return pilatus_facts(content[: max(section, 0)].decode("latin-1"))


def _decompressed(
    path: Path, compressed: bytes, shape: tuple[int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the pixels: sums of differences, each of 1 to 8 bytes, as integers of the type that the header says.

    The sums may pass over the end of the type and come back, as those of unsigned numbers do.
    """
    try:
        from fabio.compression import decByteOffset
    except ImportError:
        raise MissingExtraError("fabio", "files") from None
    count = shape[0] * shape[1]
    # fabio's decompressor of 32 bits is the faster one. It takes a difference of 64 bits for one of 32 bits and some
    # of 8, so that there are too many.
    values = (
        np.asarray(decByteOffset(compressed, size=count + 1, dtype="int32")) if dtype.itemsize <= 4 else None
    )
    if values is None or values.size != count:
        values = np.asarray(decByteOffset(compressed, size=count + 1, dtype="int64"))
    if values.size != count:
        raise NotThereYetError(
            f"{path} is damaged: it says it has {shape[0]} x {shape[1]} pixels, and "
            f"{'more' if values.size > count else values.size} are there"
        )
    return values.astype(dtype, copy=False).reshape(shape)


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
