"""Makes of a document what every store takes: JSON, its texts bounded and without what databases refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bluesky_tiled_plugins.utils import truncate_json_overflow
from tiled.utils import safe_json_dump

from dvfb_stream.catalog.store_errors import StoreRefusedError

LONGEST_TEXT = 2_000
"""Characters of one text: a reason may quote a whole file, and is stored once a frame."""
_CUT = " ... (cut)"

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters but tabulator and ends of lines, halves of UTF-16 pairs, and what is no character.

PostgreSQL takes no NUL in a text (its manual, 8.3 and 8.14); nobody can encode half a pair as UTF-8.
"""
_REPLACEMENT = "\ufffd"


def storable_text(text: str) -> str:
    """Return a text of at most `LONGEST_TEXT` characters, with U+FFFD for each that a store would refuse."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - len(_CUT)] + _CUT
    return _UNPRINTABLE.sub(_REPLACEMENT, text)


def storable(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with its texts made storable, and check that it is JSON.

    Parameters
    ----------
    name
        What the document is, as the error is to name it: "the start of run ...".
    document
        Of Bluesky; stays as it is.

    Raises
    ------
    StoreRefusedError
        When it is no JSON.
    """
    try:
        cleaned: dict[str, Any] = _storable(document)
        safe_json_dump(truncate_json_overflow(cleaned))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StoreRefusedError(
            f"{name} is no JSON ({storable_text(str(error))})", everything=False
        ) from error
    return cleaned


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
