"""The rows of analysis runs as they are kept: those of many runs in one table, one run behind the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
import pyarrow
import pyarrow.ipc
from numpy.typing import NDArray
from tiled.client.container import Container
from tiled.client.utils import handle_error, retry_context
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from dvfb_stream.catalog.expression.evaluation import Truth
from dvfb_stream.catalog.mirror.runs import flags_of_texts, knowing
from dvfb_stream.catalog.place import STREAM, TABLE
from dvfb_stream.rows import EVENT_COLUMNS, Kind

_ARROW = {Kind.NUMBER: pyarrow.float64(), Kind.INTEGER: pyarrow.int64(), Kind.TEXT: pyarrow.string()}

SCHEMA = pyarrow.schema(
    {"time": pyarrow.float64(), **{column.name: _ARROW[column.kind] for column in EVENT_COLUMNS}}
)
"""Columns of kept rows; null where an earlier version did not write them."""

LISTS = ("status", "labels", "doubtful")
"""Columns with few different texts: an expression looks into each of them once."""

RUNS_SCHEMA = pyarrow.schema({"rows_key": pyarrow.string(), "count": pyarrow.int64()})


def fetched(client: Container, uids: Sequence[str]) -> Iterator[pyarrow.Table]:
    """Give the rows of analysis runs in a container, in order; none of a run that has no table.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    address = client.item["links"]["self"].replace("/metadata", "/table/full", 1)
    # One at a time: all requests to Tiled 0.2 share a connection to DuckDB, and of several that read at a time
    # some fail with status 500, or the server crashes.
    for uid in uids:
        yield _rows(client, f"{address}/{uid}/{STREAM}/{TABLE}")


def _rows(client: Container, address: str) -> pyarrow.Table:
    for attempt in retry_context():
        with attempt:
            answer = client.context.http_client.get(address, headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE})
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return SCHEMA.empty_table()
            handle_error(answer)
    found = pyarrow.ipc.open_file(answer.read()).read_all()
    return _each_frame_once(_as_kept(found))


def _as_kept(table: pyarrow.Table) -> pyarrow.Table:
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pyarrow.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pyarrow.table(columns, schema=SCHEMA)


def _each_frame_once(table: pyarrow.Table) -> pyarrow.Table:
    """Return rows in the order of frames: an earlier version stored a frame as often as it was written."""
    frames = table["frame"].to_numpy()
    if (np.diff(frames) > 0).all():
        return table
    _, first = np.unique(frames, return_index=True)
    return table.take(pyarrow.array(first))


class KeptRows:
    """Rows of some runs, as `dvfb_stream.catalog.expression.evaluation.Frames` asks for them.

    Parameters
    ----------
    rows
        With the columns that are asked for.
    counts
        Rows of each run, in the order of the rows.
    labels
        That the model of each run knows, with commas.
    said
        What people say, by label: the rows that have it, and those that have not, whatever the model says.
    """

    def __init__(
        self,
        rows: pyarrow.Table,
        counts: NDArray[np.int64],
        labels: Any,
        said: Mapping[str, tuple[Sequence[int], Sequence[int]]] | None = None,
    ) -> None:
        self._rows, self._labels, self._said = rows, labels, said or {}
        self.runs = len(counts)
        self.run = np.repeat(np.arange(len(counts)), counts)
        self._annotated = flags_of_texts(rows["status"], {"ok"})

    def has_status(self, status: str) -> NDArray[np.bool_]:
        """Return which rows have a status."""
        return flags_of_texts(self._rows["status"], {status})

    def accepted(self, label: str) -> Truth:
        """Return on which a label was accepted."""
        found = flags_of_texts(self._rows["labels"], {label})
        known = self._annotated & knowing(self._labels, label)[self.run]
        for rows, has in zip(self._said.get(label, ()), (True, False), strict=False):
            found[list(rows)], known[list(rows)] = has, True
        return Truth(found, known & ~found)

    def doubtful(self, label: str | None) -> Truth:
        """Return on which a label is doubtful, or any is; not known of versions without doubt."""
        found = flags_of_texts(self._rows["doubtful"], None if label is None else {label})
        known = self._annotated & self._rows["doubtful"].is_valid().to_numpy()
        if label is not None:
            known &= knowing(self._labels, label)[self.run]
        return Truth(found, known & ~found)

    def number(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, NaN of frames without annotation."""
        column = self._rows[name]
        values = column.cast(pyarrow.float64()).to_numpy()
        return values if name == "frame" else np.where(self._annotated, values, np.nan)


def columns_of(names: Iterable[str]) -> list[str]:
    """Return the columns that an expression with these names is evaluated on, in the order of the table."""
    wanted = {"frame", "status", "labels", "doubtful", *names}
    return [name for name in SCHEMA.names if name in wanted]
