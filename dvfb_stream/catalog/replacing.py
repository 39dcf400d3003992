"""Puts better rows in the place of those of the same frames, and keeps what these were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow

from dvfb_stream.catalog.holding import Hold
from dvfb_stream.catalog.rewriting import put_in_place
from dvfb_stream.catalog.run_table import FRAME, RunTable, rows_of

if TYPE_CHECKING:
    from tiled.client.container import Container

REPLACED = "reannotated"
"""Metadata of an analysis run: which frames had another row before, by its status: ``{"failed": [[0, 4], [7, 8]]}``,
each from the first to one past the last. In the summary of its stop: how many these are."""

EARLIER_GEOMETRIES = "earlier_geometries"
"""Metadata of an analysis run: what its start said of the geometry before all rows were replaced."""

_STATUS = "status"


def replace_rows(
    run: RunTable, spare: Container, events: Mapping[int, Mapping[str, Any]], hold: Hold
) -> None:
    """Replace the rows of some frames; those of other frames stay.

    The run has no stop while this is going on, nor afterwards: whoever finishes it sums its rows up anew. Killed on
    the way, the rows are either those from before or the new ones, and the run is one that was not finished. Only the
    holder of the run's lease may call it.

    Parameters
    ----------
    run
        The run.
    spare
        Plain Tiled client of the container for the copy.
    events
        By frame; of a frame that has no row yet it becomes the row.
    hold
        On the run.

    Raises
    ------
    StoreUnavailableError
        When rows were not there when they were read back.
    StoreRefusedError
        When an event does not fit the table.
    Exception
        What Tiled's client raises.
    """
    better = run.rows(list(events.values()))
    stored = rows_of(run.table)
    schema = better.schema
    is_replaced = np.isin(stored[FRAME].to_numpy(), list(events))
    kept = stored.filter(pyarrow.array(~is_replaced)).select(schema.names).cast(schema)
    record = _record_of(run, stored.filter(pyarrow.array(is_replaced)), is_whole=not len(kept))
    rows = pyarrow.concat_tables([kept, better]).sort_by(FRAME)

    def keep_what_was() -> None:
        run.run.update_metadata(record, drop_revision=True)

    # Without a stop first: whoever is killed below leaves a run that is finished, and summed up, by the next writer.
    if run.run.metadata.get("stop"):
        run.run.update_metadata({"stop": None}, drop_revision=True)
    # Before the rows: of a frame that is given again because its row is still the old one, they are written again.
    run.arrays.put(events, hold.keep)
    put_in_place(run, spare, rows, hold, before=keep_what_was)
    run.run.refresh()


def replaced_frames(metadata: Mapping[str, Any]) -> int:
    """Return how many frames of an analysis run had another row before."""
    ranges = [part for parts in (metadata.get(REPLACED) or {}).values() for part in parts]
    return len(_frames_in(ranges))


def _record_of(run: RunTable, replaced: pyarrow.Table, *, is_whole: bool) -> dict[str, Any]:
    run.run.refresh()
    metadata = run.run.metadata_copy()[0]
    known = metadata.get(REPLACED) or {}
    frames, statuses = replaced[FRAME].to_numpy(), np.array(replaced[_STATUS].to_pylist(), dtype=object)
    record: dict[str, Any] = {
        REPLACED: {
            status: _ranges_of({*_frames_in(known.get(status, [])), *frames[statuses == status].tolist()})
            for status in {*known, *statuses}
        }
    }
    before = metadata["start"]["analysis"].get("geometry")
    now = run.documents.start["analysis"].get("geometry")
    if now != before and now is not None and (before is None or is_whole):
        # Merged into the old one key by key, which both have all.
        record["start"] = {"analysis": {"geometry": dict(now)}}
        if before is not None:
            record[EARLIER_GEOMETRIES] = [*metadata.get(EARLIER_GEOMETRIES, []), before]
    return record


def _ranges_of(frames: Iterable[int]) -> list[list[int]]:
    numbers = np.array(sorted(frames), np.int64)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [[int(part[0]), int(part[-1]) + 1] for part in runs if len(part)]


def _frames_in(ranges: Iterable[Iterable[int]]) -> set[int]:
    return {frame for start, stop in ranges for frame in range(start, stop)}
