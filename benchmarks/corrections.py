"""What do corrections cost: said one by one and in bulk, and read, of one run and of all?

    python -m benchmarks.corrections [--calls 3000] [--bulk 7000] [--runs 10] > benchmarks/results/corrections.json

One server, `tiled serve catalog` on SQLite and DuckDB, in a process of its own. A few single corrections are made by
`correct`; to have as many as are asked for, the last is copied in the database of the catalog. The bulk is a table of
so many lines, read from CSV, checked, stored and read back by `correct_many`.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.store import documents
from benchmarks.tiled_server import processor_seconds_of, serving

FRAMES = 1_000
"""Of each annotated run."""
TIMES = 5
"""A figure is the median of so many calls."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Annotate runs, correct them, and read it."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as server:
        from tiled.client import from_uri

        from dvfb_stream.catalog.corrections import correct, corrections_of, undo
        from dvfb_stream.catalog.corrections.correcting import correct_many
        from dvfb_stream.catalog.corrections.csv_table import read_corrections_table
        from dvfb_stream.catalog.place import CATALOG_SPECS

        client = from_uri(server.address, api_key=server.key)
        raw = client.create_container("raw", specs=list(CATALOG_SPECS))
        uids = list(annotated(raw, options.runs))
        found: dict[str, Any] = {
            "correct_seconds": seconds_of(lambda: correct(raw, uids[0], 0, add=["rings"], by="ann"))
        }
        copy_last(Path(name) / "catalog.db", options.calls - TIMES, uids)
        path = Path(name) / "corrections.csv"
        lines = [f"{uids[k % len(uids)]},{k // len(uids)},four_fold," for k in range(options.bulk)]
        path.write_text("\n".join(["run,frame,add,remove", *lines]))
        found["bulk_seconds"] = seconds_of(
            lambda: correct_many(raw, read_corrections_table(path), by="ann"), 1
        )
        before = processor_seconds_of(server.pid)
        found["read_all_seconds"] = seconds_of(lambda: corrections_of(raw))
        processor = (processor_seconds_of(server.pid) - before) / TIMES
        found["read_all_server_processor_seconds"] = round(processor, 3)
        found["read_one_run_seconds"] = seconds_of(lambda: corrections_of(raw, uids[:1]))
        found["correct_one_more_seconds"] = seconds_of(
            lambda: correct(raw, uids[1], 1, add=["rings"], by="ann")
        )
        last = correct(raw, uids[2], 2, add=["weak"], by="ann")
        found["undo_seconds"] = seconds_of(lambda: undo(raw, last.uid, by="ann"), 1)
        found["corrections"] = len(corrections_of(raw))
        found["documents"] = len(client["raw_corrections"])
        client.context.close()
        return found


def annotated(raw: Any, count: int) -> Iterator[str]:
    """Store annotated raw runs; their uids."""
    from dvfb_stream.catalog.store import AnnotationStore

    store = AnnotationStore(raw)
    for _ in range(count):
        run = documents(FRAMES)
        uid = run.start["analysis"]["parent"]
        raw.create_container(uid, metadata={"start": {"uid": uid, "time": time.time()}})
        store.write(run.start, run.descriptor, run.events)
        store.finish(run.start, run.descriptor, run.stop)
        yield uid
    store.close()


def copy_last(catalog: Path, count: int, uids: list[str]) -> None:
    """Copy the correction that was stored last, each time of another frame."""
    with sqlite3.connect(catalog, timeout=60.0) as database:
        *_, node = (row[0] for row in database.execute("SELECT id FROM nodes ORDER BY id"))
        columns = [row[1] for row in database.execute("PRAGMA table_info(nodes)")]
        values = dict(
            zip(
                columns, database.execute("SELECT * FROM nodes WHERE id = ?", (node,)).fetchone(), strict=True
            )
        )
        del values["id"]
        metadata = json.loads(values["metadata"])
        start = metadata["start"]
        (analysis,) = start["correction"]["analyses"].values()
        for number in range(count):
            uid = str(uuid.uuid4())
            start["uid"] = start["correction"]["frames"][0]["uid"] = metadata["stop"]["run_start"] = uid
            start["correction"]["frames"][0]["frame"] = number % FRAMES
            analysis["parent"] = uids[number % len(uids)]
            start["correction"]["raw_uids"] = [analysis["parent"]]
            row = values | {"key": uid, "metadata": json.dumps(metadata)}
            places = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO nodes ({', '.join(row)}) VALUES ({places})", list(row.values()))


def seconds_of(call: Callable[[], Any], times: int = TIMES) -> float:
    """Return the median time of some calls."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken), 3)


if __name__ == "__main__":
    command.run(
        "corrections",
        __doc__,
        measure,
        calls=(3_000, "single corrections"),
        bulk=(7_000, "lines of the table, at most 1,000 a run"),
        runs=(10, "annotated raw runs"),
    )
