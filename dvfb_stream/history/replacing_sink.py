"""A sink that puts better rows in the place of stored ones, completes what was begun, and touches no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.annotations import Status
from dvfb_stream.catalog.newest import superseded_by
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.history.due import Again, Due, Way, stored_statuses

_ROWS_A_CALL = 64
"""Rows of a run that is made anew which are written at a time; the store reads back after each."""

_WORTH = {Status.DROPPED: 0, Status.FAILED: 1, Status.OK: 2}
"""How much a row says. None is replaced by one that says less: a folder that is not mounted today costs no label."""


@dataclass(slots=True)
class _OpenRun:
    start: dict[str, Any]
    way: Way
    descriptor: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


class ReplacingSink:
    """Takes the documents of analysis runs anew, and stores what is asked for.

    Of a run whose rows may be replaced, the table is written anew once, at its stop, if any row got better. One that
    is to be completed is written as its rows come.

    Parameters
    ----------
    store
        Where the runs are.
    again
        Which rows may be replaced.
    find
        Called with an analysis run's uid: returns Tiled's client of it, None where it is not stored.
    """

    def __init__(
        self,
        store: AnnotationStore,
        again: Again,
        find: Callable[[str], Any | None],
    ) -> None:
        self._store = store
        self._again = again
        self._find = find
        self._ways: dict[str, Way] = {}
        self._open: dict[str, _OpenRun] = {}
        self._run_of_descriptor: dict[str, str] = {}
        self.replaced = 0
        """Rows so far."""
        self.beside = 0
        """Analysis runs so far that were made, or completed, beside one with another geometry."""

    def expect(self, dues: Iterable[Due]) -> None:
        """Take note of what is to be done with the analysis runs of the raw run that comes next, and of no other."""
        self._ways = {due.uid: due.way for due in dues}
        self._open.clear()  # of runs that ended with an error
        self._run_of_descriptor.clear()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document of an analysis run.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When better rows could not be stored; those from before are there.
        """
        match name:
            case "start":
                self._open[doc["uid"]] = _OpenRun(doc, self._ways.get(doc["uid"], Way.NOTHING))
            case "descriptor":
                self._open[doc["run_start"]].descriptor = doc
                self._run_of_descriptor[doc["uid"]] = doc["run_start"]
            case "event":
                self._take_row(self._open[self._run_of_descriptor[doc["descriptor"]]], doc)
            case "stop":
                run = self._open.pop(doc["run_start"])
                self._run_of_descriptor.pop(run.descriptor["uid"])
                if run.way is Way.REPLACE:
                    self._replace(run, doc)
                elif run.way is Way.COMPLETE:
                    self._store.write(run.start, run.descriptor, run.events)
                    self._store.finish(run.start, run.descriptor, doc)
                    self.beside += 1

    def _take_row(self, run: _OpenRun, event: dict[str, Any]) -> None:
        if run.way not in (Way.REPLACE, Way.COMPLETE):
            return
        run.events.append(event)
        if run.way is Way.COMPLETE and len(run.events) >= _ROWS_A_CALL:
            self._store.write(run.start, run.descriptor, run.events)
            run.events.clear()

    def _replace(self, run: _OpenRun, stop: dict[str, Any]) -> None:
        uid = run.start["uid"]
        stored = self._find(uid)
        if stored is None:
            return
        is_finished = bool(stored.metadata.get("stop"))
        if not is_finished:
            # Begun and never ended, by a replacement that was killed perhaps: what is missing comes.
            self._store.write(run.start, run.descriptor, run.events)
        before = stored_statuses(stored)
        better = [event for event in run.events if self._is_better(event["data"], before)]
        if better:
            self._store.replace(run.start, run.descriptor, better)
        if better or not is_finished:
            self._store.finish(run.start, run.descriptor, stop)
        if better and self._again.is_whole and superseded_by(stored) is not None:
            self._store.make_newest(uid)
        self.replaced += len(better)

    def _is_better(self, row: Mapping[str, Any], stored: Mapping[int, str]) -> bool:
        before, now = stored.get(row["frame"]), row["status"]
        return (
            before is not None
            and _WORTH[Status(now)] >= _WORTH[Status(before)]
            and self._again.may_replace(before, now)
        )
