"""Keeps a container of analysis runs on this machine, so that its frames can be searched by any expression."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet
from numpy.typing import NDArray

from dvfb_stream.catalog.cache_folder import cache_folder
from dvfb_stream.catalog.mirror.files import Damage, MirrorFiles, RowsFile
from dvfb_stream.catalog.mirror.rows import LISTS, RUNS_SCHEMA, SCHEMA, fetched
from dvfb_stream.catalog.mirror.runs import RunSummaries, joined, understood
from dvfb_stream.catalog.mirror.upkeep import changed

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], object]
"""Is told what is read, how much of it is done, and of how much; 0 where nobody knows."""

_RUNS_A_FILE = 200
"""Whose rows are read before they are kept: what a killed process has to read again."""
_ROWS_A_FILE = 2_000_000
"""Files of more rows are put together with no others: it bounds what is written anew."""
_TIERS = 4
"""A file is put together with those before it that are at most so many times larger: each row is written anew
a few times, and there are a few files."""
_LOOKS = 20
"""How often files are looked for that another process deletes at the same time, as it puts them together."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RowsOfRuns:
    """Rows that are kept in one file."""

    parquet: Any
    """The file, open: it can be read although another process deletes it."""
    keys: pyarrow.Array
    """``rows_key`` of each run, in the order of the rows."""
    counts: NDArray[np.int64]
    """Rows of each."""
    forget: Callable[[], None]
    """Has the copy made anew at the next search: what was read of it is damaged."""


class Mirror:
    """The copy of one container of analysis runs.

    It holds what each run says of itself, and the rows of those runs for which they were asked. What is damaged, or
    of another version or catalog, is made anew.

    Parameters
    ----------
    client
        Tiled client of the container, or a search in it.
    progress
        Is told of what takes time.
    """

    def __init__(self, client: Any, progress: Progress | None = None) -> None:
        self._client = client
        self._progress: Progress = progress or (lambda what, done, total: None)
        self._files = MirrorFiles(self._folder())

    def runs(self) -> pyarrow.Table:
        """Return what is known of each analysis run (`runs.SCHEMA`), as the catalog has it now.

        Raises
        ------
        Exception
            What Tiled's client raises.
        """
        return self.mended(self._runs)

    def rows(self, runs: pyarrow.Table) -> list[RowsOfRuns]:
        """Return files that have the rows of those runs, and of others.

        Rows that are not as many as the run's summary counts are not kept: their table was not there yet, or was
        being written. What there is of them is given, and asked for again at the next search.

        Parameters
        ----------
        runs
            Some of what `runs` returned.

        Raises
        ------
        Exception
            What Tiled's client raises.
        """
        return self.mended(lambda: self._rows(runs))

    def mended(self, act: Callable[[], _T]) -> _T:
        """Do what reads the copy, and once more with a new one where it is damaged."""
        try:
            return act()
        except Damage as error:
            logger.warning("the copy of the catalog is damaged (%s), and is made anew", error)
            self._files.forget()
            return act()

    def _folder(self) -> Path:
        try:
            folder = cache_folder(self._client) / "rows"
            folder.mkdir(exist_ok=True)
            MirrorFiles(folder).check()
        except OSError as error:
            logger.warning(
                "no copy of the catalog can be kept (%s): what is searched is read each time", error
            )
            temporary = Path(tempfile.mkdtemp(prefix="dvfb-mirror-"))
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
            return temporary
        return folder

    def _runs(self) -> pyarrow.Table:
        with self._files.writing():
            contents = self._files.read()
            known = joined([self._files.table(file) for file in contents.runs])
            before = contents
            contents, known, fresh = changed(
                self._client, contents, known, lambda listed: self._progress("runs", listed, 0)
            )
            if fresh.num_rows:
                kept, tables = contents.runs, [fresh]
                while kept and kept[-1].rows <= _TIERS * sum(table.num_rows for table in tables):
                    tables.insert(0, self._files.table(kept[-1]))
                    kept = kept[:-1]
                contents = replace(contents, runs=(*kept, self._files.add("runs", joined(tables))))
            if contents != before:
                self._files.write(contents)
            return understood(joined([known, fresh]))

    def _rows(self, runs: pyarrow.Table) -> list[RowsOfRuns]:
        done, passing = 0, list[RowsOfRuns]()
        while True:
            kept = self._kept()
            missing = _without(runs, [*kept, *passing])
            if not missing.num_rows:
                keys = {key for file in kept for key in file.keys.to_pylist()} if passing else set()
                return [*kept, *(one for one in passing if one.keys[0].as_py() not in keys)]
            total = done + missing.num_rows
            self._progress("rows of runs", done, total)
            with self._files.writing():
                # Another process may have read them meanwhile.
                missing = _without(runs, self._kept())
                passing += self._read(missing.slice(0, _RUNS_A_FILE))
            done += min(missing.num_rows, _RUNS_A_FILE)
            self._progress("rows of runs", done, total)

    def _kept(self) -> list[RowsOfRuns]:
        for look in range(_LOOKS):
            try:
                return [self._opened(file) for file in self._files.read().rows]
            except FileNotFoundError:
                if look == _LOOKS - 1:
                    raise
        raise AssertionError

    def _opened(self, file: RowsFile) -> RowsOfRuns:
        runs = self._files.table(file.runs)
        counts = runs["count"].to_numpy()
        parquet = self._files.open(file.rows, in_codes=LISTS)
        if parquet.metadata.num_rows != counts.sum():
            raise ValueError(f"{file.rows.name} has not the rows of its runs")
        return RowsOfRuns(parquet, runs["rows_key"].combine_chunks(), counts, self._files.forget)

    def _read(self, runs: pyarrow.Table) -> list[RowsOfRuns]:
        """Read the rows of some runs, and keep them; return those that are not to be kept, each run by itself."""
        found = list(fetched(self._client, runs["uid"].to_pylist()))
        frames = RunSummaries(runs).number("frames")
        agree = np.array(
            [rows.agree_with(of_run) for rows, of_run in zip(found, frames, strict=True)], np.bool_
        )
        self._keep(runs.filter(pyarrow.array(agree)), [found[k].table for k in np.flatnonzero(agree)])
        return [
            _in_memory(runs["rows_key"][k].as_py(), found[k].table) for k in np.flatnonzero(~agree).tolist()
        ]

    def _keep(self, runs: pyarrow.Table, tables: list[pyarrow.Table]) -> None:
        if not runs.num_rows:
            return
        keys = pyarrow.table([runs["rows_key"], [table.num_rows for table in tables]], schema=RUNS_SCHEMA)
        contents = self._files.read()
        live = joined([self._files.table(file, ["uid", "rows_key"]) for file in contents.runs])["rows_key"]
        files, rows = list(contents.rows), [SCHEMA.empty_table(), *tables]
        while files and _is_joined(files[-1], sum(table.num_rows for table in rows)):
            old = files.pop()
            old_keys, old_rows = self._files.table(old.runs), self._files.table(old.rows)
            stays = compute.is_in(old_keys["rows_key"], live.combine_chunks())
            keys = pyarrow.concat_tables([old_keys.filter(stays), keys])
            rows.insert(0, old_rows.filter(pyarrow.array(np.repeat(stays.to_numpy(), old_keys["count"]))))
        table = pyarrow.concat_tables(rows, promote_options="permissive")
        file = RowsFile(rows=self._files.add("rows", table), runs=self._files.add("keys", keys))
        self._files.write(replace(contents, rows=(*files, file)))


def _in_memory(rows_key: str, table: pyarrow.Table) -> RowsOfRuns:
    """Return rows of one run as if a file had them."""
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(sink.getvalue()), read_dictionary=list(LISTS))
    return RowsOfRuns(file, pyarrow.array([rows_key]), np.array([table.num_rows]), lambda: None)


def _without(runs: pyarrow.Table, kept: list[RowsOfRuns]) -> pyarrow.Table:
    if not kept:
        return runs
    known = pyarrow.concat_arrays([file.keys for file in kept])
    return runs.filter(compute.invert(compute.is_in(runs["rows_key"], known)))


def _is_joined(file: RowsFile, rows: int) -> bool:
    return file.rows.rows <= _TIERS * max(rows, 1) and file.rows.rows + rows <= _ROWS_A_FILE
