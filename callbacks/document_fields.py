"""Fields of Bluesky documents, taken out with the care that documents from elsewhere need."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from dvfb_stream.errors import DvfbError
from dvfb_stream.texts import MOST_OF_A_NAME, printable

Document = Mapping[str, Any]

MAX_FRAMES_IN_A_DOCUMENT = 100_000
"""A document that claims more is refused: a day of a fast detector comes in many documents, a typing error or
an attack in one."""


MOST_OF_A_FIELD = 10_000
"""Characters of a uid or an address; a path has 4,096 at most, and three times as many where it is quoted."""


EARLIEST, LATEST = -62_000_000_000.0, 253_000_000_000.0
"""Seconds since 1970, in the years 5 and 9987: beyond, Python and databases have no dates."""


class DocumentError(DvfbError):
    """A document that no sequence of Bluesky documents can contain."""


class NotKnownYetError(DocumentError):
    """A document that names another which has not come; it may yet.

    Parameters
    ----------
    kind, uid
        Which document is missing: ``start``, ``descriptor``, ``resource`` or ``stream_resource``.
    run
        Uid of the raw run that the document belongs to, where that is known.
    """

    def __init__(self, kind: str, uid: str, *, run: str = "") -> None:
        super().__init__(f"the {kind} {uid!r} is not known here: it did not come, or its run has ended")
        self.kind = kind
        self.uid = uid
        self.run = run


class RepeatedError(DocumentError):
    """A document that brings nothing new: it came before."""


def text(doc: Document, field: str) -> str:
    """Return a field that must be text, and not empty; DocumentError otherwise.

    So it is where it has more than `MOST_OF_A_FIELD` characters, or some that no file and no catalog can name.
    """
    value = doc.get(field)
    if not isinstance(value, str) or not value:
        raise DocumentError(f"the field {field!r} must be text, not {printable(repr(value), MOST_OF_A_NAME)}")
    if len(value) > MOST_OF_A_FIELD:
        raise DocumentError(f"the field {field!r} has {len(value)} characters, more than {MOST_OF_A_FIELD}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise DocumentError(f"the field {field!r} holds characters that no text has: {printable(value)!r}")
    return value


def mapping(doc: Document, field: str) -> Document:
    """Return a field that must be a mapping; DocumentError otherwise."""
    value = doc.get(field)
    if not isinstance(value, Mapping):
        raise DocumentError(f"the field {field!r} must be a mapping, not {type(value).__name__}")
    return value


def whole(value: object) -> int | None:
    """Return an integer as one of Python's, whoever's it is, NumPy's for example; None where it is none."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def moment(doc: Document, *, default: float) -> float:
    """Return a document's time, or `default` where it has none: a row is worth more than its clock."""
    try:
        value = float(doc.get("time", default))
    except (TypeError, ValueError, OverflowError):
        return default
    return value if EARLIEST <= value <= LATEST else default


def size_of(value: object) -> int:
    """Return about how many bytes a document takes, arrays and nested containers included."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + sys.getsizeof(value.dtype)
    size = sys.getsizeof(value, 64)
    if isinstance(value, Mapping):
        return size + sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return size + sum(size_of(item) for item in value)
    return size


def events_of(page: Document) -> list[Document]:
    """Return the events of an EventPage; DocumentError when it is malformed, or has more than is believed."""
    columns = mapping(page, "data")
    times = page.get("time")
    if not isinstance(times, list | tuple | np.ndarray):
        raise DocumentError(f"an event page's time must be a list, not {type(times).__name__}")
    filled = page.get("filled")
    filled = filled if isinstance(filled, Mapping) else {}
    lengths = {len(times), *(len(column) for column in columns.values())}
    if len(lengths) != 1:
        raise DocumentError(f"the columns of an event page must be of one length, not {sorted(lengths)}")
    if len(times) > MAX_FRAMES_IN_A_DOCUMENT:
        raise DocumentError(f"an event page of {len(times)} events is not believed")
    uids, seq_nums = (_column(page.get(name), len(times)) for name in ("uid", "seq_num"))
    return [
        {
            "uid": uids[row],
            "seq_num": seq_nums[row],
            "descriptor": page.get("descriptor"),
            "time": times[row],
            "data": {key: column[row] for key, column in columns.items()},
            "filled": {key: column[row] for key, column in filled.items() if len(column) > row},
        }
        for row in range(len(times))
    ]


def _column(values: object, length: int) -> Sequence[Any]:
    if isinstance(values, list | tuple | np.ndarray) and len(values) == length:
        return list(values)
    return [None] * length
