"""Timing that survives a busy machine: contenders take turns, and ratios are those of one turn."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from threadpoolctl import threadpool_info, threadpool_limits

PACKAGES = (
    "dvfb-stream",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "celer",
    "skglm",
    "fle-2d",
    "finufft",
    "aspire",
)


@dataclass(frozen=True, slots=True)
class Work:
    """Something to be timed."""

    name: str
    frames: int
    """Frames that one run takes care of."""
    run: Callable[[], object]


Durations = dict[str, list[float]]
"""Seconds per frame of each round, by the work's name."""


LEAST_SECONDS = 0.3
"""Of one turn. What is faster runs again: the first run of a turn pays for the caches that the others have filled."""


def take_turns(works: Sequence[Work], rounds: int, *, advance: Callable[[], object]) -> Durations:
    """Run everything once for warmth and then `rounds` times in turn; a turn counts with the median of its runs."""
    durations: Durations = {work.name: [] for work in works}
    for turn in range(rounds + 1):
        for work in works:
            runs: list[float] = []
            while sum(runs) < LEAST_SECONDS:
                started = time.perf_counter()
                work.run()
                runs.append(time.perf_counter() - started)
            if turn > 0:
                durations[work.name].append(statistics.median(runs) / work.frames)
            advance()
    return durations


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the least of the seconds per frame."""
    return {"median": statistics.median(seconds), "least": min(seconds)}


def ratio(seconds: Sequence[float], to: Sequence[float]) -> float:
    """Return how many times longer something takes: the median over rounds of the ratio within a round."""
    return statistics.median(one / other for one, other in zip(seconds, to, strict=True))


def seconds(run: Callable[[], object], *, rounds: int) -> float:
    """Return the median seconds of `run` after one run for warmth."""
    return summary(take_turns([Work("it", 1, run)], rounds, advance=lambda: None)["it"])["median"]


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on besides the code; call it within `threads`."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "threads": {
            "torch": torch.get_num_threads(),
            **{f"{pool['user_api']}:{pool['prefix']}": pool["num_threads"] for pool in threadpool_info()},
        },
        "versions": versions,
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let every library compute with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr; stdout belongs to the results."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as shown:
        yield shown


def tolerances(start: float = 1.0, stop: float = 1e-14) -> Iterator[float]:
    """Yield tolerances from loose to tight, two a decade."""
    for half_decade in range(1 + round(2 * math.log10(start / stop))):
        yield start * 10 ** (-half_decade / 2)
