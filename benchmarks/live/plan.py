"""How long plans take with each way to annotate, and without: interleaved, round by round."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.live.annotators import WAYS, FarBehind, live
from benchmarks.live.documents import FRAMES_A_FILE, StreamCamera, exposures, written

SECONDS_A_PLAN = 2.0
SECONDS_TO_CATCH_UP = 30.0


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    from ophyd.sim import SynSignal

    frames, found = exposures(4), {}
    numbers = iter(range(10**9))
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        for exposure in options.exposures:
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
                found[name] = compared(camera, options, points)
                print(f"{name}: {found[name]['median_ratio']}", file=sys.stderr)
    return {"rounds": options.rounds, "plans": found}


def compared(camera: Any, options: argparse.Namespace, points: int) -> dict[str, Any]:
    """Plans of a camera in turns: with each way to annotate, far behind, and twice with nothing subscribed.

    What the second plan without a callback differs from the first by is what cannot be told from noise.
    """
    from bluesky import RunEngine
    from bluesky import plans as bp

    RE, behind = RunEngine({}), FarBehind()
    with ExitStack() as opened:
        callbacks: dict[str, list[Any]] = {"without": [], "without again": []}
        for way in WAYS:
            callbacks[way] = [live(options.model, annotate_in=way, device=options.device)]
        callbacks["saturated"] = [live(behind)]
        for subscribed in callbacks.values():
            RE(bp.count([camera], 3), subscribed)
            for callback in subscribed:
                opened.callback(callback.close, 0.0)
                callback.wait()
        durations: dict[str, list[float]] = {which: [] for which in callbacks}
        order = list(callbacks)
        for number in range(options.rounds):
            for which in order[number % len(order) :] + order[: number % len(order)]:
                behind.hurry.clear()
                begun = time.perf_counter()
                RE(bp.count([camera], points), callbacks[which])
                durations[which].append(time.perf_counter() - begun)
                behind.hurry.set()
                for callback in callbacks[which]:
                    assert callback.wait(SECONDS_TO_CATCH_UP)
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
