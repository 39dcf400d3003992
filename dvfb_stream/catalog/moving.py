"""Moves analysis runs that an earlier version put among the raw runs to a place of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tiled.queries import Key

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.place import KIND, PLACE_SPEC, STREAM, TABLE, plain
from dvfb_stream.catalog.run_table import FRAME, data_columns, frames_of, rows_of, times_of
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.catalog.stored_runs import Stored

_ROWS_AT_A_TIME = 1_000

_RAW_FIELDS = ("scan_id", "sample_name", "proposal", "data_session", "beamline_id")
"""What the earlier version copied from the raw start document, so that searches for the raw run found both."""


@dataclass(frozen=True, slots=True)
class MisplacedRun:
    """An analysis run among raw runs."""

    uid: str
    parent: str
    """uid of its raw run."""
    rows: int
    """As they lie there."""
    frames: int
    """Of which each has at least one of the rows."""
    complete: bool
    """Whether it has its stop."""


def misplaced_runs(client: Any) -> Iterator[MisplacedRun]:
    """Find the analysis runs that lie in a container of raw runs.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.

    Raises
    ------
    SettingsError
        When it is no container.
    StoreUnavailableError, StoreRefusedError
        When it cannot be read.
    """
    check_container(client)
    if PLACE_SPEC in {spec.name for spec in client.specs}:
        return
    with told_apart(f"looking for analysis runs in {client.uri}"):
        for uid in list(plain(client).search(Key("start.analysis.kind") == KIND)):
            run = plain(client)[uid]
            table = _table_of(run)
            frames = np.empty(0) if table is None else rows_of(table, [FRAME])[FRAME].to_numpy()
            yield MisplacedRun(
                uid=uid,
                parent=run.metadata["start"]["analysis"]["parent"],
                rows=len(frames),
                frames=len(np.unique(frames)),
                complete=bool(run.metadata.get("stop")),
            )


def move_run(client: Any, uid: str, store: AnnotationStore) -> None:
    """Move one analysis run from among the raw runs to where a store puts it.

    The first row of each frame is written there, in order, and read back; its stop says what is stored, as that of
    any run. What was copied from the raw start document moves to ``start.analysis.raw``. Only when the store says
    that all of it is there is the old run deleted. Interrupted and called again, it goes on.

    Raises
    ------
    StoreUnavailableError, StoreRefusedError
        When it could not be moved; it lies where it was.
    """
    with told_apart(f"reading run {uid}"):
        run = plain(client)[uid]
        table = _table_of(run)
        start, descriptor = _start(run), _descriptor(run)
        stop = run.metadata_copy()[0].get("stop")
        frames = np.empty(0, np.int64) if table is None else frames_of(table)
    if descriptor is None:
        raise StoreRefusedError(
            f"run {uid} has no descriptor, hence no rows that could be moved",
            everything=False,
            cure="it lies where it was; delete it if nobody needs it",
        )
    # Nothing says when it was written; every analysis that was begun in the new place is newer.
    store.write(start, descriptor, [], begun=float(start["time"]))
    for events in _events(table, descriptor["uid"]) if table is not None else ():
        store.write(start, descriptor, events)
    if stop:
        # It counts what was sent; of rows that were lost then, nobody has anything to send again.
        store.finish(start, descriptor, stop | {"num_events": {}})
    there = store.state(uid)
    if there.stored is not (Stored.COMPLETE if stop else Stored.OPEN) or not there.frames.issuperset(
        frames.tolist()
    ):
        raise StoreUnavailableError(
            f"run {uid} was not whole in its new place when it was looked for; it lies where it was"
        )
    with told_apart(f"deleting run {uid} from among the raw runs"):
        plain(client).delete_contents([uid], recursive=True, external_only=False)


def _table_of(run: Any) -> Any | None:
    stream = plain(run).get(STREAM)
    return None if stream is None else plain(stream).get(TABLE)


def _start(run: Any) -> dict[str, Any]:
    start: dict[str, Any] = copy.deepcopy(run.metadata_copy()[0]["start"])
    copied = {name: start.pop(name) for name in _RAW_FIELDS if name in start}
    tags = {"tiled_access_tags": list(run.access_tags)} if run.access_tags else {}
    return start | tags | {"analysis": start["analysis"] | {"raw": copied}}


def _descriptor(run: Any) -> dict[str, Any] | None:
    stream = plain(run).get(STREAM)
    if stream is None:
        return None
    described: dict[str, Any] = stream.metadata_copy()[0]
    names = {
        "name": STREAM,
        "run_start": run.item["id"],
        "object_keys": {"dvfb": list(described["data_keys"])},
    }
    return described | names


def _events(table: Any, descriptor: str) -> Iterator[list[dict[str, Any]]]:
    rows = rows_of(table)
    _, first = np.unique(rows[FRAME].to_numpy(), return_index=True)
    columns = data_columns(table)
    for batch in rows.take(first).to_batches(_ROWS_AT_A_TIME):
        yield [
            {
                "descriptor": descriptor,
                "seq_num": row["seq_num"],
                "time": row["time"],
                "data": {name: row[name] for name in columns},
                "timestamps": times_of(row),
            }
            for row in batch.to_pylist()
        ]
