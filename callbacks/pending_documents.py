"""Documents that came before the one they name: kept, within bounds, until that one comes."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass

from dvfb_stream.callbacks.documents import Document, DocumentError, NotKnownYetError, size_of

logger = logging.getLogger(__name__)

MOST_DOCUMENTS = 10_000
MOST_BYTES = 1 << 26
"""Documents overtake one another by a few places. These bounds hold what a run's first seconds bring, its images
included, and no more: who joins in the middle of a run waits for a descriptor that will never come."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """A document that waits."""

    number: int
    """In the order in which documents came."""
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
        self._held: dict[int, Held] = {}
        self._numbers: dict[tuple[str, str], list[int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, number: int, name: str, doc: Document, missing: NotKnownYetError) -> list[Held]:
        """Keep a copy of a document; return those that have to leave for it, the oldest.

        Raises
        ------
        DocumentError
            When it is larger than the room.
        """
        n_bytes = size_of(doc)
        if n_bytes > self._most_bytes:
            raise DocumentError(
                f"{missing}; and with {n_bytes} bytes the document is too large to wait for it"
            )
        # An array may be the detector's own buffer, which the next exposure overwrites.
        held = Held(number=number, name=name, doc=copy.deepcopy(doc), n_bytes=n_bytes, missing=missing)
        self._held[number] = held
        self._numbers.setdefault((missing.kind, missing.uid), []).append(number)
        self._bytes += n_bytes
        if len(self._numbers[missing.kind, missing.uid]) == 1:
            logger.info("documents wait for the %s %r, which did not come yet", missing.kind, missing.uid)
        leaving = []
        while len(self._held) > self._most_documents or self._bytes > self._most_bytes:
            leaving.append(self._remove(next(iter(self._held))))
        return leaving

    def released(self, kind: str, uid: str) -> list[Held]:
        """Return those that waited for a document, which has come; they wait no longer."""
        return [self._remove(number) for number in list(self._numbers.get((kind, uid), ()))]

    def of_run(self, run: str) -> list[Held]:
        """Return those that are known to belong to a run, which has stopped; they wait no longer."""
        return [self._remove(held.number) for held in list(self._held.values()) if held.missing.run == run]

    def empty(self) -> list[Held]:
        """Return all; none waits any longer."""
        return [self._remove(number) for number in list(self._held)]

    def _remove(self, number: int) -> Held:
        held = self._held.pop(number)
        self._bytes -= held.n_bytes
        awaited = (held.missing.kind, held.missing.uid)
        self._numbers[awaited].remove(number)
        if not self._numbers[awaited]:
            del self._numbers[awaited]
        return held
