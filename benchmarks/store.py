"""What does a stored row cost beside TiledWriter's, and how many are stored a second?

    python -m benchmarks.store [--calls 16] [--rounds 5] > benchmarks/results/store.json
    python -m benchmarks.store --arrays coefficients,features > benchmarks/results/store_arrays.json

One server, `tiled serve catalog` on SQLite and DuckDB, in a process of its own. All ways of writing take turns, run
by run, so that a busy machine burdens all of them; a figure is the best of all rounds. Only the store proves that a
row is there: it reads back, which is a request more a call. TiledWriter with its default of 10,000 shows rows when
the run stops. A run's beginning and end are in the figures. With arrays, each event carries them, of random numbers;
TiledWriter keeps them in zarr arrays, too, and reads nothing back.
"""

from __future__ import annotations

import argparse
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.tiled_server import processor_seconds_of, serving
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.labels import LABELS

BATCHES = (1, 16, 64, 512)
"""Rows a call; a spool that is behind delivers by the hundred."""


@dataclass(frozen=True)
class Documents:
    """Of one analysis run."""

    start: dict[str, Any]
    descriptor: dict[str, Any]
    events: list[dict[str, Any]]
    stop: dict[str, Any]


SHAPES = {"coefficients": (40, 11), "features": (256,)}
"""Of the arrays of the default model, as annotations carry them."""


def documents(rows: int, names: Sequence[str] = ()) -> Documents:
    """Compose an analysis run of so many frames, with arrays of these names."""
    identity = ModelIdentity(name="benchmark", version="1", sha256="0" * 64)
    model = {"name": identity.name, "version": identity.version, "sha256": identity.sha256}
    run = AnalysisRun(
        {"uid": str(uuid.uuid4()), "time": time.time(), "scan_id": 1},
        stream="primary",
        data_key="image",
        provenance={"model": model, "labels": list(LABELS)},
        geometry=None,
        started=time.time(),
        described=time.time(),
        arrays={name: documented_shape(name) for name in names},
    )
    scores = dict.fromkeys(LABELS, 0.25)
    annotation = Annotation(status="ok", model=identity, scores=scores, labels=("rings",), fit_residual=0.1)
    rng = np.random.default_rng(0)
    events = []
    for k in range(rows):
        carried = {name: rng.normal(size=(*SHAPES[name], 2)).view(complex)[..., 0] for name in names}
        if "features" in carried:
            carried["features"] = carried["features"].real
        events.append(run.event(Row(index=k, time=time.time(), annotation=replace(annotation, **carried))))
    return Documents(run.start(), run.descriptor(), events, run.stop(time.time()))


def documented_shape(name: str) -> tuple[int, ...]:
    """Return the shape of an array in documents: those of complex numbers have two for each."""
    return (*SHAPES[name], 2) if name == "coefficients" else SHAPES[name]


def ways(client: Any) -> dict[str, Callable[[Documents], None]]:
    """Return the ways of writing a run, each with a container of its own."""
    from bluesky_tiled_plugins import TiledWriter

    from dvfb_stream.catalog.place import CATALOG_SPECS
    from dvfb_stream.catalog.store import AnnotationStore

    store = AnnotationStore(client.create_container("store", specs=list(CATALOG_SPECS)))
    others = client.create_container("tiled-writer", specs=list(CATALOG_SPECS))

    def by_store(batch: int) -> Callable[[Documents], None]:
        def write(run: Documents) -> None:
            for first in range(0, len(run.events), batch):
                store.write(run.start, run.descriptor, run.events[first : first + batch])
            store.finish(run.start, run.descriptor, run.stop)

        return write

    def by_tiled_writer(**options: Any) -> Callable[[Documents], None]:
        def write(run: Documents) -> None:
            writer = TiledWriter(others, **options)
            writer("start", run.start)
            writer("descriptor", run.descriptor)
            for event in run.events:
                writer("event", event)
            writer("stop", run.stop)

        return write

    return {
        **{f"store, {batch} rows a call": by_store(batch) for batch in BATCHES},
        **{
            f"TiledWriter, {batch} rows a call": by_tiled_writer(batch_size=batch, normalizer=None)
            for batch in BATCHES
        },
        "TiledWriter, as it comes": by_tiled_writer(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write runs in all ways in turn."""
    names = [name for name in options.arrays.split(",") if name]
    best: dict[str, dict[str, float]] = {}
    with served() as (client, processor_seconds):
        writers = ways(client)
        for _ in range(options.rounds):
            for name, write in writers.items():
                rows = options.calls * rows_a_call(name)
                run = documents(rows, names)
                before, started = processor_seconds(), time.perf_counter()
                write(run)
                seconds, processor = time.perf_counter() - started, processor_seconds() - before
                kept = best.setdefault(
                    name, {"seconds_a_row": math.inf, "server_processor_seconds_a_row": math.inf}
                )
                kept["seconds_a_row"] = min(kept["seconds_a_row"], seconds / rows)
                kept["server_processor_seconds_a_row"] = min(
                    kept["server_processor_seconds_a_row"], processor / rows
                )
    return {
        name: {
            "rows_per_second": round(1 / kept["seconds_a_row"], 1),
            "milliseconds_a_row": round(1e3 * kept["seconds_a_row"], 3),
            "server_processor_milliseconds_a_row": round(1e3 * kept["server_processor_seconds_a_row"], 3),
        }
        for name, kept in best.items()
    }


def rows_a_call(name: str) -> int:
    """Return how many rows a way of writing sends at a time; a middling number where it decides by itself."""
    return next((batch for batch in BATCHES if f", {batch} rows" in name), 64)


@contextmanager
def served(readable: Sequence[Path] = ()) -> Iterator[tuple[Any, Callable[[], float]]]:
    """Serve a new catalog; give a client, and a function that tells the processor's time of the server so far.

    The server may also read files in the folders `readable`.
    """
    from tiled.client import from_uri

    with serving(readable=readable) as server:
        client = from_uri(server.address, api_key=server.key)
        yield client, lambda: processor_seconds_of(server.pid)
        client.context.close()


if __name__ == "__main__":
    command.run(
        "store",
        __doc__,
        measure,
        calls=(16, "calls a run"),
        rounds=(5, "how often each way has its turn"),
        arrays=("", "arrays of each frame, with commas between them: coefficients, features"),
    )
