"""Whether labels depend on what a count is in a frame's pixels: JSON on stdout.

    python -m benchmarks.count_scale [--real FOLDER] > benchmarks/results/count-scale.json

Frames of counts are annotated as they are; then divided, multiplied, corrected and subtracted from, as beamlines do:
as they were read before (values are counts, negative ones invalid), and as they are read now.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import run
from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.annotations import Annotation
from dvfb_stream.files import read_frames
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.view import ViewResampler

EXPERIMENT = 16
"""Frames of one detector and exposure; one of each is taken."""
DARK = 20.0
"""Counts of a dark frame, the mean of many of which is subtracted."""

Counts = NDArray[np.float64]
Form = Callable[[Counts, np.random.Generator], NDArray[Any]]


def scaled(unit: float) -> Form:
    """As divided by a monitor, in single precision."""
    return lambda counts, rng: (counts * unit).astype(np.float32)


def corrected(unit: float) -> Form:
    """By a smooth factor of its own for each pixel, as for the solid angle, up to 1.5."""

    def form(counts: Counts, rng: np.random.Generator) -> NDArray[Any]:
        far = np.hypot(*np.indices(counts.shape)) / np.hypot(*counts.shape)
        return (counts * unit * (1 + far / 2)).astype(np.float32)

    return form


def dark_subtracted(unit: float) -> Form:
    """What the detector itself counts is added, and its mean taken away."""
    return lambda counts, rng: ((counts + rng.poisson(DARK, counts.shape) - DARK) * unit).astype(np.float32)


FORMS: dict[str, Form] = {
    **{f"times {unit:g}": scaled(unit) for unit in (1e-9, 1e-6, 1e-3, 0.1, 10.0, 1e3, 1e6, 1e9)},
    "times 1000, int64": lambda counts, rng: counts.astype(np.int64) * 1000,
    **{f"corrected by pixel, times {unit:g}": corrected(unit) for unit in (1e-6, 1.0, 1e3)},
    **{f"dark frame subtracted, times {unit:g}": dark_subtracted(unit) for unit in (1e-6, 1.0)},
}


def simulated(count: int) -> Iterator[Frame]:
    """Frames of detectors' own pixels, with all that is invalid in the mask."""
    simulator = Simulator(7, settings=SimulationSettings(raster="detector"))
    for number in range(count):
        frame = simulator.frame(number * EXPERIMENT)
        yield Frame(frame.pixels, frame.geometry)


def real(folder: Path) -> Iterator[Frame]:
    """Frames of a folder with a `manifest.json`, negative pixels in the mask."""
    for entry in json.loads((folder / "manifest.json").read_text()):
        if "labels_visible" not in entry:
            continue
        pixels = next(iter(read_frames(str(folder / entry["file"]))))
        geometry = Geometry(
            shape=pixels.shape,
            center_x=entry["beam_center_x"],
            center_y=entry["beam_center_y"],
            mask=pixels >= 0,
        )
        yield Frame(pixels, geometry)


def as_before(pixels: NDArray[Any], frame: Frame) -> Frame:
    """Return a frame as it was read before."""
    there = pixels >= 0
    mask = there if frame.geometry.mask is None else there & frame.geometry.mask
    return Frame(pixels, replace(frame.geometry, mask=mask, counts_per_unit=1.0))


def compare(annotator: Annotator, frames: list[Frame]) -> dict[str, Any]:
    """Labels and probabilities of each form, as read before and now, beside those of the counts."""
    rng = np.random.default_rng(0)
    expected = annotator.annotate(frames)
    found = {}
    for name, form in FORMS.items():
        pixels = [form(np.asarray(frame.pixels, dtype=float), rng) for frame in frames]
        now = [Frame(one, frame.geometry) for one, frame in zip(pixels, frames, strict=True)]
        before = [as_before(one, frame) for one, frame in zip(pixels, frames, strict=True)]
        sources = [ViewResampler(frame.geometry).view(frame.pixels).scale.source.value for frame in now]
        found[name] = {
            "before": moved(annotator.annotate(before), expected),
            "now": moved(annotator.annotate(now), expected),
            "known_by": {source: sources.count(source) for source in sorted(set(sources))},
        }
    return {"frames": len(frames), "forms": found}


def moved(annotations: list[Annotation], expected: list[Annotation]) -> dict[str, float]:
    """How far labels are from what they should be."""
    pairs = [(one, other) for one, other in zip(annotations, expected, strict=True) if one.ok and other.ok]
    changes = np.array(
        [[one.scores[label] - other.scores[label] for label in LABELS] for one, other in pairs]
    )
    return {
        "same_labels": float(np.mean([one.labels == other.labels for one, other in pairs])),
        "mean_largest_change": float(np.abs(changes).max(axis=1).mean()),
        "largest_change": float(np.abs(changes).max()),
        "failed": len(annotations) - len(pairs),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare simulated frames, and real ones where a folder of them is given."""
    annotator = Annotator.load(options.model, device="cpu")
    kinds = {"simulated": list(simulated(options.frames))}
    if options.real:
        kinds["real"] = list(real(Path(options.real)))
    return {
        "model": str(annotator.identity),
        "kinds": {name: compare(annotator, frames) for name, frames in kinds.items()},
    }


if __name__ == "__main__":
    run("count-scale", __doc__, measure, model="default", frames=48, real="")
