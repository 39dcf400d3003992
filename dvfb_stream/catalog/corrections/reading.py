"""Reads what people said of frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tiled.queries import Contains

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.corrections.correction import Correction, Undo
from dvfb_stream.catalog.corrections.corrections_place import paths_of_corrections
from dvfb_stream.catalog.corrections.documents import RAW_UIDS, read_runs
from dvfb_stream.catalog.corrections.pages import nodes_in
from dvfb_stream.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What people said and took back, in the order in which it counts, the last word last."""

    corrections: list[Correction]
    undos: list[Undo]
    access_tags: dict[str, tuple[str, ...]]
    """Of each document that has some, by its uid."""


def corrections_of(client: Any, raw_uids: Iterable[str] | None = None) -> list[Correction]:
    """Return what people said of the frames of raw runs, in the order in which it counts, the last word last.

    Those undone are among them, and say by what; `corrected_labels` leaves them out. 300 documents take one request,
    whatever they hold.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of those of annotations or corrections beside it, or of what these
        lie in.
    raw_uids
        Whole uids of raw runs; None: all.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer.
    """
    return read_corrections(client, raw_uids).corrections


def read_corrections(client: Any, raw_uids: Iterable[str] | None = None) -> Corrections:
    """Return what people said and took back; otherwise as `corrections_of`."""
    if isinstance(raw_uids, str):
        raise SettingsError(f"raw_uids is a list of uids, not {raw_uids!r}; give [{raw_uids!r}]")
    wanted = None if raw_uids is None else set(raw_uids)
    starts, tags = [], {}
    for node in _nodes(client, wanted):
        start = node["attributes"]["metadata"].get("start")
        starts.append(start)
        if access_tags := node["attributes"].get("access_tags"):
            tags[node["id"]] = tuple(access_tags)
    corrections, undos = read_runs(starts)
    return Corrections(
        corrections=[one for one in corrections if wanted is None or one.origin.run_uid in wanted],
        undos=[undo for undo in undos if wanted is None or wanted & set(undo.raw_uids)],
        access_tags=tags,
    )


def _nodes(client: Any, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
    if wanted is not None and not wanted:
        return
    # Tiled has no query for one of several values in a list; of several raw runs all documents are read.
    queries = (
        [Contains(RAW_UIDS, uid) for uid in wanted or ()] if wanted is not None and len(wanted) == 1 else []
    )
    for path in paths_of_corrections(client):
        with told_apart("reading the corrections in " + "/".join(path)):
            yield from nodes_in(client.context, path, *queries)
