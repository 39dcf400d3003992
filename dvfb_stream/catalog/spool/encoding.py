"""Documents as bytes on the disk and back: msgpack, in which NaN and arrays survive; nothing is ever unpickled."""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import RefusedDocumentError

_ARRAY = 1
"""msgpack's extension type of an array: its type, shape and bytes."""

_PLAIN_TYPE = re.compile(r"[<>|=]?[biufcSU][0-9]+")
"""Numbers, truth values and texts of a fixed size; no objects, which numpy would unpickle, and no fields."""


class EncodingError(RefusedDocumentError):
    """A document that cannot be written to the disk, or bytes there that are no document."""


def encode(doc: dict[str, Any]) -> bytes:
    """Return a document as bytes.

    Raises
    ------
    EncodingError
        When it holds what is neither a plain value of Python nor a number or an array of NumPy.
    """
    try:
        packed: bytes = msgpack.packb(doc, default=_packable, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodingError(f"a document cannot be kept: {type(error).__name__}: {error}") from error
    return packed


def decode(packed: bytes) -> dict[str, Any]:
    """Return the document of bytes that `encode` made.

    Raises
    ------
    EncodingError
        When they are none: the file was damaged.
    """
    try:
        doc = msgpack.unpackb(packed, ext_hook=_unpacked, unicode_errors="surrogatepass")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EncodingError(f"a spooled document is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(doc, dict):
        raise EncodingError(f"a spooled document is damaged: it is a {type(doc).__name__}, not a mapping")
    return doc


def json_ready(value: Any) -> Any:
    """Return a part of a document for JSON: lists for arrays, null for what is no finite number."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): json_ready(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    if isinstance(value, complex):
        return [json_ready(value.real), json_ready(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _packable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and _PLAIN_TYPE.fullmatch(value.dtype.str):
        content = (value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes())
        return msgpack.ExtType(_ARRAY, msgpack.packb(content))
    raise TypeError(f"{type(value).__name__} is no value of a document")


def _unpacked(code: int, packed: bytes) -> NDArray[Any]:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    dtype, shape, content = msgpack.unpackb(packed)
    if not isinstance(dtype, str) or not _PLAIN_TYPE.fullmatch(dtype):
        raise ValueError(f"no array has the type {dtype!r}")
    return np.frombuffer(content, dtype=np.dtype(dtype)).reshape(shape).copy()
