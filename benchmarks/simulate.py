"""How many frames are simulated a second, and what the time goes into: JSON on stdout.

    python -m benchmarks.simulate [--frames 1920] [--rounds 5] [--device cpu] > benchmarks/results/NAME.json

Figures of one machine on one day; compare the shares, which were measured in one run. Stages overlap where a GPU
works on its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.estimate.timing import machine
from dvfb_stream.simulation import SimulationSettings, Simulator, rendering, simulator
from dvfb_stream.simulation.beamline import raster


@dataclass(slots=True)
class Stage:
    """Time spent in one function, calls within other stages included there alone."""

    seconds: float = 0.0
    nested: list[float] = field(default_factory=list)


class Clock:
    """Measures functions while they are replaced by themselves with a clock around."""

    def __init__(self, device: str) -> None:
        self.stages: dict[str, Stage] = {}
        self._open: list[float] = []
        self._device = device

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        stage = self.stages.setdefault(name, Stage())

        def timed(*given: Any, **named: Any) -> Any:
            self._settle()
            started = time.perf_counter()
            self._open.append(0.0)
            try:
                return function(*given, **named)
            finally:
                self._settle()
                whole = time.perf_counter() - started
                inner = self._open.pop()
                stage.seconds += whole - inner
                if self._open:
                    self._open[-1] += whole

        return timed

    def _settle(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()


STAGES = (
    ("draw experiments: masks, maps of angle, bins", simulator, "draw_experiment"),
    ("draw samples and surroundings", simulator, "draw_sample"),
    ("draw samples and surroundings", simulator, "draw_surroundings"),
    ("labels: expected counts in polar bins", simulator, "_expected_in_bins"),
    ("labels: what can be seen", simulator, "labels_of"),
    ("profiles and patterns in polar coordinates", rendering.PixelImages, "of"),
    ("profiles and patterns in polar coordinates", rendering.PixelImages, "__init__"),
    ("patterns onto pixels", raster.PolarTable, "on_pixels"),
    ("speckles", simulator, "speckle_field"),
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


def run(frames: int, settings: SimulationSettings, device: str, clock: Clock | None = None) -> float:
    """Return the seconds that so many frames take, after some that are not counted."""
    made = Simulator(1, settings=settings, device=device)
    for _ in made.batches(0, min(frames, 64)):
        pass
    if device != "cpu":
        torch.cuda.synchronize()
    with nullcontext() if clock is None else watched(clock):
        started = time.perf_counter()
        for _ in made.batches(1000, 1000 + frames):
            pass
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def measure(frames: int, rounds: int, settings: SimulationSettings, device: str) -> dict[str, Any]:
    durations = [run(frames, settings, device) for _ in range(rounds)]
    clock = Clock(device)
    whole = run(frames, settings, device, clock)
    shares = {name: stage.seconds / whole for name, stage in clock.stages.items()}
    return {
        "frames": frames,
        "frames_per_second": {
            "median": frames / statistics.median(durations),
            "most": frames / min(durations),
            "least": frames / max(durations),
        },
        "share_of_time": {**shares, "all else": 1.0 - sum(shares.values())},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    detector = SimulationSettings(raster="detector", detectors={"pilatus_1m": 1.0}, sideways=0.0)
    labels = Simulator(1, device=options.device)
    labels.labels(0, 64)
    started = time.perf_counter()
    labels.labels(1000, 1000 + options.frames)
    passed = time.perf_counter() - started
    result = {
        "machine": machine(options.device),
        "views": measure(options.frames, options.rounds, SimulationSettings(), options.device),
        "pilatus_1m": measure(max(options.frames // 40, 4), options.rounds, detector, options.device),
        "labels_alone_per_second": options.frames / passed,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
