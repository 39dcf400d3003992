"""Composes the stop of an analysis run from the rows that are stored."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from dvfb_stream.catalog.place import STREAM
from dvfb_stream.catalog.replacing import REPLACED, replaced_frames
from dvfb_stream.catalog.run_table import RunTable, data_columns, rows_of
from dvfb_stream.catalog.store_errors import RowsMissingError, StoreRefusedError
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.summary import QUANTITIES, Summary, known_labels

logger = logging.getLogger(__name__)

_SUMMED = frozenset(
    {"status", "labels", "doubtful", "measured_order", "measured_contrast", *QUANTITIES, *ALL_LABELS}
)
"""Columns that a summary is made of."""

_ROWS_AT_A_TIME = 1_000
"""So that the rows of a long run are never all in memory as Python's objects."""


def stop_of(table: RunTable, stop: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stop document that says what is stored, whatever the given one says of it.

    What only the given one can know stays: ``rejected_documents`` in its summary.

    Raises
    ------
    RowsMissingError
        When fewer rows are stored than the given one says there are.
    StoreRefusedError
        When a row has no status.
    """
    columns = [name for name in data_columns(table.table) if name in _SUMMED]
    summary = Summary(known_labels(table.documents.start.get("analysis", {})))
    try:
        for batch in rows_of(table.table, columns).to_batches(_ROWS_AT_A_TIME):
            for row in batch.to_pylist():
                summary.add(row)
    except (KeyError, ValueError) as error:
        reason = f"a stored row of run {table.documents.uid} has no status ({error})"
        raise StoreRefusedError(reason, everything=False) from error
    expected = (stop.get("num_events") or {}).get(STREAM, 0)
    if summary.frames < expected:
        raise RowsMissingError(
            f"run {table.documents.uid} has {summary.frames} rows stored of {expected}",
            everything=False,
            cure="give its events again before its stop",
        )
    computed = summary.as_dict()
    known = {*computed, *QUANTITIES, "quality", *ALL_LABELS}
    # No column says it, and an earlier stop must not.
    replaced = replaced_frames(table.run.metadata)
    further = {name: value for name, value in (stop.get("summary") or {}).items() if name not in known}
    return {
        **stop,
        "num_events": {STREAM: summary.frames},
        "summary": further | _of_columns(computed, columns) | ({REPLACED: replaced} if replaced else {}),
    }


def _of_columns(summary: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Leave out what an earlier version's rows say nothing of, so that no query takes ignorance for absence."""
    if "measured_order" not in columns:
        summary.pop("measured_order")
    if "doubtful" not in columns:
        summary.pop("doubtful")
        for label in ALL_LABELS:
            summary.get(label, {}).pop("doubtful", None)
    return summary


def warn_of_what_stays(stored: Any, start: Mapping[str, Any]) -> None:
    """Say what a mended set-up does not mend: the uid depends on data and model alone, so that the rows stay."""
    before = stored.metadata["start"].get("analysis", {}).get("geometry")
    now = start.get("analysis", {}).get("geometry")
    summary = (stored.metadata.get("stop") or {}).get("summary") or {}
    blemishes = []
    if before != now:
        blemishes.append(f"with another geometry ({before}) than the present one ({now})")
    if summary.get("failed"):
        blemishes.append(f"with {summary['failed']} of {summary.get('frames')} rows failed")
    if blemishes:
        logger.warning(
            "analysis run %s is stored already, %s; the rows that are there stay. To have better ones: "
            "dvfb annotate --tiled URI --uid %s with --only failed,dropped, or with --again, which makes another "
            "analysis where the geometry is another",
            start["uid"],
            " and ".join(blemishes),
            start["analysis"]["parent"],
        )
