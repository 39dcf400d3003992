"""Finds out what a container of analysis runs has and its copy has not, in a few requests for any number of runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute

from dvfb_stream.catalog.listing import PAGE, Node, nodes_called, nodes_from, notes_from
from dvfb_stream.catalog.mirror.files import Contents
from dvfb_stream.catalog.mirror.runs import SCHEMA, joined, rows_key, table_of
from dvfb_stream.catalog.newest import BEGUN
from dvfb_stream.catalog.place import PLACE_SPEC

_SAME = ("rows_key", "is_finished", "begun")
"""Columns by which a run that was looked at again is seen to be what it was."""


def changed(
    client: Any, contents: Contents, known: pyarrow.Table, told: Callable[[int], object]
) -> tuple[Contents, pyarrow.Table, pyarrow.Table]:
    """Return how far the container was read now, the known runs that are still there, and those new or changed.

    Tiled lists nodes in the order in which they were made. So what is new stands behind the last node that was
    listed, as long as that stands where it stood and is what it was; otherwise some were deleted, or deleted and made
    again, or the catalog is another one, and all keys are compared. Runs without a stop, and those of which a note
    says that they changed, are looked at again.

    Parameters
    ----------
    client
        Tiled client of the container.
    contents, known
        Of the copy.
    told
        Is called with how many nodes were listed so far.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    found = _behind_the_last(client, contents, known, told)
    if found is None:
        contents, before, new = _compared(client, contents, known)
        # All have other positions now, so that all are written anew.
        new, known = pyarrow.concat_tables([before, new], promote_options="default"), known.slice(0, 0)
    else:
        (contents, new), before = found, known
    contents, noted = _noted(client, contents)
    everything = pyarrow.concat_tables([known, new], promote_options="default")
    is_open = compute.invert(before["is_finished"])
    again = set(compute.filter(before["uid"], is_open).to_pylist()) | noted
    looked_at = _looked_at(client, everything, again)
    return contents, known, joined([new, looked_at])


def _behind_the_last(
    client: Any, contents: Contents, known: pyarrow.Table, told: Callable[[int], object]
) -> tuple[Contents, pyarrow.Table] | None:
    position, last = max(0, contents.listed - 1), contents.last
    tables = [SCHEMA.empty_table()]
    pages = nodes_from(client, position)
    if contents.listed:
        page = next(pages, [])
        if not page or page[0][0] != contents.last or False in _seen_again(known, page[:1]).values():
            return None
        position += 1
        pages = _followed(page[1:], pages)
    for page in pages:
        tables.append(table_of([(position + k, key, metadata) for k, (key, metadata) in enumerate(page)]))
        position += len(page)
        last = page[-1][0] if page else last
        told(position)
    return replace(contents, listed=position, last=last), pyarrow.concat_tables(
        tables, promote_options="default"
    )


def _seen_again(known: pyarrow.Table, nodes: Sequence[Node]) -> dict[str, bool]:
    """Return by key, of nodes that have the key of a known run, whether they are that run or another of its uid."""
    before = {row["uid"]: row for row in _rows_of(known, [key for key, _ in nodes]).to_pylist()}
    return {
        key: rows_key(key, metadata) == before[key]["rows_key"]
        if before[key]["is_finished"]
        # A stop that has come makes no other run of one that had none.
        else (metadata.get(BEGUN) or 0.0) == before[key]["begun"]
        for key, metadata in nodes
        if key in before
    }


def _rows_of(runs: pyarrow.Table, uids: Collection[str]) -> pyarrow.Table:
    return runs.filter(compute.is_in(runs["uid"], pyarrow.array(uids, pyarrow.string())))


def _followed(first: list[Node], pages: Iterator[list[Node]]) -> Iterator[list[Node]]:
    yield first
    yield from pages


def _compared(
    client: Any, contents: Contents, known: pyarrow.Table
) -> tuple[Contents, pyarrow.Table, pyarrow.Table]:
    keys = [key for page in nodes_from(client, 0, keys_only=True) for key, _ in page]
    positions = {key: position for position, key in enumerate(keys)}
    first, made = _made_again(client, known, positions)
    kept = _rows_of(known, keys[:first])
    uids = kept["uid"].to_pylist()
    column = pyarrow.array([positions[uid] for uid in uids], pyarrow.int64())
    kept = kept.set_column(kept.column_names.index("position"), "position", column)
    there = set(uids)
    others = nodes_called(client, (key for key in keys[:first] if key not in there))
    new = table_of([(positions[key], key, metadata) for key, metadata in [*others, *made.items()]])
    return replace(contents, listed=len(keys), last=keys[-1] if keys else "", runs=()), kept, new


def _made_again(
    client: Any, known: pyarrow.Table, positions: Mapping[str, int]
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return from which position on runs may have been made again, and what stands there, by key.

    A run that is deleted and made again has the same uid, but stands behind all that were not. So pages are read from
    the end, until one has a known run that is what it was: so are all before it.
    """
    first, made = len(positions), dict[str, dict[str, Any]]()
    while first > 0:
        start = max(0, first - PAGE)
        page = next(nodes_from(client, start), [])
        made |= {key: metadata for key, metadata in page if key in positions}
        first = start
        if True in _seen_again(known, page).values():
            break
    return first, made


def _noted(client: Any, contents: Contents) -> tuple[Contents, set[str]]:
    """Return which runs changed behind their stop, by the notes that were not read yet."""
    if PLACE_SPEC not in {spec.name for spec in client.specs}:
        return contents, set()  # runs of an earlier version, among raw ones: nobody changes them
    position, last = max(0, contents.changes - 1), contents.last_change
    pages = notes_from(client, position)
    noted: set[str] = set()
    if contents.changes:
        page = next(pages, [])
        if not page or page[0][0] != last:
            # Somebody has cleared the notes away: all that are there count.
            position, pages = 0, notes_from(client, 0)
        else:
            position, pages = position + 1, _followed(page[1:], pages)
    for page in pages:
        noted |= {str(metadata.get("run")) for _, metadata in page}
        position += len(page)
        last = page[-1][0] if page else last
    return replace(contents, changes=position, last_change=last), noted


def _looked_at(client: Any, runs: pyarrow.Table, uids: set[str]) -> pyarrow.Table:
    """Return the runs that are not what is known of them."""
    if not uids:
        return SCHEMA.empty_table()
    rows = _rows_of(runs, sorted(uids))
    before = {row["uid"]: row for row in rows.select(["uid", "position", *_SAME]).to_pylist()}
    nodes = nodes_called(client, before)
    found = table_of([(before[key]["position"], key, metadata) for key, metadata in nodes])
    differs = [any(row[name] != before[row["uid"]][name] for name in _SAME) for row in found.to_pylist()]
    return found.filter(pyarrow.array(np.array(differs, np.bool_)))
