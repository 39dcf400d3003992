"""Time inside the callback for each document, by kind: with the worker far behind, and annotating all there is."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.live.annotators import WAYS, FarBehind, live
from benchmarks.live.documents import Documents, exposures, inline_run, stream_runs, written

A_THOUSAND = 1000
"""Frames that one document announces, as a fast detector's do."""


def callback(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    frames, found = exposures(4), {}
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        runs: dict[str, Callable[[], Documents]] = {
            "inline": lambda: inline_run(frames, options.frames),
            "stream": lambda: stream_runs(path, options.frames),
        }
        for kind, run in runs.items():
            for policy in ("drop-newest", "sample"):
                found[f"{kind}, saturated, {policy}"] = timed(FarBehind(), run(), options, policy=policy)
            for way in WAYS:
                found[f"{kind}, annotating, {way}"] = timed(
                    options.model, run(), options, annotate_in=way, device=options.device
                )
        many = stream_runs(path, 20 * A_THOUSAND, each=A_THOUSAND, frames_a_run=A_THOUSAND)
        found[f"stream, saturated, {A_THOUSAND} frames a document"] = timed(
            FarBehind(), many, options, policy="drop-newest"
        )
    found["no callback, a copy of the frame alone"] = copied(frames, options)
    return {"frames": options.frames, "interval_s": options.interval, "callbacks": found}


def timed(
    annotator: Any, documents: Documents, options: argparse.Namespace, **settings: Any
) -> dict[str, Any]:
    """Feed documents at an interval, and time those that have frames."""
    callback = live(annotator, **settings)
    if not isinstance(annotator, FarBehind):
        for name, doc in inline_run(exposures(2), 2):  # the plan of the geometry
            callback(name, doc)
        callback.wait()
    spent: list[float] = []
    for name, doc in documents:
        begun = time.perf_counter()
        callback(name, doc)
        ended = time.perf_counter()
        if name in ("event", "stream_datum"):
            spent.append(ended - begun)
            time.sleep(options.interval)
    dropped = callback.stats().worker.dropped
    callback.close(0.0)
    return spread(spent) | {"dropped": dropped}


def copied(frames: NDArray[np.int32], options: argparse.Namespace) -> dict[str, float]:
    """Copy frames at an interval into memory that is used again: what a callback cannot do without."""
    memory, spent = np.ones((8, *frames.shape[1:]), frames.dtype), []
    for number in range(options.frames):
        begun = time.perf_counter()
        np.copyto(memory[number % len(memory)], frames[number % len(frames)])
        spent.append(time.perf_counter() - begun)
        time.sleep(options.interval)
    return spread(spent) | {"dropped": 0}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and largest, milliseconds."""
    values = 1e3 * np.asarray(seconds)
    return {
        "documents": len(values),
        "p50_ms": float(np.quantile(values, 0.5)),
        "p99_ms": float(np.quantile(values, 0.99)),
        "max_ms": float(values.max()),
    }
