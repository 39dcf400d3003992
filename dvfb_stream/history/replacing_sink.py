"""A sink that puts better rows in the place of stored ones, and touches no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.annotations import Status
from dvfb_stream.catalog.search import annotations_table
from dvfb_stream.catalog.store import AnnotationStore

_WORTH = {Status.DROPPED: 0, Status.FAILED: 1, Status.OK: 2}
"""How much a row says. None is replaced by one that says less: a folder that is not mounted today costs no label."""


@dataclass(slots=True)
class _OpenRun:
    start: dict[str, Any]
    descriptor: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


class ReplacingSink:
    """Takes the documents of analysis runs anew, and replaces the rows that may be.

    At its stop, each run's table is written anew once, if any row got better.

    Parameters
    ----------
    store
        Where the runs are.
    may_replace
        Called with the stored status of a frame's row and the new one: whether the new row takes its place.
    find
        Called with an analysis run's uid: returns Tiled's client of it, None where it is not stored.
    """

    def __init__(
        self,
        store: AnnotationStore,
        may_replace: Callable[[str, str], bool],
        find: Callable[[str], Any | None],
    ) -> None:
        self._store = store
        self._may_replace = may_replace
        self._find = find
        self._open: dict[str, _OpenRun] = {}
        self._run_of_descriptor: dict[str, str] = {}
        self.replaced = 0
        """Rows so far."""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document of an analysis run.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When better rows could not be stored; those from before are there.
        """
        match name:
            case "start":
                self._open[doc["uid"]] = _OpenRun(doc)
            case "descriptor":
                self._open[doc["run_start"]].descriptor = doc
                self._run_of_descriptor[doc["uid"]] = doc["run_start"]
            case "event":
                self._open[self._run_of_descriptor[doc["descriptor"]]].events.append(doc)
            case "stop":
                run = self._open.pop(doc["run_start"])
                self._run_of_descriptor.pop(run.descriptor["uid"])
                self._replace(run, doc)

    def _replace(self, run: _OpenRun, stop: dict[str, Any]) -> None:
        stored = self._find(run.start["uid"])
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
        self.replaced += len(better)

    def _is_better(self, row: Mapping[str, Any], stored: Mapping[int, str]) -> bool:
        before, now = stored.get(row["frame"]), row["status"]
        return (
            before is not None
            and _WORTH[Status(now)] >= _WORTH[Status(before)]
            and self._may_replace(before, now)
        )


def stored_statuses(run: Any) -> dict[int, str]:
    """Return the status of each frame of a stored analysis run; none where it has no table yet."""
    table = annotations_table(run)
    if table is None:
        return {}
    rows = table.read(columns=["frame", "status"])
    return dict(zip(rows["frame"].astype(int).tolist(), rows["status"].tolist(), strict=True))
