"""Decides what is to be done with the images of a raw run, some of which may have been annotated before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from dvfb_stream.annotations import Status
from dvfb_stream.callbacks.analysis_run import analysis_uid
from dvfb_stream.catalog.newest import superseded_by
from dvfb_stream.catalog.place import table_of_run
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.history.stored_documents import ImageKey


@dataclass(frozen=True, slots=True)
class Again:
    """Which stored rows may be replaced."""

    statuses: frozenset[Status]
    """Rows of these."""

    def __post_init__(self) -> None:
        if not self.statuses:
            raise SettingsError("no status is named; rows are ok, failed or dropped")

    @property
    def is_whole(self) -> bool:
        """Whether all rows may be: an analysis is asked for anew, which with another geometry is another one."""
        return self.statuses == frozenset(Status)

    def may_replace(self, before: str, now: str) -> bool:
        """Return whether a row of one status gives way to one of another, which says no less."""
        is_better = before != now or before == Status.OK
        return Status(before) in self.statuses and is_better


class Way(Enum):
    """What is done with the rows of one data key."""

    NOTHING = auto()
    """They are there, or nobody asked for them."""
    COMPLETE = auto()
    """Those that are missing are made; those that are there stay."""
    REPLACE = auto()
    """Better ones take the place of some."""
    MAKE_NEWEST = auto()
    """They are there as they are asked for, and another analysis supersedes them."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done with one data key of a raw run."""

    uid: str
    """Of the analysis run that it is about."""
    way: Way
    geometry_in_uid: str = ""
    """Digest of the geometry, where that is in the uid: of an analysis beside that with the first geometry."""
    other_geometry: bool = False
    """Whether what is stored was made with another geometry than is given, and stays."""
    without_arrays: bool = False
    """Whether what is stored lacks arrays that are asked for, and stays so."""


def due(
    key: ImageKey,
    raw_uid: str,
    model: Mapping[str, Any],
    *,
    given: Geometry | None,
    stored: Mapping[str, Any],
    again: Again | None,
    arrays: Collection[str] = (),
) -> Due:
    """Return what is to be done with one data key.

    The first analysis of it by a model has the uid that live annotation gives, whatever its geometry. One with
    another geometry has another uid, and is made only where all rows are asked for again. What has no row by the
    first geometry, because it was missing or wrong, is mended where it is.

    Parameters
    ----------
    key
        The data key.
    raw_uid
        uid of the raw run.
    model
        As `analysis_uid` takes it.
    given
        Geometry of its frames; None: it is not known, or it moves, which their rows alone tell.
    stored
        Tiled clients of the analysis runs of the raw run, by uid.
    again
        Rows that may be replaced; None: none.
    arrays
        Names of those that each row is to have.
    """
    first = analysis_uid(raw_uid, key.stream, key.data_key, model)
    digest = "" if given is None else given.digest
    beside = analysis_uid(raw_uid, key.stream, key.data_key, model, geometry=digest) if digest else first
    if beside != first and (run := stored.get(beside)) is not None:
        way = _way(run, again, is_beside=True, lacks_arrays=_lacks(run, arrays))
        return Due(beside, way, digest, without_arrays=way is Way.NOTHING and _lacks(run, arrays))
    run = stored.get(first)
    if run is None:
        return Due(first, Way.COMPLETE if again is None else Way.NOTHING)
    is_other = bool(digest) and digest != _geometry_of(run)
    if again is None:
        if not run.metadata.get("stop"):
            return Due(first, Way.COMPLETE)
        return Due(first, Way.NOTHING, other_geometry=is_other, without_arrays=_lacks(run, arrays))
    if is_other and _stays(run, again):
        if again.is_whole:
            return Due(beside, Way.COMPLETE, digest)
        return Due(first, Way.NOTHING, other_geometry=True)
    return Due(first, _way(run, again, is_beside=False, lacks_arrays=_lacks(run, arrays)))


def _lacks(run: Any, arrays: Collection[str]) -> bool:
    return not set(arrays) <= set(run.metadata["start"]["analysis"].get("arrays") or {})


def _way(run: Any, again: Again | None, *, is_beside: bool, lacks_arrays: bool) -> Way:
    """Return what is to be done with a stored run, with the geometry that it has."""
    if not run.metadata.get("stop"):
        # Begun and never ended: a call that was killed goes on.
        return Way.COMPLETE if is_beside else Way.REPLACE
    if again is None:
        return Way.NOTHING
    if again.is_whole and is_beside and not lacks_arrays:
        # Only who asked for this very geometry has made it: what a killed call has finished is not made twice.
        return Way.NOTHING if superseded_by(run) is None else Way.MAKE_NEWEST
    found = {Status(status) for status in stored_statuses(run).values()}
    return Way.REPLACE if found & again.statuses else Way.NOTHING


def _geometry_of(run: Any) -> str | None:
    geometry = run.metadata["start"]["analysis"].get("geometry")
    return None if geometry is None else str(geometry["sha256"])


def _stays(run: Any, again: Again) -> bool:
    """Return whether a run has rows that another geometry must not be mixed with."""
    if _geometry_of(run) is None and not again.is_whole:
        return False
    summary = (run.metadata.get("stop") or {}).get("summary") or {}
    if "frames" in summary:
        return bool(summary["frames"] > summary.get("failed", 0) + summary.get("dropped", 0))
    return Status.OK in stored_statuses(run).values()


def stored_statuses(run: Any) -> dict[int, str]:
    """Return the status of each frame of a stored analysis run; none where it has no table yet."""
    table = table_of_run(run)
    if table is None:
        return {}
    rows = table.read(columns=["frame", "status"])
    return dict(zip(rows["frame"].astype(int).tolist(), rows["status"].tolist(), strict=True))
