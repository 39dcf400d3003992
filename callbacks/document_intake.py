"""Takes the documents of raw runs, in whatever order they come, and finds the frames in them."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Mapping
from typing import Protocol

from dvfb_stream.callbacks.descriptor import Detectors
from dvfb_stream.callbacks.documents import (
    Document,
    DocumentError,
    NotKnownYetError,
    RepeatedError,
    moment,
    text,
)
from dvfb_stream.callbacks.frame_sequence import FrameSequence
from dvfb_stream.callbacks.pending_documents import Held, PendingDocuments
from dvfb_stream.callbacks.raw_events import RawEvents
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.rejected_documents import RejectedDocuments
from dvfb_stream.callbacks.resource_datum import ResourceDatum
from dvfb_stream.callbacks.runs import EndedError, OpenRun, OpenRuns

logger = logging.getLogger(__name__)

_WITH_FRAMES = ("event", "event_page", "stream_datum")


class TakesRuns(Protocol):
    """What becomes of what the documents say. Called by the thread that documents come in on."""

    def expose(self, run: OpenRun, exposures: Iterator[FrameSequence]) -> None:
        """Take frames of a run; what the iterator raises comes back to who called."""
        ...

    def restart(self, run: OpenRun) -> None:
        """Take note that a run is being delivered again from its start."""
        ...

    def stop(self, run: OpenRun, time: float) -> None:
        """Take note that a run has stopped."""
        ...


class DocumentIntake:
    """Takes documents of interleaved raw runs. Not locked: one document at a time.

    A document that names another which has not come waits for it in the `PendingDocuments`; those that waited for one
    document are taken in the order in which they came. What leaves the room otherwise is left out: when it is full,
    when the run that the document belongs to stops, when the intake is closed. So is what is malformed, or comes
    after the stop of its run; each is logged and counted, and counted in its run where it may have had frames.

    Parameters
    ----------
    detectors
        See `Descriptor`.
    root_map
        Other places for the folders that documents name.
    runs
        Those that are open.
    takes
        What becomes of what the documents say.
    """

    def __init__(
        self,
        detectors: Detectors | None,
        *,
        root_map: Mapping[str, str],
        runs: OpenRuns,
        takes: TakesRuns,
    ) -> None:
        self._detectors = detectors
        self._root_map = root_map
        self._runs = runs
        self._takes = takes
        self._old_resources = ResourceDatum(root_map)
        self._events = RawEvents()
        self._room = PendingDocuments()
        self._left_out = RejectedDocuments()
        self.documents = 0
        """Documents that came."""
        self.repeated = 0
        """Documents that brought nothing new: they had come before."""

    @property
    def left_out(self) -> int:
        """Documents that were left out."""
        return self._left_out.documents

    @property
    def waiting(self) -> int:
        """Documents that wait for others."""
        return len(self._room)

    def take(self, name: str, doc: Document) -> None:
        """Take one document, and those that waited for it. Never raises."""
        self.documents += 1
        due = [(self.documents, name, doc)]
        while due:
            number, name, doc = heapq.heappop(due)
            for held in self._taken(number, name, doc):
                heapq.heappush(due, (held.number, held.name, held.doc))

    def refuse(self, name: str, doc: Document, reason: str) -> None:
        """Count and log a document that is not taken."""
        self.documents += 1
        self._leave_out(name, doc, DocumentError(reason))

    def close(self) -> None:
        """Leave out what waits."""
        self._leave(self._room.empty())

    def _taken(self, number: int, name: str, doc: Document) -> list[Held]:
        """Take one document, hold it, or leave it out; return those that waited for it."""
        try:
            return self._take(number, name, doc)
        except RepeatedError:
            self.repeated += 1
        except NotKnownYetError as missing:
            try:
                self._leave(self._room.hold(number, name, doc, missing))
            except Exception as error:  # noqa: BLE001 - logged there
                self._leave_out(name, doc, error)
        except Exception as error:  # noqa: BLE001 - logged there; nothing may reach a RunEngine from here
            self._leave_out(name, doc, error)
        return []

    def _take(self, number: int, name: str, doc: Document) -> list[Held]:
        if not isinstance(doc, Mapping):
            raise DocumentError(f"a document must be a mapping, not {type(doc).__name__}")
        match name:
            case "start":
                self._begin(number, doc)
                return self._room.released("start", text(doc, "uid"))
            case "descriptor":
                return self._describe(doc)
            case "stream_resource":
                run = self._runs.run(text(doc, "run_start"))
                run.raw.add_stream_resource(doc)
                self._runs.keep_within_bounds()
                return self._room.released("stream_resource", text(doc, "uid"))
            case "resource":
                self._old_resources.add_resource(doc)
                return self._room.released("resource", text(doc, "uid"))
            case "datum":
                self._old_resources.add_datum(doc)
            case "datum_page":
                self._old_resources.add_datum_page(doc)
            case "event":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._takes.expose(run, run.raw.exposures_in_event(doc))
            case "event_page":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._takes.expose(run, run.raw.exposures_in_event_page(doc))
            case "stream_datum":
                run = self._runs.run_of_descriptor(text(doc, "descriptor"))
                self._takes.expose(run, run.raw.exposures_in_stream_datum(doc))
            case "stop":
                run = self._runs.run(text(doc, "run_start"))
                # Not the time of day, which a replay would not repeat.
                self._stop(run, moment(doc, default=run.raw.time))
            case "bulk_events" | "bulk_datum":
                raise DocumentError(
                    f"documents of the old kind {name!r} are not read; no version of Bluesky emits them"
                )
            case _:
                raise DocumentError(f"there is no kind of document called {name!r}")
        return []

    def _begin(self, number: int, doc: Document) -> None:
        raw = RawRun(
            doc,
            self._detectors,
            root_map=self._root_map,
            old_resources=self._old_resources,
            events=self._events,
            delivery=number,
        )
        again = self._runs.begin(raw)
        if again is not None:
            logger.info("run %s is delivered again", raw.uid)
            self._takes.restart(again)

    def _describe(self, doc: Document) -> list[Held]:
        uid = text(doc, "uid")
        try:
            run = self._runs.run(text(doc, "run_start"))
        except EndedError:
            self._runs.descriptor_came_too_late(uid)
            self._leave(self._room.released("descriptor", uid))
            raise
        run.raw.add_descriptor(doc)
        self._runs.add_descriptor(uid, run)
        self._left_out.images(run.raw.overlooked_images(doc), described=self._detectors or ())
        released = self._room.released("descriptor", uid)
        if run.delivered_again:
            # What came before the second start comes once more after it.
            return [held for held in released if held.number > run.raw.delivery]
        return released

    def _stop(self, run: OpenRun, time: float) -> None:
        self._leave(self._room.of_run(run.raw.uid))
        self._runs.stop(run)
        try:
            self._takes.expose(run, run.raw.lost_exposures())
        finally:
            self._takes.stop(run, time)

    def _leave(self, leaving: list[Held]) -> None:
        for held in leaving:
            self._leave_out(held.name, held.doc, held.missing)

    def _leave_out(self, name: str, doc: Document, error: Exception) -> None:
        self._left_out.document(name, doc, error)
        if not (isinstance(name, str) and name in _WITH_FRAMES and isinstance(doc, Mapping)):
            return
        try:
            self._runs.run_of_descriptor(text(doc, "descriptor")).raw.left_out += 1
        except DocumentError:
            return  # it is not known whose it was
