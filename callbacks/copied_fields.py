"""What analysis runs say in the words of the raw start document, as far as catalogs can keep it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dvfb_stream.callbacks.document_fields import Document, whole
from dvfb_stream.texts import MOST_OF_A_NAME, printable

logger = logging.getLogger(__name__)

ACCESS_TAGS = "tiled_access_tags"
"""By them Tiled decides who may see a run: whoever may not see the raw run may not see its annotations."""

MOST_ITEMS = 1_000
"""Values in a field that is copied; a proposal has twenty."""

LARGEST_INTEGER = 2**63 - 1
"""What JSON writers and databases hold."""


def copied_fields(start: Document) -> dict[str, Any]:
    """Return the fields of a raw start document by which people search, in copies of plain JSON.

    A field that event-model forbids, or for which there is no JSON, is left out, and the log says so: somebody's note
    about a sample must cost no annotation. Texts are made `printable`; what has more than `MOST_ITEMS` values is left
    out as well. Access tags are never left out.
    """
    copied = {}
    for name, plain in COPIED_FIELDS.items():
        if start.get(name) is None:
            continue
        try:
            copied[name] = plain(start[name])
            if name != ACCESS_TAGS and (items := _count(copied[name])) > MOST_ITEMS:
                del copied[name]
                raise ValueError(f"it has {items} values, more than {MOST_ITEMS}")
        except (TypeError, ValueError, RecursionError) as error:
            logger.warning(
                "the field %r of run %s is not copied: %s", name, start.get("uid"), printable(str(error))
            )
    return copied


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError("an integer is too large")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [None if item is None else _plain(item) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key or "." in key or "/" in key:
                raise ValueError(f"the key {key!r} is no text without dots and slashes")
        return {_text(key): None if item is None else _plain(item) for key, item in value.items()}
    raise TypeError(f"there is no JSON for {type(value).__name__}")


def _integer(value: object) -> int:
    number = whole(value)
    if number is None or abs(number) > LARGEST_INTEGER:
        raise TypeError(f"it must be an integer, not {type(value).__name__}")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it must be text, not {type(value).__name__}")
    return printable(value)


def _tags(value: object) -> list[str]:
    """Return access tags; one that is no text is one of that text, which an access policy refuses unless it knows it.

    Without it, people would see annotations of a run that they may not see.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    tags = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return [printable(tag if isinstance(tag, str) else repr(tag), MOST_OF_A_NAME) for tag in tags]


def _count(value: Any) -> int:
    """Return how many values plain JSON has, its containers and keys among them."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


COPIED_FIELDS: Mapping[str, Callable[[object], Any]] = {
    "scan_id": _integer,
    "sample_name": _plain,
    "proposal": _plain,
    "data_session": _text,
    "beamline_id": _plain,
    ACCESS_TAGS: _tags,
}
"""With what makes plain JSON of each."""
