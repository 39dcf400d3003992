"""Does a scan notice the annotator, and how many frames a second reach their rows? JSON on stdout.

    python -m benchmarks.live callback|plan|throughput|memory [--model default] > benchmarks/results/NAME.json

`callback`: time inside the callback for each document, by kind, while the worker is saturated and while it annotates
all there is: 1-megapixel frames inside events, and stream datums of frames in an HDF5 file. `plan`: how long a plan
takes with and without the callback, in turns. `throughput`: frames a second from document to row, and where the time
goes, for both kinds. `memory`: resident memory while many frames pass.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.printing import print_results
from dvfb_stream import Annotator, Geometry
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS

SHAPE = (1043, 981)
GEOMETRY = Geometry(shape=SHAPE, center_x=302.7, center_y=530.9)
KEY = {"source": "bench", "dtype": "array", "shape": [1, *SHAPE], "dtype_numpy": "<i4"}
FRAMES_A_FILE = 200
EXPOSURES = (0.0, 0.01, 0.1)
"""Seconds a frame of the plans that are timed; with none, a plan is nothing but Bluesky's own work."""
SECONDS_A_PLAN = 2.0
Documents = Iterator[tuple[str, dict[str, Any]]]


class Stuck:
    """An annotator that is far behind: a second a batch."""

    identity = ModelIdentity(name="stuck", version="1", sha256="0" * 64)

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Take its time."""
        time.sleep(1.0)
        scores = dict.fromkeys(LABELS, 0.5)
        return [Annotation(status="ok", model=self.identity, origin=f.origin, scores=scores) for f in frames]


def exposures(count: int) -> np.ndarray:
    """Counts of rings on a falling background, a few different frames."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(x - GEOMETRY.center_x, y - GEOMETRY.center_y)
    rng = np.random.default_rng(0)
    mean = [
        500 / (1 + (r / 30) ** 2) + 50 * np.exp(-(((r - 150 - 9 * i) / 12) ** 2)) + 1 for i in range(count)
    ]
    return rng.poisson(np.stack(mean)).astype(np.int32)


def opening(**spec: Any) -> tuple[list[tuple[str, dict[str, Any]]], str, str]:
    """Start and descriptor of a run, and the uids of both."""
    run, descriptor, now = str(uuid.uuid4()), str(uuid.uuid4()), time.time()
    return (
        [
            ("start", {"uid": run, "time": now}),
            (
                "descriptor",
                {
                    "uid": descriptor,
                    "run_start": run,
                    "time": now,
                    "name": "primary",
                    "data_keys": {"image": {**KEY, **spec}},
                },
            ),
        ],
        run,
        descriptor,
    )


def inline_run(frames: np.ndarray, count: int) -> Documents:
    """A run whose events carry their frames."""
    documents, run, descriptor = opening()
    yield from documents
    for number in range(count):
        yield (
            "event",
            {
                "uid": str(number),
                "descriptor": descriptor,
                "seq_num": number + 1,
                "time": time.time(),
                "data": {"image": frames[number % len(frames)]},
                "timestamps": {},
            },
        )
    yield "stop", {"uid": "stop", "run_start": run, "time": time.time(), "exit_status": "success"}


def resource(path: Path, uid: str) -> dict[str, Any]:
    """A stream resource of an HDF5 file, without its run."""
    return {
        "uid": uid,
        "data_key": "image",
        "uri": f"file://localhost{path}",
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "data"},
    }


def stream_run(path: Path, count: int, *, each: int = 1) -> Documents:
    """A run whose stream datums announce frames of an HDF5 file, `each` at a time."""
    documents, run, descriptor = opening(external="STREAM:")
    yield from documents
    uid = str(uuid.uuid4())
    yield "stream_resource", {**resource(path, uid), "run_start": run}
    for first in range(0, count, each):
        yield (
            "stream_datum",
            {
                "uid": str(first),
                "descriptor": descriptor,
                "stream_resource": uid,
                "indices": {"start": first, "stop": min(first + each, count)},
                "seq_nums": {"start": first + 1, "stop": min(first + each, count) + 1},
            },
        )
    yield "stop", {"uid": "stop", "run_start": run, "time": time.time(), "exit_status": "success"}


def written(folder: str, frames: np.ndarray) -> Path:
    """An HDF5 file of `FRAMES_A_FILE` frames, a chunk each, as areaDetector and ophyd-async write it."""
    path = Path(folder) / "frames.h5"
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", (FRAMES_A_FILE, *SHAPE), frames.dtype, chunks=(1, *SHAPE))
        for number in range(FRAMES_A_FILE):
            data[number] = frames[number % len(frames)]
    return path


def stream_runs(path: Path, count: int, *, each: int = 1) -> Documents:
    """Runs of the frames of one file after one another, `count` frames in all."""
    for done in range(0, count, FRAMES_A_FILE):
        yield from stream_run(path, min(FRAMES_A_FILE, count - done), each=each)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and largest, milliseconds."""
    values = 1e3 * np.asarray(seconds)
    return {
        "documents": len(values),
        "p50_ms": float(np.quantile(values, 0.5)),
        "p99_ms": float(np.quantile(values, 0.99)),
        "max_ms": float(values.max()),
    }


def callback(options: argparse.Namespace) -> dict[str, Any]:
    """Time inside the callback: the worker far behind, and annotating for good beside it."""
    frames, found = exposures(4), {}
    annotators: dict[str, Any] = {
        "saturated": Stuck(),
        "annotating": Annotator.load(options.model, device=options.device),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        runs: dict[str, Callable[[], Documents]] = {
            "inline": lambda: inline_run(frames, options.frames),
            "stream": lambda: stream_runs(path, options.frames),
        }
        for state, policy in (
            ("saturated", "drop-newest"),
            ("saturated", "sample"),
            ("annotating", "drop-newest"),
        ):
            for kind, run in runs.items():
                live = LiveAnnotator(annotators[state], detectors={"image": GEOMETRY}, policy=policy)
                if state == "annotating":
                    for name, doc in inline_run(frames, 2):  # the plan of the geometry
                        live(name, doc)
                    live.wait()
                spent: dict[str, list[float]] = {}
                for name, doc in run():
                    begun = time.perf_counter()
                    live(name, doc)
                    spent.setdefault(name, []).append(time.perf_counter() - begun)
                    time.sleep(options.interval)
                dropped = live.stats().worker.dropped
                live.close(0.0)
                measured = "event" if kind == "inline" else "stream_datum"
                found[f"{kind}, {state}, {policy}"] = spread(spent[measured]) | {"dropped": dropped}
    return {"frames": options.frames, "interval_s": options.interval, "callbacks": found}


class StreamCamera:
    """A detector that announces frames of an HDF5 file, as ophyd-async's do; its file is there beforehand."""

    name, parent, hints = "image", None, {"fields": []}

    def __init__(self, path: Path, exposure: float) -> None:
        self._path, self._exposure = path, exposure
        self._resource, self._taken = "", 0

    def stage(self) -> list[StreamCamera]:
        """Begin a file."""
        self._resource, self._taken = str(uuid.uuid4()), 0
        return [self]

    def unstage(self) -> list[StreamCamera]:
        """Nothing is open."""
        return [self]

    def trigger(self) -> Any:
        """Take as long as a frame does."""
        from ophyd.status import Status

        status = Status()
        if self._exposure:
            threading.Timer(self._exposure, status.set_finished).start()
        else:
            status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        """Describe the frames."""
        return {"image": {**KEY, "external": "STREAM:"}}

    def read(self) -> dict[str, Any]:
        """Return nothing: the frames lie in the file."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    read_configuration = describe_configuration

    def get_index(self) -> int:
        """Return how many frames there are."""
        return self._taken

    def collect_asset_docs(self, index: int | None = None) -> Documents:
        """Announce a frame."""
        if not self._taken:
            yield "stream_resource", resource(self._path, self._resource)
        first, self._taken = self._taken, self._taken + 1
        yield (
            "stream_datum",
            {
                "uid": f"{self._resource}/{first}",
                "stream_resource": self._resource,
                "descriptor": "",
                "indices": {"start": first, "stop": first + 1},
                "seq_nums": {"start": 0, "stop": 0},
            },
        )


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """How long a plan takes with an annotator, in its own process and in the RunEngine's, and without."""
    from ophyd.sim import SynSignal

    frames, found = exposures(4), {}
    numbers = iter(range(10**9))
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        for exposure in EXPOSURES:
            points = min(FRAMES_A_FILE, int(SECONDS_A_PLAN / exposure)) if exposure else FRAMES_A_FILE
            for kind, camera in (
                (
                    "inline",
                    SynSignal(
                        func=lambda: frames[next(numbers) % len(frames)], name="image", exposure_time=exposure
                    ),
                ),
                ("stream", StreamCamera(path, exposure)),
            ):
                name = f"{kind}, {1e3 * exposure:g} ms a frame"
                found[name] = compared(camera, options.model, points, options.rounds)
                print(f"{name}: {found[name]['median_ratio']}", file=sys.stderr)
    return {"rounds": options.rounds, "plans": found}


def compared(camera: Any, model: str, points: int, rounds: int) -> dict[str, Any]:
    """Plans of a camera in turns: with each way to annotate, far behind, and twice with nothing subscribed.

    What the second plan without a callback differs from the first by is what cannot be told from noise.
    """
    from bluesky import RunEngine
    from bluesky import plans as bp

    RE = RunEngine({})
    with ExitStack() as opened:

        def live(annotator: Any, **settings: Any) -> LiveAnnotator:
            callback = LiveAnnotator(annotator, detectors={"image": GEOMETRY}, **settings)
            opened.callback(callback.close, 0.0)
            return callback

        callbacks: dict[str, list[LiveAnnotator]] = {
            "without": [],
            "process": [live(model, annotate_in="process")],
            "without again": [],
            "thread": [live(model, annotate_in="thread")],
            "saturated": [live(Stuck())],
        }
        for subscribed in callbacks.values():
            RE(bp.count([camera], 3), subscribed)
        durations: dict[str, list[float]] = {which: [] for which in callbacks}
        order = list(callbacks)
        for number in range(rounds):
            for which in order[number % len(order) :] + order[: number % len(order)]:
                begun = time.perf_counter()
                RE(bp.count([camera], points), callbacks[which])
                durations[which].append(time.perf_counter() - begun)
                for callback in callbacks[which]:
                    callback.wait(5.0)
        stats = {which: subscribed[0].stats() for which, subscribed in callbacks.items() if subscribed}
    ratios = {
        which: [a / b for a, b in zip(spent, durations["without"], strict=True)]
        for which, spent in durations.items()
        if which != "without"
    }
    without = statistics.median(durations["without"])
    return {
        "points": points,
        "seconds": durations,
        "median_ratio": {which: statistics.median(values) for which, values in ratios.items()},
        "ratios_min_max": {which: [min(values), max(values)] for which, values in ratios.items()},
        "added_ms_a_point": {
            which: 1e3 * (statistics.median(durations[which]) - without) / points for which in ratios
        },
        "frames": {which: found.frames for which, found in stats.items()},
        "dropped": {which: found.worker.dropped for which, found in stats.items()},
    }


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Frames a second from document to row, and where the time goes."""
    frames, found = exposures(4), {}
    annotator = Annotator.load(options.model, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        for kind, run in (
            ("inline", lambda: inline_run(frames, options.frames)),
            ("stream", lambda: stream_runs(path, options.frames, each=8)),
        ):
            rows: list[float] = []

            def sink(name: str, doc: dict[str, Any], rows: list[float] = rows) -> None:
                if name == "event":
                    rows.append(time.perf_counter())

            with LiveAnnotator(
                annotator,
                sinks=[sink],
                detectors={"image": GEOMETRY},
                policy="block",
                batch_size=options.batch_size,
            ) as live:
                for name, doc in inline_run(frames, 2):  # warm: the plan of the geometry
                    live(name, doc)
                live.wait()
                rows.clear()
                before = _stage_seconds(live)
                begun = time.perf_counter()
                for name, doc in run():
                    live(name, doc)
                live.wait()
                seconds = rows[-1] - begun
                after = _stage_seconds(live)
            found[kind] = {
                "frames": len(rows),
                "frames_per_second": len(rows) / seconds,
                "stage_ms_per_frame": {
                    stage: 1e3 * (after[stage] - before.get(stage, 0.0)) / len(rows) for stage in after
                },
            }
    return {"model": str(annotator.identity), "batch_size": options.batch_size, "kinds": found}


def _stage_seconds(live: LiveAnnotator) -> dict[str, float]:
    stages = live.metrics.snapshot()["dvfb_stage_seconds"]["values"]
    return {value["labels"]["stage"]: value["sum"] for value in stages}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory while frames pass."""
    frames, resident = exposures(4), []
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        with LiveAnnotator(options.model, detectors={"image": GEOMETRY}, policy="block") as live:
            for number, (name, doc) in enumerate(stream_runs(path, options.frames, each=8)):
                live(name, doc)
                if number % 50 == 0:
                    while live.stats().reader.waiting > 64:
                        time.sleep(0.05)
                    resident.append(_resident())
                    print(f"{live.stats().worker.annotated} frames, {resident[-1]:.0f} MB", file=sys.stderr)
            live.wait()
            resident.append(_resident())
    settled = resident[len(resident) // 5 : -1]  # the last is after the queue was emptied
    return {"frames": options.frames, "resident_mb": resident, "spread_mb": max(settled) - min(settled)}


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


MEASURES = {"callback": callback, "plan": plan, "throughput": throughput, "memory": memory}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--interval", type=float, default=0.01, help="seconds between documents of `callback`"
    )
    options = parser.parse_args()
    started = time.monotonic()
    found = MEASURES[options.measure](options)
    print_results(f"live-{options.measure}", found, started=started)


if __name__ == "__main__":
    main()
