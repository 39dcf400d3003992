"""Writes documents as a beamline publishes them to Kafka: what `wire_format` reads, without msgpack_numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from dvfb_stream.errors import MissingExtraError, RefusedDocumentError

try:
    try:
        from msgpack._cmsgpack import Packer
    except ImportError:  # a machine without the compiled module
        from msgpack.fallback import Packer
except ImportError as missing:
    raise MissingExtraError("msgpack", "kafka") from missing


def encode(name: str, doc: dict[str, Any]) -> bytes:
    """Return a message with one document.

    Raises
    ------
    RefusedDocumentError
        When it holds what is neither a plain value of Python nor a number or an array of NumPy.
    """
    try:
        # A Packer of its own for each: cheap, and no thread shares it.
        packed: bytes = Packer(default=_packable, unicode_errors="replace").pack((name, doc))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RefusedDocumentError(
            f"a {name} document cannot be published: {type(error).__name__}: {error}"
        ) from error
    return packed


def _packable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects is no value of a document")
        structured = value.dtype.kind == "V"
        return {
            b"nd": True,
            b"type": value.dtype.descr if structured else value.dtype.str,
            b"kind": b"V" if structured else b"",
            b"shape": list(value.shape),
            b"data": np.ascontiguousarray(value).tobytes(),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, complex):
        return {b"complex": True, b"data": repr(value)}
    raise TypeError(f"{type(value).__name__} is no value of a document")
