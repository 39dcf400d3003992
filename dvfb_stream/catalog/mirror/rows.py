"""The rows of analysis runs as they are kept: those of many runs in one table, one run behind the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

logger = logging.getLogger(__name__)

_ARROW = {Kind.NUMBER: pyarrow.float64(), Kind.INTEGER: pyarrow.int64(), Kind.TEXT: pyarrow.string()}

SCHEMA = pyarrow.schema(
    {"time": pyarrow.float64(), **{column.name: _ARROW[column.kind] for column in EVENT_COLUMNS}}
)
"""Columns of kept rows; null where an earlier version did not write them."""

LISTS = ("status", "labels", "doubtful")
"""Columns with few different texts: an expression looks into each of them once."""

RUNS_SCHEMA = pyarrow.schema({"rows_key": pyarrow.string(), "count": pyarrow.int64()})


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """The rows of one analysis run, as the catalog has them now."""

    table: pyarrow.Table
    """Each frame once; none where there is no table, or one that is not understood."""
    stored: int
    """Rows in the catalog."""

    def agree_with(self, frames: float) -> bool:
        """Return whether they are those of a run whose summary counts so many frames; NaN: it does not say."""
        # Between the two: an earlier version stored some frames twice, and a table that is not understood has rows.
        return math.isnan(frames) or bool(self.table.num_rows <= frames <= self.stored)


def fetched(client: Container, uids: Sequence[str]) -> Iterator[FetchedRows]:
    """Give the rows of analysis runs in a container, in order. A table that is not understood is named in the log.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    address = client.item["links"]["self"].replace("/metadata", "/table/full", 1)
    # One at a time: all requests to Tiled 0.2 share a connection to DuckDB, and of several that read at a time
    # some fail with status 500, or the server crashes.
    for uid in uids:
        found = _stored(client, f"{address}/{uid}/{STREAM}/{TABLE}")
        try:
            yield FetchedRows(_each_frame_once(_as_kept(found)), found.num_rows)
        except pyarrow.ArrowException as error:
            logger.warning("the rows of analysis run %s cannot be understood (%s): left out", uid, error)
            yield FetchedRows(SCHEMA.empty_table(), found.num_rows)


def _stored(client: Container, address: str) -> pyarrow.Table:
    for attempt in retry_context():
        with attempt:
            answer = client.context.http_client.get(address, headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE})
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return SCHEMA.empty_table()
            handle_error(answer)
    return pyarrow.ipc.open_file(answer.read()).read_all()


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
