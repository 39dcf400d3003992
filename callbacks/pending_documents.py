"""Documents that came before the one they name: kept, within bounds, until that one comes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass

from dvfb_stream.callbacks.document_fields import Document, DocumentError, NotKnownYetError, size_of

logger = logging.getLogger(__name__)

MOST_DOCUMENTS = 10_000
MOST_BYTES = 1 << 26
"""What a run's first seconds bring, its images included, and no more: who joins in the middle of a run waits for a
descriptor that will never come."""


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
        self._held: list[Pending] = []
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
        if not any(_waits_for(held, missing.kind, missing.uid) for held in self._held):
            logger.info("documents wait for the %s %r, which did not come yet", missing.kind, missing.uid)
        # An array may be the detector's own buffer, which the next exposure overwrites.
        self._held.append(
            Pending(number=number, name=name, doc=copy.deepcopy(doc), n_bytes=n_bytes, missing=missing)
        )
        self._bytes += n_bytes
        leaving = []
        while len(self._held) > self._most_documents or self._bytes > self._most_bytes:
            leaving.append(self._held.pop(0))
            self._bytes -= leaving[-1].n_bytes
        return leaving

    def release(self, kind: str, uid: str) -> list[Pending]:
        """Return those that waited for a document, in the order in which they came; they wait no longer."""
        return self._take(lambda held: _waits_for(held, kind, uid))

    def of_run(self, run: str) -> list[Pending]:
        """Return those that are known to belong to a run; they wait no longer."""
        return self._take(lambda held: held.missing.run == run)

    def empty(self) -> list[Pending]:
        """Return all; none waits any longer."""
        return self._take(lambda held: True)

    def run_of_descriptor(self, uid: str) -> str:
        """Return the run that a descriptor which waits names; empty where there is none."""
        waiting = (held for held in self._held if held.name == "descriptor" and held.doc.get("uid") == uid)
        return next((held.missing.run for held in waiting), "")

    def _take(self, is_meant: Callable[[Pending], bool]) -> list[Pending]:
        taken = [held for held in self._held if is_meant(held)]
        if taken:
            self._held = [held for held in self._held if not is_meant(held)]
            self._bytes -= sum(held.n_bytes for held in taken)
        return taken


def _waits_for(held: Pending, kind: str, uid: str) -> bool:
    return (held.missing.kind, held.missing.uid) == (kind, uid)
