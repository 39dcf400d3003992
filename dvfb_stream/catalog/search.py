"""Finds raw runs by the labels on their frames, and reads the rows that say so."""

from __future__ import annotations

import logging
from typing import Any

from tiled.queries import Key

from dvfb_stream.catalog.newest import newest
from dvfb_stream.catalog.place import KIND, STREAM, TABLE, find_place, places_in, plain
from dvfb_stream.errors import SettingsError, check_at_least
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.rows import COLUMNS, row_of

logger = logging.getLogger(__name__)


def find_runs(client: Any, label: str, min_frames: int = 1) -> list[str]:
    """Return the uids of the raw runs in which `label` was accepted on at least `min_frames` frames.

    One query on the summaries of the analysis runs, which the server answers; no rows are read. A raw run
    appears once, however many detectors found the label in it. Of several analyses of the same frames, by other
    models or with other geometries, the newest counts (`dvfb_stream.catalog.newest`). Runs whose annotation is not
    finished have no summary yet.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in.
    label
        One of `dvfb_stream.labels.ALL_LABELS`.
    min_frames
        Least number of frames, counted for each data key of a run separately.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no such label, or `min_frames` is below 1.
    """
    return _runs_with(client, label, "count", min_frames)


def find_doubtful_runs(client: Any, label: str, min_frames: int = 1) -> list[str]:
    """Return the uids of the raw runs in which `label` is doubtful on at least `min_frames` frames.

    There it is neither accepted nor rejected: frames that a person should look at. Otherwise as `find_runs`. Runs
    that a version without doubtful labels wrote are never found.
    """
    return _runs_with(client, label, "doubtful", min_frames)


def _runs_with(client: Any, label: str, counted: str, min_frames: int) -> list[str]:
    if label not in ALL_LABELS:
        raise SettingsError(f"unknown label {label!r}; the labels are {', '.join(ALL_LABELS)}")
    check_at_least(1, min_frames=min_frames)
    parents: dict[str, None] = {}
    for container in _containers(client):
        found = (
            newest(container)
            .search(Key("start.analysis.kind") == KIND)
            .search(Key(f"stop.summary.{label}.{counted}") >= min_frames)
        )
        values = found.distinct("start.analysis.parent")["metadata"]["start.analysis.parent"]
        parents.update(dict.fromkeys(parent["value"] for parent in values))
    return list(parents)


def read_annotations(client: Any, raw_uid: str) -> list[dict[str, Any]]:
    """Return the stored rows of a raw run, by analysis run and frame.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in.
    raw_uid
        uid of the raw run's start document.

    Returns
    -------
    list of dict
        Rows as `dvfb_stream.rows` lays them out; `to_dataframe` there makes a table of them. What an earlier version
        did not write is not known.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container.
    """
    found: dict[str, Any] = {}
    for container in _containers(client):
        runs = container.search(Key("start.analysis.kind") == KIND).search(
            Key("start.analysis.parent") == raw_uid
        )
        for uid, run in runs.items():
            found.setdefault(uid, run)
    return [row for uid, run in found.items() for row in _rows(uid, run)]


def _rows(uid: str, run: Any) -> list[dict[str, Any]]:
    table = annotations_table(run)
    if table is None:
        return []
    analysis = run.metadata["start"]["analysis"]
    model = analysis["model"]
    known = {
        "run_uid": analysis["parent"],
        "stream": analysis["stream"],
        "data_key": analysis["data_key"],
        "model": model["name"],
        "model_version": model["version"],
        "model_sha256": model["sha256"],
        "analysis_uid": uid,
    }
    # An earlier version stored a frame as often as it was written, and in no order.
    frames = table.read().drop_duplicates("frame").sort_values("frame")
    stored = [column.name for column in COLUMNS if column.name in frames]
    return [row_of(known | row) for row in frames[stored].to_dict("records")]


def _containers(client: Any) -> list[Any]:
    """Return what may hold analysis runs: their own place, and the raw runs, where an earlier version put them.

    Of a container without a place beside it, such as a server's root, the places in it.
    """
    place = find_place(client)
    places = places_in(client) if place is None else [place]
    if not places:
        logger.info(
            "no container of annotations lies beside or in %s: nothing was stored yet, or the raw runs lie elsewhere",
            client.uri,
        )
    return [*places, *([client] if all(found.uri != client.uri for found in places) else [])]


def annotations_table(run: Any) -> Any | None:
    """Return the client of the table that keeps the rows of an analysis run; None if none."""
    # As plain containers: where databroker was used, Bluesky's client of a run has no `base`.
    stream = plain(run).get(STREAM)
    return None if stream is None else plain(stream).get(TABLE)
