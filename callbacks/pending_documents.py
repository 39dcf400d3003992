"""Documents that came before the one they name: kept, within bounds, until that one comes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dvfb_stream.callbacks.document_fields import Document, DocumentError, NotKnownYetError, size_of

logger = logging.getLogger(__name__)

MOST_DOCUMENTS = 10_000
MOST_BYTES = 1 << 26
"""What a run's first seconds bring, its images included, and no more: who joins in the middle of a run waits for a
descriptor that will never come."""

_RUN, _DESCRIPTOR = "of a run", "is a descriptor"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """A document that waits."""

    number: int
    """How many documents had come when it began to wait."""
    name: str
    doc: Document
    n_bytes: int
    missing: NotKnownYetError
    """What it waits for."""


class PendingDocuments:
    """Holds documents by what they wait for; not locked."""

    def __init__(self, *, most_documents: int = MOST_DOCUMENTS, most_bytes: int = MOST_BYTES) -> None:
        self._most_documents = most_documents
        self._most_bytes = most_bytes
        self._held: dict[Pending, None] = {}
        self._found_by: dict[tuple[str, str], dict[Pending, None]] = {}
        """See `_keys`; each in the order in which they came."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, number: int, name: str, doc: Document, missing: NotKnownYetError) -> list[Pending]:
        """Keep a copy of a document; return those that have to leave for it, the oldest.

        Raises
        ------
        DocumentError
            When it is larger than all that may wait together.
        """
        n_bytes = size_of(doc)
        if n_bytes > self._most_bytes:
            raise DocumentError(
                f"{missing}; and with {n_bytes} bytes the document is too large to wait for it"
            )
        if (missing.kind, missing.uid) not in self._found_by:
            logger.info("documents wait for the %s %r, which did not come yet", missing.kind, missing.uid)
        # An array may be the detector's own buffer, which the next exposure overwrites.
        held = Pending(number=number, name=name, doc=copy.deepcopy(doc), n_bytes=n_bytes, missing=missing)
        self._held[held] = None
        for key in _keys(held):
            self._found_by.setdefault(key, {})[held] = None
        self._bytes += n_bytes
        leaving = []
        while len(self._held) > self._most_documents or self._bytes > self._most_bytes:
            leaving += self._take([next(iter(self._held))])
        return leaving

    def release(self, kind: str, uid: str) -> list[Pending]:
        """Return those that waited for a document, in the order in which they came; they wait no longer."""
        return self._take(self._found_by.get((kind, uid), ()))

    def of_run(self, run: str) -> list[Pending]:
        """Return those that are known to belong to a run; they wait no longer."""
        return self._take(self._found_by.get((_RUN, run), ()))

    def empty(self) -> list[Pending]:
        """Return all; none waits any longer."""
        return self._take(self._held)

    def run_of_descriptor(self, uid: str) -> str:
        """Return the run that a descriptor which waits names; empty where there is none."""
        return next((held.missing.run for held in self._found_by.get((_DESCRIPTOR, uid), ())), "")

    def _take(self, meant: Iterable[Pending]) -> list[Pending]:
        taken = list(meant)
        for held in taken:
            del self._held[held]
            self._bytes -= held.n_bytes
            for key in _keys(held):
                del self._found_by[key][held]
                if not self._found_by[key]:
                    del self._found_by[key]
        return taken


def _keys(held: Pending) -> Iterator[tuple[str, str]]:
    """Yield what a document is found by: what it waits for, its run, and a descriptor its own uid."""
    yield held.missing.kind, held.missing.uid
    if held.missing.run:
        yield _RUN, held.missing.run
    uid = held.doc.get("uid")
    if held.name == "descriptor" and isinstance(uid, str):
        yield _DESCRIPTOR, uid
