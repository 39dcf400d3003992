"""How right a model's labels are on frames that the simulator made, on others' frames, and at grazing incidence.

    python -m benchmarks.independent_sets > benchmarks/results/independent-sets.json

Frames go the whole way of `Annotator.annotate`: probabilities, accepted and doubtful labels. The sets:

- `simulated`: those of the test set of the default model up to 0.3.0, `SimulationSettings()` with seed 3, evenly
  over its first 5,000.
- `single`, `mixed`: by sasmodels and pyFAI; `diffsims`: crystals by diffsims; `bornagain`: aligned particles by
  BornAgain; docs/independent-test-sets.md says how their labels are known. `foreign` is these four together.
- `grazing`: films at grazing incidence by BornAgain, of which it is known that they are, and that they have no fold.

`pip install 'dvfb-stream[evaluate]'` brings all but BornAgain, `pip install 'dvfb-stream[grazing]'` that. What is not
installed is left out, and named.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from benchmarks.command import run
from benchmarks.label_scores import JudgedLabels, Truth, measure, roc_area
from dvfb_stream import Annotator, Frame
from dvfb_stream.cli.terminal import TaskProgress
from dvfb_stream.errors import MissingExtraError
from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.reproduction import domain
from dvfb_stream.reproduction.independent_sets.grazing_incidence import KNOWN, grazing_frames
from dvfb_stream.reproduction.independent_sets.labelling import RING_STYLES
from dvfb_stream.simulation import SimulationSettings, Simulator

OLD_SEED, OLD_FRAMES = 3, 5000
"""Of the test set that every model up to 0.3.0 was measured on."""
SEED = 11
"""Of the others; adaptation and novelty are measured on other frames."""
TOGETHER = 10
"""Frames of one geometry, annotated as one batch: more geometries say more than more frames of one."""
FOREIGN = ("single", "mixed", "diffsims", "bornagain")

KnownFrame = tuple[Frame, Truth]
GRAZING = ALL_LABELS.index("grazing")


def simulated(count: int) -> Iterator[KnownFrame]:
    """Yield frames of the old test set, evenly over it, of which all labels are known."""
    simulator = Simulator(OLD_SEED, settings=SimulationSettings())
    for position in range(count):
        frame = simulator.frame(position * OLD_FRAMES // count)
        shown = {*frame.labels, *frame.further_labels}
        yield Frame(frame.pixels, frame.geometry), {label: label in shown for label in ALL_LABELS}


def foreign(name: str, count: int) -> Iterator[KnownFrame]:
    """Yield frames of a domain, `TOGETHER` of each of its set-ups, with folds by contrast.

    None is at grazing incidence or misaligned; besides the ten labels, the styles of rings are known.
    """
    of = domain(name, seed=SEED, fold_rule="contrast")
    each = TOGETHER if of.frames_per_setup else count
    for number in range(-(-count // each)):
        start = number * (of.frames_per_setup or 0)
        for frame in of.frames(start, start + min(each, count - number * each)):
            shown = {*frame.labels, *frame.ring_styles}
            truth = {label: label in shown for label in (*LABELS, *RING_STYLES, "grazing", "misaligned")}
            yield Frame(frame.pixels, frame.geometry), truth


def grazing(count: int) -> Iterator[KnownFrame]:
    """Yield frames at grazing incidence."""
    for frame in grazing_frames(SEED, 0, count):
        yield Frame(frame.pixels, frame.geometry), KNOWN


def judged(
    annotator: Annotator, frames: Iterable[KnownFrame], report: Callable[[int], None] = lambda done: None
) -> JudgedLabels:
    """Return what an annotator says of frames, those of one geometry together.

    Raises
    ------
    RuntimeError
        When a frame could not be annotated.
    """
    truths, annotations = [], []
    for _, neighbours in itertools.groupby(frames, key=lambda known: known[0].geometry):
        while batch := list(itertools.islice(neighbours, TOGETHER)):
            annotations += annotator.annotate([frame for frame, _ in batch])
            truths += [truth for _, truth in batch]
            report(len(truths))
    failed = [annotation.reason for annotation in annotations if not annotation.ok]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(annotations)} frames were not annotated: {failed[0]}")
    return JudgedLabels.of(truths, annotations)


def at_grazing_incidence(found: dict[str, JudgedLabels]) -> dict[str, Any]:
    """Return how well the grazing frames are told from those that show none of it, and which labels they get."""
    of = found["grazing"]
    others = JudgedLabels.together([one for name, one in found.items() if name != "grazing"] or [of])
    without = others.scores[others.known[:, GRAZING] & ~others.truth[:, GRAZING], GRAZING]
    told = np.concatenate((of.scores[:, GRAZING], without))
    return {
        "frames": len(of),
        "against": len(without),
        "roc_area": roc_area(told, np.arange(len(told)) < len(of)),
        "accepted": {label: float(of.accepted[:, k].mean()) for k, label in enumerate(ALL_LABELS)},
        "doubtful": {label: float(of.doubtful[:, k].mean()) for k, label in enumerate(ALL_LABELS)},
    }


def measure_sets(options: argparse.Namespace) -> dict[str, Any]:
    annotator = Annotator.load(options.model, device="cpu", thresholds=options.thresholds)
    makers: dict[str, tuple[Callable[[int], Iterable[KnownFrame]], int]] = {
        "simulated": (simulated, options.simulated),
        **{name: (lambda count, name=name: foreign(name, count), options.foreign) for name in FOREIGN},
        "grazing": (grazing, options.grazing),
    }
    found, left_out = {}, {}
    with TaskProgress() as progress:
        for name, (make, count) in makers.items():
            try:
                found[name] = judged(
                    annotator,
                    make(count),
                    lambda done, name=name, count=count: progress.show(f"{name}, frames", done, count),
                )
            except MissingExtraError as error:
                left_out[name] = str(error)
                print(f"left out: {name}: {error}", file=sys.stderr)
    others = [found[name] for name in FOREIGN if name in found]
    return {
        "model": str(annotator.identity),
        "thresholds": annotator.operating_point,
        "left_out": left_out,
        "sets": {name: measure(one) for name, one in found.items()},
        "foreign": measure(JudgedLabels.together(others)) if others else None,
        "grazing": at_grazing_incidence(found) if "grazing" in found else None,
    }


if __name__ == "__main__":
    run(
        "independent-sets",
        __doc__,
        measure_sets,
        model=("default", "Bundle: a name or a folder"),
        thresholds=("best_f1", "Operating point: best_f1 or high_precision"),
        simulated=(1000, "Simulated frames"),
        foreign=(200, "Frames of each foreign set"),
        grazing=(150, "Frames at grazing incidence"),
    )
