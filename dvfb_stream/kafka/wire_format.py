"""Decodes what a beamline publishes to Kafka without trusting it: bytes from outside are never unpickled.

The wire format is `bluesky_kafka`'s: ``msgpack((name, document))``, arrays as `msgpack_numpy` writes them.
`msgpack_numpy` itself must not read it: it calls `pickle.loads` on object arrays, and builds object arrays
from raw bytes. Importing `bluesky_kafka` installs that decoder in the `msgpack` module for the whole process,
hence the unpacker here comes from the module behind it, which nobody patches.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.daemon.settings import DEFAULT_MESSAGE_BYTES
from dvfb_stream.daemon.unpacking import unpackb
from dvfb_stream.errors import DvfbError

DOCUMENT_NAMES = frozenset(
    {
        "start", "descriptor", "event", "event_page", "bulk_events", "stop",
        "resource", "datum", "datum_page", "bulk_datum", "stream_resource", "stream_datum",
    }
)  # fmt: skip
"""The names of event-model's documents."""

MAX_ITEMS = 1 << 22
"""Most list items, map entries and containers in one message: bounds the memory that a message of tiny items
takes when unpacked (some 60 bytes each). A 4-megapixel frame sent as nested lists still passes."""
MAX_DEPTH = 64
"""Deepest nesting: documents have five levels or so, and what reads them may recurse."""
MAX_DIMENSIONS = 8
"""Most dimensions of an array: a stack of stacks of colour frames has five."""
MAX_FIELDS = 256
"""Most fields of a structured array type, nested ones included."""

# dtype.str of booleans, integers, floats, complex numbers, byte and text strings, raw bytes. Anything else
# that numpy.dtype would parse (objects, comma-separated fields, sub-arrays) never reaches it; msgpack_numpy
# cannot write arrays of times.
_PLAIN_DTYPE = re.compile(r"[<>|=]?[biufcSUV]\d{1,9}")


class MessageError(DvfbError):
    """A message that is not a Bluesky document, or not one that may be decoded."""


def decode(message: bytes | None, *, max_bytes: int = DEFAULT_MESSAGE_BYTES) -> tuple[str, dict[str, Any]]:
    """Return the (name, document) that a message carries.

    Parameters
    ----------
    message
        Value of a Kafka record. Arrays in the result are read-only views of their own bytes in it.
    max_bytes
        Longest message that is looked at, in bytes.

    Raises
    ------
    MessageError
        Whatever is wrong with it: too long, not msgpack, not a document, an array whose type can hold Python
        objects, or whose shape, type and bytes disagree. Nothing else is raised, whatever the bytes are.
    """
    if message is None:
        raise MessageError("the message has no value")
    if len(message) > max_bytes:
        raise MessageError(
            f"the message has {len(message)} bytes, more than the {max_bytes} allowed by kafka.max_message_bytes"
        )
    unpacking = _Unpacking()
    try:
        content = unpackb(
            message,
            raw=False,
            strict_map_key=True,
            object_hook=unpacking.on_map,
            list_hook=unpacking.on_list,
            ext_hook=_refuse_extension,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
        _refuse_depth(content)
    except MessageError:
        raise
    # What msgpack raises for malformed bytes: ValueError and its family (UnicodeDecodeError, ExtraData,
    # StackError), TypeError for keys, OverflowError for time stamps, MemoryError for lengths that lie.
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise MessageError(f"not a msgpack document: {type(error).__name__}: {error}") from error
    if not (isinstance(content, list) and len(content) == 2):
        raise MessageError(f"a message must be a pair (name, document), not {_describe(content)}")
    name, document = content
    if not (isinstance(name, str) and name in DOCUMENT_NAMES):
        raise MessageError(f"{_describe(name)} is not the name of a Bluesky document")
    if not isinstance(document, dict):
        raise MessageError(f"the {name} document must be a map, not {_describe(document)}")
    return name, document


class _Unpacking:
    """Turns maps that stand for arrays into arrays, and counts what one message unpacks to."""

    def __init__(self) -> None:
        self._items = 0

    def on_list(self, items: list[Any]) -> list[Any]:
        self._count(len(items))
        return items

    def on_map(self, content: dict[Any, Any]) -> Any:
        self._count(len(content))
        # msgpack_numpy marks with bytes keys, which no document has: a text key "nd" is somebody's data.
        if b"nd" in content:
            return _array(content) if content[b"nd"] is True else _scalar(content)
        if b"complex" in content:
            return _complex(content.get(b"data"))
        for key in content:
            if not isinstance(key, str):
                raise MessageError(f"keys of documents are text, not {key[:40]!r}")
        return content

    def _count(self, items: int) -> None:
        self._items += 1 + items
        if self._items > MAX_ITEMS:
            raise MessageError(f"the message has more than the {MAX_ITEMS} items allowed")


def _array(content: dict[Any, Any]) -> NDArray[Any]:
    kind = content.get(b"kind", b"")
    if kind not in (b"", b"V"):
        raise MessageError(f"arrays of kind {kind!r} are refused: they can hold Python objects")
    dtype = _dtype(content.get(b"type"), structured=kind == b"V")
    shape, data = content.get(b"shape"), content.get(b"data")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise MessageError(
            f"the shape of an array must be a list of at most {MAX_DIMENSIONS}, not {_describe(shape)}"
        )
    size = 1
    for length in shape:
        if type(length) is not int or not 0 <= length < 1 << 31:
            raise MessageError(f"{length!r} is not the length of an array")
        size *= length
    if not isinstance(data, bytes):
        raise MessageError(f"the data of an array must be bytes, not {_describe(data)}")
    if size * dtype.itemsize != len(data):
        needed = size * dtype.itemsize
        raise MessageError(
            f"an array of shape {tuple(shape)} and type {dtype} needs {needed} bytes, not {len(data)}"
        )
    return np.ndarray(tuple(shape), dtype, buffer=data)


def _scalar(content: dict[Any, Any]) -> Any:
    dtype, data = _dtype(content.get(b"type"), structured=False), content.get(b"data")
    if dtype.kind not in "biufc":
        raise MessageError(f"{dtype} is not the type of a number")
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise MessageError(f"a number of type {dtype} needs {dtype.itemsize} bytes")
    return np.ndarray((), dtype, buffer=data)[()]


def _complex(text: Any) -> complex:
    if not isinstance(text, str):
        raise MessageError(f"a complex number must be text, not {_describe(text)}")
    return complex(text)  # raises ValueError


def _dtype(description: Any, *, structured: bool) -> np.dtype[Any]:
    if structured:
        fields = [0]
        dtype = np.dtype(_fields(description, fields, depth=1))
    else:
        dtype = np.dtype(_plain(description))
    # The expressions above admit no object type; this is the property that matters, so it is asked for too.
    if dtype.hasobject:
        raise MessageError(f"arrays of type {dtype} are refused: they can hold Python objects")
    if dtype.itemsize == 0:
        raise MessageError(f"arrays of type {dtype} have no bytes")
    return dtype


def _plain(description: Any) -> str:
    if isinstance(description, bytes):  # written by Python 2
        description = description.decode("ascii")
    if not (isinstance(description, str) and _PLAIN_DTYPE.fullmatch(description)):
        raise MessageError(f"arrays of type {_describe(description)} are refused")
    return description


def _fields(description: Any, count: list[int], *, depth: int) -> list[tuple[Any, ...]]:
    if not isinstance(description, list) or depth > MAX_DIMENSIONS:
        raise MessageError(f"arrays of type {_describe(description)} are refused")
    fields: list[tuple[Any, ...]] = []
    for field in description:
        count[0] += 1
        if count[0] > MAX_FIELDS:
            raise MessageError(f"array types of more than {MAX_FIELDS} fields are refused")
        if not (isinstance(field, list) and len(field) in (2, 3) and isinstance(field[0], str)):
            raise MessageError(f"{_describe(field)} is not a field of an array type")
        inner = _fields(field[1], count, depth=depth + 1) if isinstance(field[1], list) else _plain(field[1])
        if len(field) == 2:
            fields.append((field[0], inner))
            continue
        shape = field[2]
        if not (
            isinstance(shape, list)
            and len(shape) <= MAX_DIMENSIONS
            and all(type(length) is int and 0 < length < 1 << 31 for length in shape)
        ):
            raise MessageError(f"{_describe(shape)} is not the shape of a field")
        fields.append((field[0], inner, tuple(shape)))
    return fields


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise MessageError(f"msgpack extension {code} ({len(data)} bytes) has no place in a document")


def _refuse_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _containers(parent)]
        if not level:
            return
    raise MessageError(f"the message is nested more than {MAX_DEPTH} levels deep")


def _containers(parent: Any) -> list[Any]:
    if isinstance(parent, dict):
        return [child for child in parent.values() if isinstance(child, (dict, list))]
    if isinstance(parent, list):
        return [child for child in parent if isinstance(child, (dict, list))]
    return []


def _describe(value: Any) -> str:
    """Return a short text for a value of unknown size."""
    if isinstance(value, (str, bytes)) and len(value) > 40:
        return f"{value[:40]!r}..."
    return (
        repr(value)
        if isinstance(value, (str, bytes, int, float, type(None)))
        else f"a {type(value).__name__}"
    )
