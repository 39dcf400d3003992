"""The rows of one analysis run as they lie in Tiled: one table, laid out as TiledWriter lays it out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.ipc
from bluesky_tiled_plugins.utils import truncate_json_overflow
from numpy.typing import NDArray
from tiled.client.utils import ClientError
from tiled.structures.core import Spec, StructureFamily
from tiled.structures.data_source import DataSource
from tiled.structures.table import TableStructure
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from dvfb_stream.catalog.newest import BEGUN
from dvfb_stream.catalog.place import RUN_SPEC, STREAM, TABLE, found_or_created, plain
from dvfb_stream.catalog.run_arrays import RunArrays, array_keys
from dvfb_stream.catalog.storable import storable, storable_text
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError

if TYPE_CHECKING:
    from tiled.client.container import Container

logger = logging.getLogger(__name__)

FRAME = "frame"
"""Column that tells one row from another, and orders them."""

_EVENT_COLUMNS = frozenset({"seq_num", "time"})
_TIME_OF = "ts_"
"""Columns besides those of the data: the event's own, and with this before its name the time of each of them."""

_COLUMN = re.compile(r"(?!_|ts_|seq_num$|time$)[\x20-\x7e]{1,60}")
"""Names that are free for data: Tiled keeps those with a leading underscore to itself, and PostgreSQL cuts off all
behind 63 bytes, which the time's ``ts_`` belongs to."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")
"""Uids that can be a key: part of an address, in which a slash would part nodes."""

_ACCESS_TAGS = "tiled_access_tags"
_CONFLICT = 409

_ARROW_TYPES: Mapping[str, pyarrow.DataType] = {
    "number": pyarrow.float64(),
    "integer": pyarrow.int64(),
    "boolean": pyarrow.bool_(),
    "string": pyarrow.string(),
}
"""Of event-model's types. From the descriptor rather than from the first rows: of failed frames only, they have no
numbers, and a column would be made for nothing."""


@dataclass(frozen=True, slots=True)
class RunDocuments:
    """What the rows of one analysis run belong to."""

    start: Mapping[str, Any]
    descriptor: Mapping[str, Any]
    begun: float | None = None
    """When it was begun to be written, in seconds since 1970; None: when its nodes are made."""

    @classmethod
    def checked(
        cls, start: Mapping[str, Any], descriptor: Mapping[str, Any], *, begun: float | None = None
    ) -> RunDocuments:
        """Return the documents if a run can be made of them.

        Their texts are bounded, and free of what no store takes; see `storable`.

        Raises
        ------
        StoreRefusedError
            When they are no JSON, or lack what every run has.
        """
        uid = str(start.get("uid", ""))
        documents = cls(
            storable(f"the start of run {uid!r}", start),
            storable(f"the descriptor of run {uid!r}", descriptor),
            begun,
        )
        try:
            if not _UID.fullmatch(uid):
                raise ValueError(f"the uid {uid!r} is no key of a node in Tiled")
            documents.schema()
            documents.table_name()
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            reason = f"the documents of run {uid!r} are none of an analysis run ({error!r})"
            raise StoreRefusedError(reason, everything=False) from error
        return documents

    @property
    def uid(self) -> str:
        """Of the analysis run."""
        return str(self.start["uid"])

    @property
    def access_tags(self) -> Any:
        """By which Tiled decides who may see the run; None where the raw run has none."""
        return self.start.get(_ACCESS_TAGS)

    def of_table(self) -> dict[str, Any]:
        """Return the data keys that are columns of the table: those that are no arrays."""
        arrays = array_keys(self.descriptor)
        return {name: key for name, key in self.descriptor["data_keys"].items() if name not in arrays}

    def schema(self) -> pyarrow.Schema:
        """Return the columns of the table.

        Raises
        ------
        StoreRefusedError
            When a data key has a type or a name that no column can have.
        """
        data_keys = self.of_table()
        types = {name: _ARROW_TYPES.get(data_key["dtype"]) for name, data_key in data_keys.items()}
        if unknown := [name for name, arrow in types.items() if arrow is None or not _COLUMN.fullmatch(name)]:
            raise StoreRefusedError(f"no table can hold the data keys {unknown}", everything=False)
        if types.get(FRAME) != pyarrow.int64():
            raise StoreRefusedError(f"there is no integer data key {FRAME!r}", everything=False)
        times = dict.fromkeys((f"{_TIME_OF}{name}" for name in types), pyarrow.float64())
        return pyarrow.schema({"seq_num": pyarrow.int64(), "time": pyarrow.float64(), **types, **times})

    def table_name(self, schema: pyarrow.Schema | None = None) -> str:
        """Return the name of the table in Tiled's database: one a day and layout.

        By default Tiled keeps all datasets of one layout in one table of its database, without an index (only the
        first table of a database gets one), and whoever reads a run waits for a scan of all runs of all years. A
        table a run would make as many tables as runs.

        Parameters
        ----------
        schema
            Columns; None: `schema()`.
        """
        day = datetime.fromtimestamp(float(self.start["time"]), UTC)
        layout = sha256(str(schema or self.schema()).encode()).hexdigest()[:8]
        return f"dvfb_{day:%Y%m%d}_{layout}"


class RunTable:
    """The nodes of one analysis run.

    ``<runs>/<uid>`` (BlueskyRun) / ``annotations`` (BlueskyEventStream) / ``internal`` (table). Its rows come in the
    order of the frames, in whatever order they were appended.

    Parameters
    ----------
    runs
        Plain Tiled client of the container of analysis runs.
    documents
        Of the run; the nodes that are not there yet are made by them.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """

    def __init__(self, runs: Container, documents: RunDocuments) -> None:
        self.documents = documents
        self.run = self._found_or_created_run(runs)
        self.stream = plain(self._found_or_created_stream())
        table = self.stream.get(TABLE)
        self.table = self.make(self.stream, TABLE) if table is None else table
        self.arrays = self._arrays()
        self._warn_of_other_columns()

    def _found_or_created_run(self, runs: Container) -> Any:
        start = {name: value for name, value in self.documents.start.items() if name != _ACCESS_TAGS}
        begun = time.time() if self.documents.begun is None else self.documents.begun
        return found_or_created(
            runs,
            self.documents.uid,
            metadata={"start": truncate_json_overflow(start), BEGUN: begun},
            specs=[Spec(RUN_SPEC, version="1.0"), Spec("BlueskyRun", version="3.0")],
            access_tags=self.documents.access_tags,
        )

    def _found_or_created_stream(self) -> Any:
        elsewhere = {"name", "object_keys", "run_start"}
        described = {
            name: value for name, value in self.documents.descriptor.items() if name not in elsewhere
        } | {"data_keys": self.documents.of_table()}
        return found_or_created(
            plain(self.run),
            STREAM,
            metadata=truncate_json_overflow(described),
            specs=[Spec("BlueskyEventStream", version="3.0"), Spec("composite")],
            access_tags=self.documents.access_tags,
        )

    def _arrays(self) -> RunArrays:
        return RunArrays(plain(self.run), self.documents.descriptor, self.documents.access_tags)

    def make(
        self,
        container: Container,
        key: str,
        *,
        schema: pyarrow.Schema | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a new table for the rows of this run; what is there already, if there is.

        Parameters
        ----------
        container, key
            Where it lies.
        schema
            Columns; None: as the descriptor says.
        metadata
            Of the table; None: the data keys.
        """
        schema = schema or self.documents.schema()
        source = DataSource(
            structure=TableStructure.from_schema(schema, 1),
            structure_family=StructureFamily.table,
            mimetype="application/x-tiled-sql-table",
            parameters={
                "table_name": self.documents.table_name(schema),
                "order_by_args": [{"column": FRAME, "direction": "asc"}],
            },
        )
        data_keys = {k: v for k, v in self.documents.descriptor["data_keys"].items() if k in schema.names}
        try:
            return container.new(
                StructureFamily.table,
                [source],
                key=key,
                metadata=truncate_json_overflow(data_keys if metadata is None else metadata),
                specs=[],
                access_tags=self.documents.access_tags,
            )
        except ClientError as error:
            if error.response.status_code != _CONFLICT:
                raise
            return container[key]

    def remake(self, confirm: Callable[[], None]) -> None:
        """Put a new, empty table in the place of the one that is there, with its columns in another order.

        Tiled takes rows only if their columns have the order of the table's, so that what was sent to the one before
        and is carried out later fails. The order of the data columns stays, for those who read.

        Parameters
        ----------
        confirm
            Called right before the table is deleted; raises where it must not be.
        """
        schema = _turned(schema_of(self.table))
        confirm()
        self.table.delete(external_only=False)
        self.table = self.make(self.stream, TABLE, schema=schema)

    def look_again(self) -> None:
        """Take table and arrays that are there now: another store of this process may have put them there."""
        self.table = self.stream[TABLE]
        self.arrays = self._arrays()

    def append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of events; raises as `rows`, and what Tiled's client raises."""
        self.table.append_partition(0, self.rows(events))

    def rows(self, events: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
        """Return the rows of events as the table holds them; what it has no column for is left out.

        Raises
        ------
        StoreRefusedError
            When a value does not fit its column.
        """
        schema = schema_of(self.table)
        try:
            return pyarrow.Table.from_pylist([_row(event, schema.names) for event in events], schema=schema)
        except (pyarrow.ArrowException, KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"a row of run {self.documents.uid} does not fit its table ({error!r})"
            raise StoreRefusedError(reason, everything=False) from error

    def _warn_of_other_columns(self) -> None:
        stored, ours = data_columns(self.table), tuple(self.documents.of_table())
        if stored == ours:
            return
        missing = ", ".join(name for name in ours if name not in stored)
        logger.warning(
            "analysis run %s was begun by another version of dvfb_stream: its further rows are stored without %s",
            self.documents.uid,
            missing or "what the table has no column for",
        )


def _turned(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Turn the columns round that are the event's own, of which there are three at least, among their places."""
    own = [name for name in schema.names if _is_own(name)]
    after = dict(zip(own, [*own[1:], own[0]], strict=True))
    return pyarrow.schema([schema.field(after.get(name, name)) for name in schema.names])


def _is_own(name: str) -> bool:
    return name in _EVENT_COLUMNS or name.startswith(_TIME_OF)


def data_columns(table: Any) -> tuple[str, ...]:
    """Return the columns of a table that hold the events' data, in their order."""
    return tuple(name for name in table.columns if not _is_own(name))


def times_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the timestamps of an event from its row."""
    return {name.removeprefix(_TIME_OF): time for name, time in row.items() if name.startswith(_TIME_OF)}


def schema_of(table: Any) -> pyarrow.Schema:
    """Return the columns of a table with their types."""
    return table.structure().arrow_schema_decoded


def frames_of(table: Any) -> NDArray[np.int64]:
    """Return the frame of each row of a table, in the order in which any client reads them."""
    return np.asarray(rows_of(table, [FRAME])[FRAME].to_numpy(), dtype=np.int64)


def rows_of(table: Any, columns: Iterable[str] | None = None) -> pyarrow.Table:
    """Return the rows of a table, in the order in which any client reads them.

    Raises
    ------
    StoreUnavailableError
        When the answer was cut short.
    Exception
        What Tiled's client raises.
    """
    # Tiled's DataFrameClient makes a graph of tasks of each read, which costs more than what is read here.
    response = table.context.http_client.get(
        table.item["links"]["full"],
        headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE},
        params={} if columns is None else {"column": list(columns)},
    )
    response.raise_for_status()
    try:
        return pyarrow.ipc.open_file(response.read()).read_all()
    except pyarrow.ArrowException as error:
        raise StoreUnavailableError(f"rows could not be read back ({error})") from error


def _row(event: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a row of these columns; a time that the event does not state for a column is the event's own."""
    data, times = event["data"], event["timestamps"]
    row = {"seq_num": event["seq_num"], "time": event["time"], **data}
    of_columns = (name.removeprefix(_TIME_OF) for name in names if name.startswith(_TIME_OF))
    row |= {f"{_TIME_OF}{name}": times.get(name, event["time"]) for name in of_columns}
    return {name: storable_text(value) if isinstance(value, str) else value for name, value in row.items()}
