"""What a partition's journal says: documents of open runs without their pixels, rows, and where to read on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.callbacks.run_progress import RowsSoFar
from dvfb_stream.kafka.journal_records import records, unpacked_document

RESOURCES = ("resource", "stream_resource")
MOST_OF_NO_RUN = 10_000
"""Documents kept of which it is not known to which run they belong."""
_MOST_RESOURCES = 1_000
"""Resources kept of runs that are over: a detector may be staged for later ones, too."""

Place = tuple[str, str, str]
"""Raw run, stream and data key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedDocument:
    """A document that went through the pipeline."""

    offset: int
    since: int
    """Offset from which on its pixels are read again: before its own, where documents had waited for it."""
    waiting: bool
    """Documents waited after it."""
    run: str
    name: str
    published: float | None
    publisher: bytes | None
    in_documents: Sequence[tuple[str, str, int]]
    """As `Accepted` has it."""
    content: bytes
    """As `packed_document` returns it: of most, nobody wants more than where it belongs."""

    @property
    def doc(self) -> dict[str, Any]:
        """The document, without its pixels."""
        return unpacked_document(self.content)

    def record(self) -> list[Any]:
        """Return it as a record."""
        return [
            "document",
            self.offset,
            self.since,
            self.waiting,
            self.run,
            self.name,
            self.published,
            self.publisher,
            [list(each) for each in self.in_documents],
            self.content,
        ]


@dataclass(slots=True)
class JournalState:
    """What a journal says."""

    header: dict[str, Any] = field(default_factory=dict)
    documents: list[NotedDocument] = field(default_factory=list)
    rows: dict[Place, RowsSoFar] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    committed: int | None = None
    at: int | None = None
    """Position with which the file began."""

    @property
    def position(self) -> int | None:
        """From where on documents must be read again: their frames have no rows, and pixels are not kept here."""
        if not self.documents:
            return self.at
        last = self.documents[-1]
        needed = [last.since] if last.waiting else []
        for noted in self.documents:
            for stream, key, end in noted.in_documents if noted.run not in self.over else ():
                rows = self.rows.get((noted.run, stream, key))
                if rows is None or rows.count < end:
                    needed.append(noted.since)
        return min(needed, default=max(last.offset + 1, self.at or 0))

    def before(self, position: int, *, keep_runs_from: int = 0) -> JournalState:
        """Return what whoever reads on at `position` needs; of runs that began before `keep_runs_from`, nothing."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for noted in self.documents:
            first.setdefault(noted.run, noted.offset)
            last[noted.run] = noted.offset
        done = {
            run
            for run in first
            if run and (first[run] < keep_runs_from or (run in self.over and last[run] < position))
        }
        kept, of_no_run, resources = list[NotedDocument](), 0, 0
        for noted in reversed(self.documents):
            if noted.offset >= position:
                continue
            if noted.name in RESOURCES and (not noted.run or noted.run in done):
                resources += 1
                if resources <= _MOST_RESOURCES:
                    kept.append(noted)
            elif not noted.run:
                of_no_run += 1
                if of_no_run <= MOST_OF_NO_RUN:
                    kept.append(noted)
            elif noted.run not in done:
                kept.append(noted)
        rows = {place: so_far for place, so_far in self.rows.items() if place[0] not in done}
        return JournalState(dict(self.header), kept[::-1], rows, self.over - done, self.committed, position)

    def runs(self) -> set[str]:
        """Return the runs of which more than resources is kept."""
        return {noted.run for noted in self.documents if noted.run and noted.name not in RESOURCES}


def read_state(content: bytes, *, boot: str) -> JournalState:
    """Return what a journal says that is certain.

    Parameters
    ----------
    content
        Of the file.
    boot
        Of the system: since it was started, it holds what was written, and else what was written down.
    """
    found = list(records(content))
    if not found or found[0][0] != "header" or not isinstance(found[0][1], dict):
        return JournalState()
    header = found[0][1]
    if not boot or header.get("boot") != boot:
        last = max((number for number, record in enumerate(found) if record[0] == "written down"), default=0)
        found = found[: last + 1]
    state = JournalState(header)
    for record in found[1:]:
        match record:
            case ["document", offset, since, waiting, run, name, published, publisher, in_documents, content]:
                places = [tuple(each) for each in in_documents]
                state.documents.append(
                    NotedDocument(
                        offset=offset,
                        since=since,
                        waiting=waiting,
                        run=run,
                        name=name,
                        published=published,
                        publisher=publisher,
                        in_documents=places,
                        content=content,
                    )
                )
                state.over.discard(run)
            case ["rows", run, stream, key, count, summary]:
                state.rows[run, stream, key] = RowsSoFar(count, summary)
            case ["over", run]:
                state.over.add(run)
            case ["committed", offset]:
                state.committed = offset
            case ["at", position]:
                state.at = position
    return state
