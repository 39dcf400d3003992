"""What do corrections cost: said one by one and in bulk, and read, of one run and of all?

    python -m benchmarks.corrections [--calls 3000] [--bulk 7000] [--runs 100] > benchmarks/results/corrections.json

One server, `tiled serve catalog` on SQLite and DuckDB, in a process of its own. The single calls but for the last are
stored as `correct` stores them, without looking for their rows; a bulk is read from CSV and checked, line by line.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.store import documents, served

FRAMES = 100
"""Of each annotated run."""
READS = 5


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Annotate runs, correct them, and read it."""
    with served() as (client, processor_seconds):
        from dvfb_stream.catalog.corrections import correct, corrections_of, undo
        from dvfb_stream.catalog.corrections.correcting import correct_many
        from dvfb_stream.catalog.corrections.csv_table import read_corrections_table
        from dvfb_stream.catalog.place import CATALOG_SPECS

        raw = client.create_container("raw", specs=list(CATALOG_SPECS))
        uids = list(annotated(raw, options.runs))
        one = seconds_of(lambda: correct(raw, uids[0], 0, add=["rings"], by="ann"), 10)
        store_calls(raw, uids, options.calls)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "corrections.csv"
            lines = [f"{uids[k % len(uids)]},{k // len(uids)},four_fold," for k in range(options.bulk)]
            path.write_text("\n".join(["run,frame,add,remove", *lines]))
            bulk = seconds_of(lambda: correct_many(raw, read_corrections_table(path), by="ann"), 1)
        before, found = processor_seconds(), corrections_of(raw)
        return {
            "corrections": len(found),
            "documents": len(client["raw_corrections"]),
            "correct_seconds": one,
            "bulk_seconds": bulk,
            "read_all_seconds": seconds_of(lambda: corrections_of(raw), READS),
            "read_all_server_processor_seconds": round((processor_seconds() - before) / (READS + 1), 3),
            "read_one_run_seconds": seconds_of(lambda: corrections_of(raw, uids[:1]), READS),
            "correct_one_more_seconds": seconds_of(
                lambda: correct(raw, uids[1], 1, add=["rings"], by="ann"), READS
            ),
            "undo_seconds": seconds_of(
                lambda: undo(raw, correct(raw, uids[2], 2, add=["weak"], by="ann").uid), 1
            ),
        }


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


def store_calls(raw: Any, uids: list[str], count: int) -> None:
    """Store single corrections, of the runs in turn."""
    from dvfb_stream.catalog.corrections.correction import Correction, ModelRow
    from dvfb_stream.catalog.corrections.corrections_place import make_corrections
    from dvfb_stream.catalog.corrections.documents import runs_of_corrections
    from dvfb_stream.catalog.corrections.storing import store_run
    from dvfb_stream.frames import Origin
    from dvfb_stream.labels import LABELS

    place = make_corrections(raw)
    row = ModelRow(
        analysis_uid=str(uuid.uuid4()),
        model="benchmark",
        model_version="1",
        model_sha256="0" * 64,
        status="ok",
        labels=("rings",),
        doubtful=(),
        scores=dict.fromkeys(LABELS, 0.25),
    )
    for number in range(count):
        uid = str(uuid.uuid4())
        origin = Origin(
            run_uid=uids[number % len(uids)], stream="primary", data_key="image", index=number // len(uids)
        )
        correction = Correction(
            uid=uid,
            call=uid,
            time=time.time(),
            by="ann",
            note="",
            origin=origin,
            add=("halo",),
            remove=(),
            row=row,
        )
        for start in runs_of_corrections([correction]):
            store_run(place, start)


def seconds_of(call: Callable[[], Any], times: int) -> float:
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
        bulk=(7_000, "lines of the table, at most 100 a run"),
        runs=(100, "annotated raw runs"),
    )
