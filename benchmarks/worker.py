"""What the worker's rules bring: JSON on stdout.

    python -m benchmarks.worker [--seconds 4] > benchmarks/results/NAME.json

Batching and sampling are measured with a stand-in annotator that sleeps a stated time for each batch and each frame,
so that the load of the machine hardly matters.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.command import run
from dvfb_stream import Frame, Geometry, Origin
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.metrics import Metrics, Stage, catalogue
from dvfb_stream.worker import FullQueuePolicy, Worker

SECONDS_PER_BATCH = 0.004
SECONDS_PER_FRAME = 0.006
"""Of the stand-in, what the default model takes on one core: 160 frames a second in batches of 16, 100 one by one."""

RATES = (5, 60, 120)
"""Frames a second: a slow scan, one that is well within the annotator's means, and one that needs batches."""

FLOOD = 100_000
"""Frames a second that no annotator follows."""


class StandIn:
    """An annotator of stated cost."""

    identity = ModelIdentity(name="stand-in", version="1", sha256="0" * 64)

    def __init__(self) -> None:
        self.busy = 0.0

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Sleep as long as the batch costs."""
        cost = SECONDS_PER_BATCH + SECONDS_PER_FRAME * len(frames)
        time.sleep(cost)
        self.busy += cost
        return [Annotation(status="ok", model=self.identity, origin=frame.origin) for frame in frames]


def small_frame(index: int) -> Frame:
    origin = Origin(run_uid="run", stream="primary", data_key="image", index=index)
    return Frame(np.zeros((2, 2)), Geometry(shape=(2, 2), center_x=0, center_y=0), origin)


def submit_at(worker: Worker, rate: float, seconds: float, burst: int) -> tuple[list[float], float]:
    """Submit bursts of frames at a mean rate; return each frame's time to its row, and the time for all."""
    latencies: list[float] = []

    def submit(index: int) -> None:
        submitted = time.perf_counter()
        worker.submit(small_frame(index), lambda _: latencies.append(time.perf_counter() - submitted))

    started = time.perf_counter()
    for index in range(max(20, int(rate * seconds))):
        due = started + index // burst * burst / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        submit(index)
    worker.drain()
    return latencies, time.perf_counter() - started


def batching(seconds: float) -> dict[str, Any]:
    """Time to the row by longest wait and rate."""
    found: dict[str, Any] = {}
    for rule, max_wait in (("by pace, 0.2 s", 0.2), ("by pace, 0.05 s", 0.05), ("never", 0.0)):
        found[rule] = {}
        for name, burst, rate in (
            *((f"{rate} frames/s", 1, rate) for rate in RATES),
            ("32 frames/s in bursts of 32", 32, 32),
            ("flood", 1, FLOOD),
        ):
            annotator = StandIn()
            with Worker(annotator, max_wait=max_wait) as worker:
                # Of a flood, as many frames as take the stand-in about as long.
                lasting = seconds if rate < FLOOD else 150 * seconds / rate
                latencies, took = submit_at(worker, rate, lasting, burst)
                batches = worker.stats().batches
            found[rule][name] = {
                "median_milliseconds_to_row": 1e3 * statistics.median(latencies),
                "95th_percentile": 1e3 * float(np.quantile(latencies, 0.95)),
                "frames_per_batch": len(latencies) / batches,
                "annotator_busy": annotator.busy / took,
                "frames_per_second": len(latencies) / took,
            }
    return found


def sampling(count: int = 1600, speed: float = 4.0) -> dict[str, Any]:
    """Share of each tenth of a scan that is annotated, when frames come `speed` times as fast as the annotator is."""
    found = {}
    for policy in (FullQueuePolicy.DROP_NEWEST, FullQueuePolicy.SAMPLE):
        annotated: list[int] = []

        def keep(annotation: Annotation, annotated: list[int] = annotated) -> None:
            if annotation.ok and annotation.origin is not None:
                annotated.append(annotation.origin.index)

        with Worker(StandIn(), policy=policy, max_frames=128) as worker:
            started = time.perf_counter()
            rate = speed * 16 / (SECONDS_PER_BATCH + 16 * SECONDS_PER_FRAME)
            for index in range(count):
                time.sleep(max(0.0, started + index / rate - time.perf_counter()))
                worker.submit(small_frame(index), keep)
        tenths = np.histogram(annotated, bins=10, range=(0, count))[0] / (count / 10)
        found[policy.value] = {
            "annotated": len(annotated) / count,
            "by_tenth_of_the_scan": tenths.tolist(),
            "largest_gap_frames": int(np.diff(sorted(annotated)).max()),
        }
    return found


def increments() -> dict[str, float]:
    """Microseconds of one write to the metrics, best of five."""
    metrics = Metrics()
    writes: dict[str, Callable[[], None]] = {
        "counter": lambda: metrics.add(catalogue.RECEIVED),
        "counter with a label": lambda: metrics.add(catalogue.DROPPED, 1, "queue full"),
        "histogram": lambda: metrics.observe(catalogue.STAGE_SECONDS, 0.01, Stage.VIEW),
    }
    return {name: min(timeit.repeat(write, number=20_000, repeat=5)) / 0.02 for name, write in writes.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure batches, sampling and the metrics."""
    return {
        "what": f"a stand-in of {SECONDS_PER_BATCH} s a batch and {SECONDS_PER_FRAME} s a frame; batches of 16",
        "batching": batching(options.seconds),
        "sampling": sampling(),
        "metrics_microseconds": increments(),
    }


if __name__ == "__main__":
    run("worker", __doc__, measure, seconds=(4.0, "of each rate and rule"))
