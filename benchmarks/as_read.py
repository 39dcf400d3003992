"""What an ordinary client reads of an analysis run: each frame once, in order, or what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tiled.queries import Key

from dvfb_stream.catalog.place import find_place


def as_read(client: Any, raw_uid: str, frames: int) -> dict[str, Any]:
    """Read the analysis run of a raw run with Bluesky's client, and compare it with the frames that were taken.

    Parameters
    ----------
    client
        Of the container of raw runs.
    raw_uid
        Of the raw run.
    frames
        How many it has.

    Returns
    -------
    dict
        ``rows``, and of them ``missing`` and ``doubled``; ``in_order``; ``stop_says``, the frames of its summary,
        None without a stop.
    """
    place = find_place(client)
    found = [] if place is None else list(place.search(Key("start.analysis.parent") == raw_uid).values())
    rows, stop = _rows(found[0]) if found else ([], None)
    return compared(rows, frames) | {
        "analysis_runs": len(found),
        "stop_says": stop and stop["summary"]["frames"],
    }


def compared(rows: Sequence[int], frames: int) -> dict[str, Any]:
    """Compare the frames of rows, as they are read, with those that there should be."""
    times = Counter(rows)
    return {
        "rows": len(rows),
        "missing": sum(frame not in times for frame in range(frames)),
        "doubled": sum(count - 1 for count in times.values()),
        "in_order": list(rows) == sorted(rows),
    }


def is_whole(read: dict[str, Any]) -> bool:
    """Return whether a run is as it should be."""
    return bool(read["rows"] and not read["missing"] and not read["doubled"] and read["in_order"])


def _rows(run: Any) -> tuple[list[int], dict[str, Any] | None]:
    stop = run.metadata.get("stop")
    stream = run.get("annotations")
    return ([] if stream is None else stream["frame"].read().tolist()), stop
