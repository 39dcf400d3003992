"""What is known of each analysis run, as columns: whose it is, and the numbers of its summary."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from numpy.typing import NDArray

from dvfb_stream.catalog.newest import BEGUN
from dvfb_stream.catalog.place import KIND
from dvfb_stream.catalog.replacing import REPLACED
from dvfb_stream.summary import known_labels

logger = logging.getLogger(__name__)

SCHEMA = pyarrow.schema(
    {
        "uid": pyarrow.string(),
        # Of the rows as they are now: a run whose rows were replaced has another.
        "rows_key": pyarrow.string(),
        # Where it came among the container's nodes.
        "position": pyarrow.int64(),
        "parent": pyarrow.string(),
        "stream": pyarrow.string(),
        "data_key": pyarrow.string(),
        "model": pyarrow.string(),
        "model_version": pyarrow.string(),
        "model_sha256": pyarrow.string(),
        "time": pyarrow.float64(),
        "labels": pyarrow.string(),
        # Copied from the raw start, as JSON.
        "raw": pyarrow.string(),
        "is_finished": pyarrow.bool_(),
        # When it was begun, or made the newest of its frames, by its writer's clock; 0 where nothing says it.
        "begun": pyarrow.float64(),
        # Why it cannot be understood; null of those that can.
        "fault": pyarrow.string(),
    }
)
"""Columns besides those of the summary, which are called `SUMMARY` and a path: ``summary.halo.count``."""

SUMMARY = "summary."


def table_of(nodes: Sequence[tuple[int, str, Mapping[str, Any]]]) -> pyarrow.Table:
    """Return the table of nodes: position, key and metadata; of those that are analysis runs.

    One that cannot be understood is named in the log, and has a `fault` and nothing else to be found by: it is
    remembered, so that it is neither read nor named at each search.
    """
    rows = [
        row for row in (_row(position, key, metadata) for position, key, metadata in nodes) if row is not None
    ]
    numbers = dict.fromkeys(name for row in rows for name in row if name.startswith(SUMMARY))
    schema = pyarrow.schema([*SCHEMA, *(pyarrow.field(name, pyarrow.float64()) for name in numbers)])
    return pyarrow.Table.from_pylist(rows, schema=schema)


def rows_key(key: str, metadata: Mapping[str, Any]) -> str:
    """Return what the rows of an analysis run are kept by: another when they were replaced, or the run made again."""
    said = [metadata.get("stop") or {}, metadata.get(REPLACED), metadata.get(BEGUN)]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    return f"{key}:{digest[:12]}"


def _row(position: int, key: str, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    start, stop = metadata.get("start") or {}, metadata.get("stop") or {}
    analysis = start.get("analysis") if isinstance(start, Mapping) else None
    if not isinstance(analysis, Mapping) or analysis.get("kind") != KIND or "parent" not in analysis:
        return None
    known = {"uid": key, "rows_key": rows_key(key, metadata), "position": position}
    try:
        return {**known, **_stated(metadata, start, stop, analysis)}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        logger.warning(
            "the metadata of analysis run %s cannot be understood (%r): it is left out of searches",
            key,
            error,
        )
        return {**known, **_FAULTY, "fault": repr(error)}


_FAULTY = {
    field.name: {pyarrow.string(): "", pyarrow.float64(): 0.0}.get(field.type, True)
    for field in SCHEMA
    if field.name not in ("uid", "rows_key", "position")
}
"""What stands in the place of what cannot be understood. As a finished run, it is not looked at again."""


def _stated(
    metadata: Mapping[str, Any],
    start: Mapping[str, Any],
    stop: Mapping[str, Any],
    analysis: Mapping[str, Any],
) -> dict[str, Any]:
    model, summary, raw = analysis.get("model") or {}, stop.get("summary") or {}, analysis.get("raw") or {}
    if not isinstance(raw, Mapping):
        raise TypeError(f"analysis.raw is {raw!r}")
    return {
        "parent": str(analysis["parent"]),
        "stream": str(analysis.get("stream", "")),
        "data_key": str(analysis.get("data_key", "")),
        "model": str(model.get("name", "")),
        "model_version": str(model.get("version", "")),
        "model_sha256": str(model.get("sha256", "")),
        "time": float(start.get("time") or 0.0),
        "labels": ",".join(known_labels(analysis)),
        "raw": json.dumps(raw),
        "is_finished": bool(stop),
        "begun": float(metadata.get(BEGUN) or 0.0),
        **dict(_numbers(SUMMARY, summary)),
    }


def understood(runs: pyarrow.Table) -> pyarrow.Table:
    """Return those of a table of runs that can be understood."""
    return runs.filter(compute.is_null(runs["fault"]))


def _numbers(before: str, value: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _numbers(f"{before}{name}.", part)
        elif isinstance(part, int | float) and math.isfinite(part):
            yield f"{before}{name}", float(part)


def joined(tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    """Return one table of several, in which the later ones have the last word on their runs."""
    kept: list[pyarrow.Table] = []
    known: pyarrow.Array | None = None
    for table in reversed(tables):
        uids = table["uid"].combine_chunks() if table.num_rows else pyarrow.array([], pyarrow.string())
        if known is not None and len(known):
            table = table.filter(compute.invert(compute.is_in(uids, known)))
        kept.append(table)
        known = uids if known is None else pyarrow.concat_arrays([_flat(known), _flat(uids)])
    if not kept:
        return SCHEMA.empty_table()
    return pyarrow.concat_tables(list(reversed(kept)), promote_options="default")


def _flat(array: Any) -> pyarrow.Array:
    return array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array


class RunSummaries:
    """The summaries of some runs, as `dvfb_stream.catalog.expression.bounds.Summaries` asks for them."""

    def __init__(self, runs: pyarrow.Table) -> None:
        self._runs = runs
        self.frames = self._count("frames")
        self.annotated = self.frames - self._count("failed") - self._count("dropped")

    def number(self, name: str) -> NDArray[np.float64]:
        """Return a number of each summary, NaN where it is not stated."""
        name = SUMMARY + name
        if name not in self._runs.column_names:
            return np.full(self._runs.num_rows, np.nan)
        numbers: NDArray[np.float64] = self._runs[name].to_numpy().astype(np.float64, copy=False)
        return numbers

    def knows(self, label: str) -> NDArray[np.bool_]:
        """Return which have a model that knows a label."""
        return knowing(self._runs["labels"], label)

    def _count(self, name: str) -> NDArray[np.int64]:
        return np.nan_to_num(self.number(name)).astype(np.int64)


def knowing(labels: Any, label: str) -> NDArray[np.bool_]:
    """Return which of several lists, each a text with commas, have a label."""
    return flags_of_texts(labels, {label})


def flags_of_texts(texts: Any, labels: Collection[str] | None) -> NDArray[np.bool_]:
    """Return which texts name one of the labels, separated by commas; None: any label at all."""
    whole = pyarrow.chunked_array(texts) if isinstance(texts, pyarrow.Array) else texts
    found = [np.empty(0, np.bool_)]
    for chunk in whole.chunks:
        coded = chunk if isinstance(chunk, pyarrow.DictionaryArray) else chunk.dictionary_encode()
        entries = [set((text or "").split(",")) - {""} for text in coded.dictionary.to_pylist()]
        # The last is for entries that are null.
        named = np.array(
            [*(bool(entry if labels is None else entry & set(labels)) for entry in entries), False]
        )
        codes = coded.indices.fill_null(len(entries)).to_numpy(zero_copy_only=False)
        found.append(named[codes])
    return np.concatenate(found)
