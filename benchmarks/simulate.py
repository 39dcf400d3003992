"""How many frames are simulated a second, and what the time goes into: JSON on stdout.

    python -m benchmarks.simulate [--frames 1920] [--rounds 5] [--device cpu] > benchmarks/results/NAME.json

Figures of one machine on one day; compare the shares, which were measured in one run. Stages overlap where a GPU
works on its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from benchmarks.command import run
from benchmarks.estimate.timing import machine
from dvfb_stream.simulation import SimulationSettings, Simulator, rendering, scene, simulator
from dvfb_stream.simulation.beamline import raster


class Clock:
    """Measures functions while they are replaced by themselves with a clock around."""

    def __init__(self, device: str) -> None:
        self.stages: Counter[str] = Counter()
        """Seconds in each function; calls within other stages count there alone."""
        self._open: list[float] = []
        self._device = device

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            settle(self._device)
            started = time.perf_counter()
            self._open.append(0.0)
            try:
                return function(*given, **named)
            finally:
                settle(self._device)
                whole = time.perf_counter() - started
                self.stages[name] += whole - self._open.pop()  # type: ignore[assignment]
                if self._open:
                    self._open[-1] += whole

        return timed


def settle(device: str) -> None:
    """Wait for what a GPU still does on its own."""
    if device != "cpu":
        torch.cuda.synchronize()


STAGES = (
    ("draw experiments: masks, maps of angle, bins", simulator, "draw_experiment"),
    ("draw samples and surroundings", scene, "draw_sample"),
    ("draw samples and surroundings", scene, "draw_surroundings"),
    ("labels: expected counts in polar bins", scene, "expected_in_bins"),
    ("labels: what can be seen", scene, "labels_of"),
    ("labels: what can be seen", scene, "add_frame_labels"),
    ("profiles and patterns in polar coordinates", rendering.PixelImages, "of"),
    ("profiles and patterns in polar coordinates", rendering.PixelImages, "__init__"),
    ("patterns onto pixels", raster.PolarTable, "on_pixels"),
    ("speckles", scene, "speckle_field"),
    ("Poisson counts", simulator, "poisson"),
)


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for _, owner, name in STAGES]
    for stage, owner, name in STAGES:
        setattr(owner, name, clock.around(stage, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def seconds(frames: int, settings: SimulationSettings, device: str, clock: Clock | None = None) -> float:
    """Return the seconds that so many frames take, after some that are not counted."""
    made = Simulator(1, settings=settings, device=device)
    deque(made.batches(0, min(frames, 64)), maxlen=0)
    settle(device)
    with nullcontext() if clock is None else watched(clock):
        started = time.perf_counter()
        deque(made.batches(1000, 1000 + frames), maxlen=0)
        settle(device)
        return time.perf_counter() - started


def rates(frames: int, rounds: int, settings: SimulationSettings, device: str) -> dict[str, Any]:
    """Frames a second without a clock, and the share of each stage with one."""
    durations = [seconds(frames, settings, device) for _ in range(rounds)]
    clock = Clock(device)
    whole = seconds(frames, settings, device, clock)
    shares = {name: spent / whole for name, spent in clock.stages.items()}
    return {
        "frames": frames,
        "frames_per_second": {
            "median": frames / statistics.median(durations),
            "most": frames / min(durations),
            "least": frames / max(durations),
        },
        "share_of_time": {**shares, "all else": 1.0 - sum(shares.values())},
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time views, frames of a detector, and labels alone."""
    frames, rounds, device = options.frames, options.rounds, options.device
    detector = SimulationSettings(raster="detector", detectors={"pilatus_1m": 1.0}, sideways=0.0)
    labels = Simulator(1, device=device)
    labels.labels(0, 64)
    started = time.perf_counter()
    labels.labels(1000, 1000 + frames)
    passed = time.perf_counter() - started
    return {
        "machine": machine(device),
        "views": rates(frames, rounds, SimulationSettings(), device),
        "pilatus_1m": rates(max(frames // 40, 4), rounds, detector, device),
        "labels_alone_per_second": frames / passed,
    }


if __name__ == "__main__":
    run("simulate", __doc__, measure, frames=1920, rounds=5, device="cpu")
