"""Bytes that analysis runs and their rows take where Tiled stores them."""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.store import documents
from benchmarks.tiled_server import serving

_ROWS_A_CALL = 1_000


def stored_bytes(options: argparse.Namespace) -> dict[str, Any]:
    """Store many runs of one row, then one of many rows, and look at the files each time."""
    from tiled.client import from_uri

    from dvfb_stream.catalog.place import CATALOG_SPECS
    from dvfb_stream.catalog.store import AnnotationStore

    runs, rows = options.runs or 30, options.frames or 20_000
    found: dict[str, Any] = {"runs_of_one_row": runs, "rows_of_one_run": rows}
    with tempfile.TemporaryDirectory(prefix="dvfb-history-bench-") as name:
        folder = Path(name)
        with serving(folder) as server:
            client = from_uri(server.address, api_key=server.key)
            store = AnnotationStore(client.create_container("raw", specs=list(CATALOG_SPECS)))
            _store(store, 1)
            sizes = [_sizes_of(folder)]
            sent = 0

            def counted(request: Any, *args: Any, **options: Any) -> Any:
                nonlocal sent
                sent += 1
                return send(request, *args, **options)

            send = client.context.http_client.send
            client.context.http_client.send = counted
            for _ in range(runs):
                _store(store, 1)
            found["requests_a_run"] = round(sent / runs, 1)
            sizes.append(_sizes_of(folder))
            _store(store, rows)
            sizes.append(_sizes_of(folder))
            search = client.context.http_client.get(
                f"{client.context.api_uri}search/raw_annotations", params={"page[limit]": 1}
            )
            found["answer_bytes_a_run"] = len(search.content)
        with duckdb.connect(str(folder / "tables.duckdb")) as tables:
            found["tables"] = len(tables.execute("SHOW TABLES").fetchall())
            tables.execute("CHECKPOINT")
        found["tables_bytes_a_row_compacted"] = round(_sizes_of(folder)["tables"] / (rows + runs + 1), 1)
        with sqlite3.connect(folder / "catalog.db") as catalog:
            found["catalog_rows_a_run"] = {
                table: round(catalog.execute(f"SELECT count(*) FROM {table}").fetchone()[0] / (runs + 2), 1)
                for (table,) in catalog.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                ).fetchall()
                if catalog.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > runs
            }
    for place in sizes[0]:
        found[f"{place}_bytes_a_run"] = round((sizes[1][place] - sizes[0][place]) / runs)
        found[f"{place}_bytes_a_row"] = round((sizes[2][place] - sizes[1][place]) / rows, 1)
    return found


def _store(store: Any, rows: int) -> None:
    run = documents(rows)
    chance = random.Random(rows)
    for event in run.events:  # equal numbers would be compressed to nothing
        scores = {key: chance.random() for key, value in event["data"].items() if isinstance(value, float)}
        event["data"] |= scores
    for first in range(0, rows, _ROWS_A_CALL):
        store.write(run.start, run.descriptor, run.events[first : first + _ROWS_A_CALL])
    store.finish(run.start, run.descriptor, run.stop)


def _sizes_of(folder: Path) -> dict[str, int]:
    """Return the bytes of the two databases, their journals among them."""
    return {
        "catalog": sum(path.stat().st_size for path in folder.glob("catalog.db*")),
        "tables": sum(path.stat().st_size for path in folder.glob("tables.duckdb*")),
    }
