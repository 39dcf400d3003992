"""What does it cost to have rows on the disk first, and how late are they? JSON on stdout.

    python -m benchmarks.spool [--frames 2000] [--call 0.05] > benchmarks/results/spool.json

`put`: time of a sink's call, with SQLite's journal as it is here, and fsynced in each call (`synchronous = FULL`), in
turns. `late`: seconds from a row to the end of the store's call that had it, at 1, 10 and 100 rows a second, where a
call takes `--call` seconds. `backlog`: rows a second that leave the spool after an outage. `callback`: time of the
RunEngine's call for each frame, 10 ms apart, without a sink and with a spool whose store is away, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import run
from benchmarks.live.documents import GEOMETRY, Documents, exposures, inline_run
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.catalog.spool import Spool
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS

IDENTITY = ModelIdentity(name="small", version="1", sha256="0" * 64)


class Waits:
    """A store whose calls take a time, and that remembers when each frame was stored."""

    def __init__(self, call: float) -> None:
        self._call = call
        self.away = False
        self.stored: dict[int, float] = {}

    def write(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take its time."""
        if self.away:
            raise StoreUnavailableError("away")
        time.sleep(self._call)
        now = time.monotonic()
        self.stored.update((event["data"]["frame"], now) for event in events)

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> None:
        """Take its time."""
        time.sleep(self._call)

    def close(self) -> None:
        """Nothing is held."""


def documents(frames: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of an analysis run."""
    analysis = AnalysisRun(
        {"uid": "raw"},
        stream="primary",
        data_key="image",
        provenance={"model": {"name": "small", "version": "1", "sha256": "0" * 64}, "labels": list(LABELS)},
        geometry=None,
        started=0.0,
        described=0.0,
    )
    annotation = Annotation(status="ok", model=IDENTITY, scores=dict.fromkeys(LABELS, 0.5))
    rows = (Row(index=index, time=float(index), annotation=annotation) for index in range(frames))
    begin = [("start", analysis.start()), ("descriptor", analysis.descriptor())]
    return [*begin, *(("event", analysis.event(row)) for row in rows), ("stop", analysis.stop(0.0))]


def put(frames: int, folder: Path, journal: str) -> dict[str, float]:
    """Time the calls of a sink whose store is away."""
    store = Waits(0.0)
    store.away = True
    with closing(Spool(store, folder)) as spool:
        spool._file._connection.execute(f"PRAGMA synchronous = {journal}")
        spent = []
        for name, doc in documents(frames):
            begun = time.perf_counter()
            spool(name, doc)
            spent.append(time.perf_counter() - begun)
        spool._delivery.close(0.1)
    p50, p99 = np.percentile(spent, [50, 99])
    return {"p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "rows_per_second": len(spent) / sum(spent)}


def late(rate: float, call: float, folder: Path) -> dict[str, float]:
    """Time rows that come evenly, from the sink's call to the store's."""
    store, came = Waits(call), {}
    docs = documents(int(max(20, min(500, 20 * rate))))
    with closing(Spool(store, folder)) as spool:
        for document in docs[:2]:
            spool(*document)
        begin = time.monotonic()
        for frame, (name, doc) in enumerate(docs[2:-1]):
            pause = begin + frame / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            came[frame] = time.monotonic()
            spool(name, doc)
        spool.wait(60)
    waited = [store.stored[frame] - came[frame] for frame in came]
    p50, p99 = np.percentile(waited, [50, 99])
    return {"rows": len(waited), "p50_s": p50, "p99_s": p99, "max_s": max(waited)}


def backlog(frames: int, call: float, folder: Path) -> dict[str, float]:
    """Time the delivery of what came during an outage."""
    store = Waits(call)
    store.away = True
    with closing(Spool(store, folder)) as spool:
        for document in documents(frames):
            spool(*document)
        store.away = False
        spool.wait(600)
    # From the first call that was answered: when the store is asked again is chance.
    took = max(store.stored.values()) - min(store.stored.values()) + call
    return {"rows": frames, "rows_per_second": frames / took}


class Quick:
    """An annotator that says the same of all frames at once, so that rows come as fast as frames."""

    identity = IDENTITY

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Say it."""
        scores = dict.fromkeys(LABELS, 0.5)
        return [Annotation(status="ok", model=IDENTITY, origin=f.origin, scores=scores) for f in frames]


def callback(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Time the RunEngine's call, with and without a spool."""
    frames = exposures(4)
    spent: dict[str, list[list[float]]] = {"no sink": [], "a spool, store away": []}
    for turn in range(options.rounds):
        for with_spool, (_, times) in enumerate(spent.items()):
            store = Waits(0.0)
            store.away = True
            with closing(Spool(store, folder / f"{turn}")) as spool:
                live = LiveAnnotator(
                    Quick(),
                    sinks=[spool] if with_spool else [],
                    detectors={"image": GEOMETRY},
                    annotate_in="thread",
                )
                times.append(calls(live, inline_run(frames, options.calls)))
                if with_spool:
                    live.wait(0.1)
                live.close(1.0)
                spool._delivery.close(0.1)
    return {
        name: {
            f"p{share}_ms": min(float(np.percentile(one, share)) * 1e3 for one in times) for share in (50, 99)
        }
        for name, times in spent.items()
    }


def calls(live: LiveAnnotator, documents: Documents) -> list[float]:
    """Return the times of the calls that have frames."""
    spent = []
    for name, doc in documents:
        begun = time.perf_counter()
        live(name, doc)
        if name == "event":
            spent.append(time.perf_counter() - begun)
            time.sleep(0.01)
    return spent


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    puts: dict[str, list[dict[str, float]]] = {"NORMAL": [], "FULL": []}
    with tempfile.TemporaryDirectory(dir=options.folder or None) as name:
        folder = Path(name)
        for turn in range(options.rounds):
            for journal, found in puts.items():
                frames = options.frames if journal == "NORMAL" else max(1, options.frames // 10)
                found.append(put(frames, folder / f"{journal}-{turn}", journal))
        return {
            "frames": options.frames,
            "call_s": options.call,
            "threads": threading.active_count(),
            "put": {journal: min(found, key=lambda one: one["p50_ms"]) for journal, found in puts.items()},
            "late": {
                f"{rate:g}": late(rate, options.call, folder / f"late-{rate:g}")
                for rate in (1.0, 10.0, 100.0)
            },
            "backlog": backlog(options.frames, options.call, folder / "backlog"),
            "callback": callback(options, folder / "callback"),
        }


if __name__ == "__main__":
    run(
        "spool",
        __doc__,
        measure,
        frames=2000,
        rounds=3,
        calls=(300, "frames of `callback`"),
        call=(0.05, "seconds that a call of the store takes"),
        folder=("", "where the spools lie; a temporary folder unless given"),
    )
