"""A beam centre that moves from frame to frame: how fine must the grid be that it is put on, and what does that save?

    python -m benchmarks.moving_centre [--real FOLDER] > benchmarks/results/moving-centre.json

Error: each frame is annotated with its centre, and with one half a step of the grid away along both axes, which is as
far as a point of the grid can be. Time: 500 frames of a megapixel detector whose centre drifts, in batches of 16 as
they come, with estimators kept as live; beside the same frames with a centre that stays, in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import run
from benchmarks.live.documents import GEOMETRY, exposures
from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.files.moving_centre import GRID_STEPS
from dvfb_stream.files.reading import read_frames
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import Simulator
from dvfb_stream.view import VIEW_SIZE

STEPS = (64, 32, 16, 8, 4, 2, 1)
"""Of the grid, in a pixel of the view."""

TIMED_STEPS = (16, 8, 4)

BATCH = 16


def moved(geometry: Geometry, steps: float) -> Geometry:
    """Return a geometry with a centre half a step of the grid away."""
    half = max(geometry.shape) / VIEW_SIZE / steps / 2
    return replace(geometry, center_x=geometry.center_x + half, center_y=geometry.center_y + half)


def real_frames(folder: Path) -> list[Frame]:
    """Return the frames that a folder's manifest lists."""
    found = []
    for entry in json.loads((folder / "manifest.json").read_text()):
        if not isinstance(entry.get("beam_center_x"), int | float):
            continue  # a mask
        pixels = next(iter(read_frames(str(folder / entry["file"]))))
        x, y = entry["beam_center_x"], entry["beam_center_y"]
        found.append(
            Frame(pixels, Geometry(shape=(pixels.shape[0], pixels.shape[1]), center_x=x, center_y=y))
        )
    return found


def simulated_frames(count: int, seed: int) -> list[Frame]:
    """Return frames of as many experiments."""
    simulator = Simulator(seed)
    drawn = (simulator.frame(index * simulator.settings.frames_per_experiment) for index in range(count))
    return [Frame(one.pixels, one.geometry) for one in drawn]


def errors(annotator: Annotator, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Return how coefficients, probabilities and labels depart from those of the centre itself."""
    exact = annotator.annotate(frames, keep_coefficients=True)
    found = []
    for steps in STEPS:
        there = [Frame(frame.pixels, moved(frame.geometry, steps)) for frame in frames]
        pairs = [
            (one, other)
            for one, other in zip(exact, annotator.annotate(there, keep_coefficients=True), strict=True)
            if one.ok and other.ok
        ]
        coefficients = [
            float(np.linalg.norm(other.coefficients - one.coefficients) / np.linalg.norm(one.coefficients))
            for one, other in pairs
            if one.coefficients.any()  # all zero of a blank frame
        ]
        probabilities = [
            max(abs(one.scores[label] - other.scores[label]) for label in LABELS) for one, other in pairs
        ]
        found.append(
            {
                "steps in a view pixel": steps,
                "frames": len(pairs),
                "coefficients, relative": _spread(coefficients),
                "probability, largest of a frame": _spread(probabilities),
                "labels changed": sum(len(set(one.labels) ^ set(other.labels)) for one, other in pairs),
                "labels": sum(len(one.labels) for one, _ in pairs),
            }
        )
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "95 of 100": float(np.percentile(values, 95)),
        "max": float(np.max(values)),
    }


def times(model: str, frames: int, drift: float) -> list[dict[str, Any]]:
    """Return seconds a frame of a run whose centre drifts by `drift` detector pixels, for several grids."""
    pixels = list(exposures(BATCH))
    rows, columns = GEOMETRY.shape
    path = np.linspace(0.0, drift, frames)
    # A drift with the jitter of a motor's read-back.
    jitter = np.random.default_rng(0).normal(0.0, 0.02, (2, frames))
    centres = np.stack(
        [GEOMETRY.center_x + path + jitter[0], GEOMETRY.center_y + path / 2 + jitter[1]], axis=1
    )

    def of(name: str, points: np.ndarray) -> dict[str, Any]:
        annotator = Annotator.load(model, device="cpu")
        known: dict[tuple[float, float], Geometry] = {}
        taken = [
            Frame(
                pixels[index % BATCH],
                known.setdefault((x, y), replace(GEOMETRY, center_x=float(x), center_y=float(y))),
            )
            for index, (x, y) in enumerate(points.tolist())
        ]
        annotator.annotate([Frame(pixels[0], replace(GEOMETRY, center_x=1.0))])  # for warmth
        started = time.perf_counter()
        slowest = 0.0
        for first in range(0, len(taken), BATCH):
            begun = time.perf_counter()
            annotator.annotate(taken[first : first + BATCH])
            slowest = max(slowest, time.perf_counter() - begun)
        return {
            "centre": name,
            "frames": len(taken),
            "centres": len(known),
            "seconds a frame": (time.perf_counter() - started) / len(taken),
            "slowest batch, seconds": slowest,
        }

    found = [of("stays", np.repeat(centres[:1], frames, axis=0))]
    for steps in TIMED_STEPS:
        step = max(rows, columns) / VIEW_SIZE / steps
        found.append(of(f"drifts, {steps} steps in a view pixel", np.floor(centres / step + 0.5) * step))
    # Of these a few tell as much: each has an estimator of its own.
    found.append(of("drifts, exact", centres[: 2 * BATCH]))
    for line in found[1:]:
        line["times one that stays"] = line["seconds a frame"] / found[0]["seconds a frame"]
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure errors and times."""
    torch.set_num_threads(options.threads)
    annotator = Annotator.load(options.model, device="cpu")
    frames = simulated_frames(options.frames, options.seed)
    real = real_frames(Path(options.real)) if options.real else []
    return {
        "model": str(annotator.identity),
        "grid steps of the product": GRID_STEPS,
        "threads": options.threads,
        "simulated": errors(annotator, frames),
        "real": errors(annotator, real) if real else [],
        "drift in pixels": options.drift,
        "run": times(options.model, options.run, options.drift),
    }


if __name__ == "__main__":
    run(
        "moving-centre",
        __doc__,
        measure,
        model="default",
        frames=100,
        seed=21,
        run=500,
        drift=10.0,
        threads=1,
        real="",
    )
