"""Frames a second of stored runs, by the number of worker processes, and where the time goes."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from benchmarks.history.raw_runs import DATA_KEY, stream_documents
from benchmarks.live.documents import GEOMETRY, SHAPE, exposures
from benchmarks.store import served
from benchmarks.tiled_server import processor_seconds_of
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.history.run_workers import RunWorkers
from dvfb_stream.history.settings import HistorySettings

COMPRESSIONS = {"plain": {}, "bitshuffle": hdf5plugin.Bitshuffle(cname="lz4")}


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each number of workers in turns."""
    runs, frames = options.runs or 4, options.frames or 200
    numbers = [int(part) for part in (options.workers or "1,2,3").split(",")]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dvfb-history-bench-") as name:
        folder = Path(name)
        paths = {kind: _written(folder / f"{kind}.h5", frames, kind) for kind in COMPRESSIONS}
        with served(readable=[folder]) as (client, server_seconds):
            for turn in range(options.rounds):
                for kind, path in paths.items():
                    for workers in numbers:
                        raw = client.create_container(f"{kind}-{workers}-{turn}", specs=list(CATALOG_SPECS))
                        uids = [_stored(raw, path, frames, number) for number in range(runs)]
                        before = server_seconds()
                        measure = one if workers else one_here
                        measured = measure(raw, uids, runs * frames, workers, options.model)
                        measured["server_ms_per_frame"] = 1e3 * (server_seconds() - before) / (runs * frames)
                        key = f"{kind}, {workers} workers"
                        best = found.setdefault(key, measured | {"rounds": []})
                        best["rounds"].append(round(measured["frames_per_second"], 1))
                        if measured["frames_per_second"] > best["frames_per_second"]:
                            best |= measured
    return {
        "model": options.model,
        "runs": runs,
        "frames_a_run": frames,
        "shape": SHAPE,
        "load_before": os.getloadavg(),
        "ways": found,
    }


def one(raw: Any, uids: list[str], frames: int, workers: int, model: str) -> dict[str, Any]:
    """Annotate runs; the clock starts with the first row, when models and estimators are there."""
    described = {"center_x": GEOMETRY.center_x, "center_y": GEOMETRY.center_y, "shape": SHAPE}
    settings = HistorySettings(detectors={DATA_KEY: described}, model=model)
    history = RunWorkers(raw.uri, settings, workers=workers, api_key=raw.context.api_key)
    begun, first, rows_then = time.monotonic(), 0.0, 0
    spent: dict[int, float] = {}
    spent_then = 0.0

    def look() -> None:
        nonlocal first, rows_then, spent_then
        for pid in history.pids:
            with suppress(OSError):
                spent[pid] = processor_seconds_of(pid)
        if not first and history.rows_made:
            first, rows_then, spent_then = time.monotonic(), history.rows_made, sum(spent.values())

    for _ in history.annotate(uids, on_look=look):
        look()
    ended = time.monotonic()
    report = history.report
    if report.failures or report.rows["ok"] != frames:
        raise RuntimeError(f"{report}")
    return {
        "frames": frames,
        "frames_per_second": (frames - rows_then) / (ended - first),
        "processor_ms_per_frame": 1e3 * (sum(spent.values()) - spent_then) / (frames - rows_then),
        "seconds_until_the_first_row": first - begun,
        "stage_ms_per_frame": {
            stage: round(1e3 * seconds / frames, 3) for stage, seconds in sorted(report.seconds.items())
        },
    }


def one_here(raw: Any, uids: list[str], frames: int, _: int, model: str) -> dict[str, Any]:
    """Annotate runs in this process, the first of them before the clocks start: what a frame costs the processor."""
    described = {"center_x": GEOMETRY.center_x, "center_y": GEOMETRY.center_y, "shape": SHAPE}
    history = HistorySettings(detectors={DATA_KEY: described}, model=model).history(raw, spool=False)
    going = history.annotate(uids)
    next(going)
    frames -= frames // len(uids)
    history.report = type(history.report)()
    begun, spent = time.monotonic(), time.process_time()
    for _uid in going:
        pass
    seconds, spent = time.monotonic() - begun, time.process_time() - spent
    report = history.report
    if report.failures or report.rows["ok"] != frames:
        raise RuntimeError(f"{report}")
    return {
        "frames": frames,
        "frames_per_second": frames / seconds,
        "processor_ms_per_frame": 1e3 * spent / frames,
        "stage_ms_per_frame": {
            stage: round(1e3 * each / frames, 3) for stage, each in sorted(report.seconds.items())
        },
    }


def _written(path: Path, frames: int, kind: str) -> Path:
    exposed: np.ndarray = exposures(4)
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset(
            "data", (frames, *SHAPE), exposed.dtype, chunks=(1, *SHAPE), **COMPRESSIONS[kind]
        )
        for number in range(frames):
            data[number] = exposed[number % len(exposed)]
    return path


def _stored(raw: Any, path: Path, frames: int, number: int) -> str:
    from bluesky_tiled_plugins import TiledWriter

    writer, uid = TiledWriter(raw), ""
    for name, doc in stream_documents(path, frames, SHAPE, number):
        uid = uid or doc["uid"]
        writer(name, doc)
    return uid
