"""What the worker's rules bring: JSON on stdout.

    python -m benchmarks.worker [--model default] [--seconds 4] > benchmarks/results/NAME.json

Batching and sampling are measured with a stand-in annotator that sleeps a stated time for each batch and each frame,
so that the load of the machine hardly matters; preparing ahead with a model bundle, in turns with and without, of
which the ratio counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.annotate_frames import frames as detector_frames
from benchmarks.printing import print_results
from dvfb_stream import Annotator, Frame, Geometry, Origin
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.metrics import Metrics, Stage, catalogue
from dvfb_stream.worker import FullQueuePolicy, Worker

SECONDS_PER_BATCH = 0.004
SECONDS_PER_FRAME = 0.006
"""Of the stand-in, what the default model takes on one core: 160 frames a second in batches of 16, 100 one by one."""

RATES = (5, 60, 120)
"""Frames a second: a slow scan, one that is well within the annotator's means, and one that needs batches."""


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


class Ahead(Annotator):
    """An annotator whose frames are prepared by a second thread, on the CPU too."""

    prepares_ahead = True


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


def waiting_always(worker: Worker, max_wait: float) -> None:
    """Let batches wait for their age whatever the pace: the rule of earlier versions, to compare with."""
    worker._queue._pace.closes_at = (  # type: ignore[method-assign]
        lambda geometry, missing, oldest: oldest + max_wait
    )


def batching(seconds: float) -> dict[str, Any]:
    """Time to the row by rule and rate."""
    found: dict[str, Any] = {}
    for rule, max_wait, always in (
        ("by pace, 0.2 s", 0.2, False),
        ("by pace, 0.05 s", 0.05, False),
        ("never", 0.0, False),
        ("always, 0.2 s", 0.2, True),
    ):
        found[rule] = {}
        for burst, rates in ((1, (*RATES, 100_000)), (32, (32,))):
            for rate in rates:
                annotator = StandIn()
                with Worker(annotator, max_wait=max_wait) as worker:
                    if always:
                        waiting_always(worker, max_wait)
                    # Of a flood, as many frames as take the stand-in about as long.
                    lasting = seconds if rate < 1000 else 150 * seconds / rate
                    latencies, took = submit_at(worker, rate, lasting, burst)
                    batches = worker.stats().batches
                name = (
                    "flood" if rate > 1000 else f"{rate} frames/s" + (f" in bursts of {burst}" * (burst > 1))
                )
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


def preparing(model: str, count: int, rounds: int) -> dict[str, Any]:
    """Frames a second of a bundle on the CPU with the second thread, over those without."""
    candidates = {"ahead": Ahead.load(model, device="cpu"), "without": Annotator.load(model, device="cpu")}
    exposures = detector_frames(8)
    found = {}
    for batch_size in (4, 16):
        rates: dict[str, list[float]] = {name: [] for name in candidates}
        processor: dict[str, list[float]] = {name: [] for name in candidates}
        for number in range(rounds + 1):
            for name, candidate in candidates.items():
                with Worker(candidate, batch_size=batch_size) as worker:
                    started, used = time.perf_counter(), time.process_time()
                    for index in range(count):
                        worker.submit(exposures[index % len(exposures)], lambda _: None)
                    worker.drain()
                    if number:
                        rates[name].append(count / (time.perf_counter() - started))
                        processor[name].append((time.process_time() - used) / count)
        found[f"batches of {batch_size}"] = {
            "frames_per_second": {name: statistics.median(values) for name, values in rates.items()},
            "ratio": statistics.median(a / b for a, b in zip(*rates.values(), strict=True)),
            "ratio_of_processor_time": statistics.median(
                a / b for a, b in zip(*processor.values(), strict=True)
            ),
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each rate and rule")
    parser.add_argument("--frames", type=int, default=96, help="of the bundle, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    started = time.monotonic()
    import torch

    found = {
        "what": f"a stand-in of {SECONDS_PER_BATCH} s a batch and {SECONDS_PER_FRAME} s a frame; batches of 16",
        "batching": batching(options.seconds),
        "sampling": sampling(),
        "preparing": preparing(options.model, options.frames, options.rounds),
        "threads": torch.get_num_threads(),
        "metrics_microseconds": increments(),
    }
    print_results("worker", found, started=started)


if __name__ == "__main__":
    main()
