"""Fields of Bluesky documents, taken out with the care that documents from elsewhere need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dvfb_stream.errors import DvfbError

Document = Mapping[str, Any]

MAX_EXPOSURES_IN_A_DOCUMENT = 100_000
"""A document that claims more is refused: a day of a fast detector comes in many documents, a typing error or
an attack in one."""


class DocumentError(DvfbError):
    """A document that no sequence of Bluesky documents can contain."""


def text(doc: Document, field: str) -> str:
    """Return a field that must be text, and not empty; DocumentError otherwise."""
    value = doc.get(field)
    if not isinstance(value, str) or not value:
        raise DocumentError(f"the field {field!r} must be text, not {value!r}")
    return value


def mapping(doc: Document, field: str) -> Document:
    """Return a field that must be a mapping; DocumentError otherwise."""
    value = doc.get(field)
    if not isinstance(value, Mapping):
        raise DocumentError(f"the field {field!r} must be a mapping, not {type(value).__name__}")
    return value


def moment(doc: Document, *, default: float) -> float:
    """Return a document's time, or `default` where it has none: a row is worth more than its clock."""
    try:
        value = float(doc.get("time", default))
    except (TypeError, ValueError):
        return default
    return value if math.isfinite(value) else default
