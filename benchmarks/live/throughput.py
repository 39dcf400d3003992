"""Frames a second from document to row, and where the time goes."""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from benchmarks.live.annotators import WAYS, live
from benchmarks.live.documents import exposures, inline_run, stream_runs, written
from dvfb_stream.callbacks import LiveAnnotator


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each way to annotate in turns, as often as there are rounds."""
    frames = exposures(4)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        runs = {
            "inline": lambda: inline_run(frames, options.frames),
            "stream": lambda: stream_runs(path, options.frames, each=8),
        }
        for _ in range(options.rounds):
            for kind, run in runs.items():
                for way in WAYS:
                    name = f"{kind}, {way}"
                    measured = one(list(run()), options, way)
                    best = found.setdefault(name, measured | {"rounds": []})
                    best["rounds"].append(measured["frames_per_second"])
                    if measured["frames_per_second"] > best["frames_per_second"]:
                        best |= measured
    return {"model": options.model, "batch_size": options.batch_size, "kinds": found}


def one(documents: list[Any], options: argparse.Namespace, way: str) -> dict[str, Any]:
    """Frames a second of the documents of a run."""
    rows: list[float] = []

    def sink(name: str, doc: dict[str, Any]) -> None:
        if name == "event":
            rows.append(time.perf_counter())

    with live(
        options.model,
        sinks=[sink],
        policy="block",
        batch_size=options.batch_size,
        annotate_in=way,
        device=options.device,
    ) as callback:
        for name, doc in inline_run(exposures(2), 2):  # the plan of the geometry
            callback(name, doc)
        callback.wait()
        rows.clear()
        before = stage_seconds(callback)
        begun = time.perf_counter()
        for name, doc in documents:
            callback(name, doc)
        callback.wait()
        seconds = rows[-1] - begun
        after = stage_seconds(callback)
    return {
        "frames": len(rows),
        "frames_per_second": len(rows) / seconds,
        "stage_ms_per_frame": {
            stage: 1e3 * (after[stage] - before.get(stage, 0.0)) / len(rows) for stage in after
        },
    }


def stage_seconds(callback: LiveAnnotator) -> dict[str, float]:
    """Seconds spent in each stage so far."""
    stages = callback.metrics.snapshot()["dvfb_stage_seconds"]["values"]
    return {value["labels"]["stage"]: value["sum"] for value in stages}
