"""Frames that were found: a sequence of them, whose rows and images are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow
from numpy.typing import NDArray

from dvfb_stream.catalog.mirror.rows import SCHEMA
from dvfb_stream.catalog.raw_images import image_node, read_image
from dvfb_stream.catalog.raw_runs import raw_container
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Origin
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.rows import COLUMNS

if TYPE_CHECKING:
    from dvfb_stream.catalog.mirror.mirror import RowsOfRuns
    from dvfb_stream.catalog.searching.people import WhatPeopleSay

_OF_RUNS = {
    "run_uid": "parent",
    "stream": "stream",
    "data_key": "data_key",
    "model": "model",
    "model_version": "model_version",
    "model_sha256": "model_sha256",
    "analysis_uid": "uid",
}
"""Columns that are the same for all rows of a run, and where they are said."""

TABLE_COLUMNS = tuple(
    column.name for column in COLUMNS if column.name in _OF_RUNS or column.name in SCHEMA.names
)
"""Of the tables of frames, in the order of `dvfb_stream.rows.COLUMNS`."""


@dataclass(frozen=True, slots=True)
class FoundFrame:
    """One frame that was found."""

    row: dict[str, Any]
    """As `dvfb_stream.rows` lays it out; None where an earlier version wrote nothing."""
    _container: Any = field(repr=False, compare=False)

    @property
    def raw_uid(self) -> str:
        """Uid of the raw run."""
        return str(self.row["run_uid"])

    @property
    def frame(self) -> int:
        """Index of the frame in its data key, from 0."""
        return int(self.row["frame"])

    @property
    def scores(self) -> dict[str, float]:
        """Probabilities by label; of those that the model knows."""
        return {
            label: value
            for label in ALL_LABELS
            if (value := self.row[label]) is not None and np.isfinite(value)
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """That were accepted; with ``source="human"``, as people corrected them."""
        return tuple((self.row["labels"] or "").split(",")) if self.row["labels"] else ()

    @property
    def doubtful(self) -> tuple[str, ...]:
        """That were neither accepted nor rejected."""
        return tuple((self.row["doubtful"] or "").split(",")) if self.row["doubtful"] else ()

    @property
    def raw(self) -> Any:
        """Bluesky's client of the raw run.

        Raises
        ------
        FrameError
            When it is not in the catalog any more.
        SettingsError
            When nothing says in which container the raw runs are.
        """
        runs = raw_container(self._container)
        try:
            return runs[self.raw_uid]
        except KeyError:
            raise FrameError(f"the raw run {self.raw_uid} is not in {runs.uri.partition('?')[0]}") from None

    def image(self) -> NDArray[Any]:
        """Return the frame's pixels (H, W) as the detector counted them; Tiled's server reads them.

        Raises
        ------
        FrameError
            When the raw run, its image or the frame is not there any more.
        Exception
            What Tiled's client raises.
        """
        origin = Origin(
            run_uid=self.raw_uid, stream=self.row["stream"], data_key=self.row["data_key"], index=self.frame
        )
        return read_image(image_node(raw_container(self._container), origin), self.frame)


@dataclass(frozen=True, slots=True)
class Part:
    """Frames in one file of rows."""

    file: RowsOfRuns
    at: NDArray[np.int64]
    run: NDArray[np.int64]
    runs: pyarrow.Table
    people: WhatPeopleSay
    container: Any


class FoundFrames(Sequence[FoundFrame]):
    """The frames for which an expression holds: those of the newest raw run first, in a run in their order.

    `len`, an index, a slice and a loop read no more than is needed of a million of them; `table` gives all as one.
    """

    def __init__(self, parts: Sequence[Part], order: NDArray[np.int64] | None = None) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *(len(part.at) for part in parts)])
        self._order = _ordered(parts) if order is None else order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, which: int) -> FoundFrame: ...

    @overload
    def __getitem__(self, which: slice) -> FoundFrames: ...

    def __getitem__(self, which: int | slice) -> FoundFrame | FoundFrames:
        """Return one frame, or some of them."""
        if isinstance(which, slice):
            return FoundFrames(self._parts, self._order[which])
        (found,) = FoundFrames(self._parts, self._order[range(len(self))[which]][None])
        return found

    def __iter__(self) -> Iterator[FoundFrame]:
        for first in range(0, len(self), _AT_A_TIME):
            some = self[first : first + _AT_A_TIME]
            numbers = np.searchsorted(self._first, some._order, side="right") - 1
            for number, row in zip(numbers, some.table().to_pylist(), strict=True):
                yield FoundFrame(row, self._parts[number].container)

    def __repr__(self) -> str:
        return f"<{len(self)} frames of {len(set(self.run_uids()))} runs>"

    def run_uids(self) -> list[str]:
        """Return the uids of the raw runs that they are of, each once, in their order."""
        uids = self.table(["run_uid"])["run_uid"].combine_chunks()
        return [str(uid) for uid in uids.unique().to_pylist()]

    def table(self, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Return their rows as an Arrow table; ``.to_pandas()`` makes a DataFrame of it.

        Parameters
        ----------
        columns
            Of `dvfb_stream.rows`; None: all.
        """
        wanted = TABLE_COLUMNS if columns is None else tuple(columns)
        tables, numbers = [], []
        for number, part in enumerate(self._parts):
            of_part = (self._order >= self._first[number]) & (self._order < self._first[number + 1])
            if of_part.any():
                at = self._order[of_part] - self._first[number]
                tables.append(_table(part, at, wanted))
                numbers.append(np.flatnonzero(of_part))
        if not tables:
            return schema_of_frames(wanted).empty_table()
        whole = pyarrow.concat_tables(tables)
        if len(tables) == 1:
            return whole
        return whole.take(pyarrow.array(np.argsort(np.concatenate(numbers))))


_AT_A_TIME = 10_000
"""Rows that a loop reads together."""


def _ordered(parts: Sequence[Part]) -> NDArray[np.int64]:
    times = [part.runs["time"].to_numpy()[part.run] for part in parts]
    uids = [part.runs["position"].to_numpy()[part.run] for part in parts]
    if not parts:
        return np.empty(0, np.int64)
    # Rows of a run follow one another already, in the order of its frames.
    return np.lexsort((-np.concatenate(uids), -np.concatenate(times)))


def _table(part: Part, at: NDArray[np.int64], columns: Sequence[str]) -> pyarrow.Table:
    """Return rows of a part, in the order of `at`, reading no more of the file than holds them."""
    rows, runs = part.at[at], part.run[at]
    of_rows = [name for name in columns if name not in _OF_RUNS]
    groups, shifted = _groups(part.file.parquet.metadata, rows)
    found: dict[str, Any] = {}
    if of_rows:
        try:
            # Corrections are told by the frame.
            read = list(dict.fromkeys([*of_rows, "frame"])) if "labels" in of_rows else of_rows
            table = part.file.parquet.read_row_groups(groups, read).take(pyarrow.array(shifted))
        except (OSError, pyarrow.ArrowException) as error:
            part.file.forget()
            raise FrameError(
                f"this machine's copy of the rows is damaged ({error}), and was removed; search again"
            ) from error
        found = {name: table[name] for name in of_rows}
        if "labels" in found:
            frames = table["frame"].to_numpy()
            found["labels"] = part.people.corrected(found["labels"], frames, part.runs, runs)
    for name in columns:
        if name in _OF_RUNS:
            found[name] = part.runs[_OF_RUNS[name]].take(pyarrow.array(runs))
    schema = schema_of_frames(columns)
    return pyarrow.table([found[name].cast(schema.field(name).type) for name in columns], schema=schema)


def _groups(metadata: Any, rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the groups of rows that hold some rows, and where these are in them."""
    sizes = np.array([metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)], np.int64)
    first = np.cumsum([0, *sizes])
    group = np.searchsorted(first, rows, side="right") - 1
    groups = np.unique(group)
    place = np.cumsum([0, *sizes[groups]])[np.searchsorted(groups, group)]
    return groups.tolist(), rows - first[group] + place


def schema_of_frames(columns: Sequence[str]) -> pyarrow.Schema:
    """Return the types of columns of frames."""
    text = pyarrow.string()
    return pyarrow.schema(
        [pyarrow.field(name, text if name in _OF_RUNS else SCHEMA.field(name).type) for name in columns]
    )
