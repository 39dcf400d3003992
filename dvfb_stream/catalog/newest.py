"""Which of several analyses of the same frames is the newest: all others say by which they are superseded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiled.queries import Key, KeyPresent

from dvfb_stream.catalog.place import KIND
from dvfb_stream.catalog.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from tiled.client.container import Container

SUPERSEDED_BY = "superseded_by"
"""In ``start.analysis`` of an analysis run that is not the newest of its frames: uid of the one that is. It is there
because Bluesky's client searches in start and stop alone, and the stop is away while rows are replaced."""

BEGUN = "begun"
"""Metadata of an analysis run: when it was begun to be written, or made the newest, in seconds since 1970 by its
writer's clock. Its documents have the times of the raw run, which all analyses of that run share."""

_LOOKS = 5
"""How often marks that others may have changed meanwhile are looked at, before they are left to the next call."""


def newest(annotations: Any) -> Any:
    """Return the search for the analysis runs that no other supersedes; search on with any further condition.

    Of those with a stop there is one for each stream and data key of a raw run, however often, with whatever models
    and geometries it was annotated. Those that are being written are not marked yet. Runs of versions without marks
    are all found.

    Parameters
    ----------
    annotations
        Tiled client of a container of analysis runs, or a search in one.
    """
    return annotations.search(KeyPresent(f"start.analysis.{SUPERSEDED_BY}", exists=False))


def supersede(runs: Container, start: Mapping[str, Any]) -> None:
    """Mark the analyses of some frames, such that the newest of the finished has no mark and the others name it.

    To be called when the stop of one of them is stored, by whoever stored it, or finds it stored: of several that
    end at a time, the last that looks sees them all. It writes nothing where all is marked as it should be.

    Parameters
    ----------
    runs
        Plain Tiled client of the container of analysis runs.
    start
        Start document of one of them.

    Raises
    ------
    StoreUnavailableError
        When others change the marks all the time.
    Exception
        What Tiled's client raises.
    """
    analysis = start.get("analysis") or {}
    if "parent" not in analysis:
        return
    for _ in range(_LOOKS):
        if not _marked(_analyses(runs, analysis)):
            return
    raise StoreUnavailableError(
        f"the analyses of run {analysis['parent']} are marked by others again and again; it is tried again"
    )


def begin_anew(run: Any) -> None:
    """Let an analysis run count as begun now; then call `supersede`."""
    run.patch_metadata([{"op": "add", "path": f"/{BEGUN}", "value": time.time()}], drop_revision=True)


def _analyses(runs: Container, analysis: Mapping[str, Any]) -> list[Any]:
    """Return the runs of the same frames, as they were made one after the other."""
    found = runs.search(Key("start.analysis.parent") == analysis["parent"])
    same = ("kind", "stream", "data_key")
    ours = {"kind": KIND, "stream": analysis.get("stream"), "data_key": analysis.get("data_key")}
    return [
        run
        for run in found.values()
        if all(run.metadata["start"]["analysis"].get(name) == ours[name] for name in same)
    ]


def superseded_by(run: Any) -> str | None:
    """Return the uid of the analysis that supersedes a run, as its client knows it; None for the newest."""
    uid: str | None = run.metadata["start"]["analysis"].get(SUPERSEDED_BY)
    return uid


def _marked(analyses: list[Any]) -> bool:
    """Write the marks that are missing or wrong; return whether there were any."""
    # One without a stop is marked by who finishes it: Tiled reads, changes and writes metadata in three steps, in
    # which a stop that comes at that moment would be lost.
    finished = [run for run in analyses if run.metadata.get("stop")]
    if not finished:
        return False
    # Of two that say the same, the one made later; those of versions that did not say it come first.
    _, newest_of_all = max(
        enumerate(finished), key=lambda numbered: (numbered[1].metadata.get(BEGUN, 0.0), numbered[0])
    )
    uid = newest_of_all.item["id"]
    mark = {"path": f"/start/analysis/{SUPERSEDED_BY}"}
    patches = []
    if superseded_by(newest_of_all) is not None:
        # Set before it is removed: Tiled fails over what somebody else has removed already.
        patches.append((newest_of_all, [{"op": "add", "value": uid, **mark}, {"op": "remove", **mark}]))
    patches += [
        (run, [{"op": "add", "value": uid, **mark}])
        for run in finished
        if run is not newest_of_all and superseded_by(run) != uid
    ]
    for run, patch in patches:
        run.patch_metadata(patch, drop_revision=True)
    return bool(patches)
