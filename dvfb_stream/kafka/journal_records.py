"""What a partition's journal holds, as bytes and back: records with a checksum, documents without their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from msgpack import ExtType, Packer

from dvfb_stream.daemon.unpacking import unpackb
from dvfb_stream.frames import NUMBER_KINDS

_HEAD = struct.Struct("<II")
"""Length and CRC-32 of what follows."""
MOST_RECORD_BYTES = 1 << 30
"""A longer record is none: its head was torn."""

_SMALL = 64
"""Elements of an array that is kept whole: beam centres are arrays of one."""
_ARRAY, _EMPTY_ARRAY, _EMPTY_LISTS = 1, 2, 3
"""msgpack's extension types: an array; the type and shape of one; the shape of nested lists of numbers."""


def packed_document(name: str, doc: Mapping[str, Any]) -> bytes:
    """Return a document as bytes, without its pixels."""
    content: bytes = Packer(default=_packable, unicode_errors="surrogatepass").pack(without_pixels(name, doc))
    return content


def unpacked_document(content: bytes) -> dict[str, Any]:
    """Return the document of bytes that `packed_document` made."""
    doc = unpackb(content, ext_hook=_unpacked, unicode_errors="surrogatepass", strict_map_key=False)
    return doc if isinstance(doc, dict) else {}


def packed(record: list[Any]) -> bytes:
    """Return a record as bytes, with its head."""
    body: bytes = Packer(unicode_errors="surrogatepass").pack(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def records(content: bytes) -> Iterator[list[Any]]:
    """Yield the records of a journal, up to the first that is torn or damaged."""
    position = 0
    while position + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, position)
        body = content[position + _HEAD.size : position + _HEAD.size + length]
        if length > MOST_RECORD_BYTES or len(body) != length or zlib.crc32(body) != checksum:
            return
        position += _HEAD.size + length
        record = unpackb(body, unicode_errors="surrogatepass", strict_map_key=False)
        if not isinstance(record, list) or not record:
            return
        yield record


def without_pixels(name: str, doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document that says of its frames how many there are, and of which shape and type.

    What finds frames in documents finds the same numbers in it. Everything else that matters to frames is in it.
    """
    bare = dict(doc)
    if name in ("event", "event_page"):
        bare.pop("timestamps", None)
        data = doc.get("data")
        if isinstance(data, Mapping):
            # The columns of a page are values of one number for each event.
            most = _SMALL if name == "event" else None
            bare["data"] = {key: _bare(value, most) for key, value in data.items()}
    return {str(key): value if key == "data" else _plain(value) for key, value in bare.items()}


def _bare(value: Any, most: int | None) -> Any:
    if isinstance(value, np.ndarray):
        is_long = value.size > _SMALL and (value.ndim >= 2 or most is not None)
        return _Empty(value.dtype.str, value.shape) if is_long and _is_plain(value) else _plain(value)
    if isinstance(value, list | tuple):
        if any(isinstance(part, np.ndarray) for part in value):
            return [_bare(part, _SMALL) for part in value]
        if (shape := _shape_of(value)) is not None and (len(shape) >= 2 or most is not None):
            return _EmptyLists(shape) if np.prod(shape) > _SMALL else value
    return _plain(value)


def _shape_of(value: list[Any] | tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the shape of nested lists of numbers; None where they are none."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return array.shape if array.dtype.kind in NUMBER_KINDS else None


class _Empty:
    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.content = [dtype, list(shape)]


class _EmptyLists:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.content = list(shape)


def _is_plain(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind in "biufcSU"


def _plain(value: Any) -> Any:
    """Return a value that msgpack takes; of what it does not, a text that says what it was."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        # Of other types nothing but the dimensions matters.
        return value if _is_plain(value) else _Empty(f"V{max(1, value.dtype.itemsize)}", value.shape)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value) if abs(value) < 1 << 1000 else str(value)[:20]
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return value
    return f"a value of type {type(value).__name__}"


def _packable(value: Any) -> Any:
    if isinstance(value, _Empty):
        return ExtType(_EMPTY_ARRAY, Packer().pack(value.content))
    if isinstance(value, _EmptyLists):
        return ExtType(_EMPTY_LISTS, Packer().pack(value.content))
    if isinstance(value, np.ndarray):
        content = [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        return ExtType(_ARRAY, Packer().pack(content))
    raise TypeError(f"{type(value).__name__} has no place in a journal")


def _unpacked(code: int, content: bytes) -> Any:
    found = unpackb(content)
    if code == _ARRAY:
        dtype, shape, data = found
        return np.frombuffer(data, np.dtype(dtype)).reshape(shape)
    if code == _EMPTY_ARRAY:
        dtype, shape = found
        # One element in memory, whatever the shape.
        return np.broadcast_to(np.zeros((), np.dtype(dtype)), tuple(shape))
    lists: Any = 0
    for length in reversed(found):
        lists = [lists] * length
    return lists
