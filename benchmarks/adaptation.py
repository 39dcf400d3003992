"""What a few labelled frames of a beamline bring: JSON on stdout.

    python -m benchmarks.adaptation [--model default] [--pool 400] > benchmarks/results/NAME.json

Frames of the two domains of `dvfb_stream.reproduction`, which no network was trained on: heads are fitted to draws
from a pool of labelled ones and judged on as many others, as `dvfb adapt` fits and an annotator judges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.command import run
from dvfb_stream import Annotator, Frame
from dvfb_stream.examination import features_of
from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction.independent_sets import domain
from dvfb_stream.training.adaptation import LabelledFeatures, adapt, turned

FRAMES_AT_A_TIME = 50
DRAWS = {60: 4, 150: 3, 400: 1}
"""Draws from the pool by number of labelled frames."""


def encoded(
    annotator: Annotator, frames: list[Frame], symmetries: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Yield features of all copies, (S, n, F), and probabilities, (n, 10), some frames at a time."""
    for start in range(0, len(frames), FRAMES_AT_A_TIME):
        part = frames[start : start + FRAMES_AT_A_TIME]
        copies = [
            features_of(annotator, [turned(frame, symmetry) for frame in part]) for symmetry in symmetries
        ]
        yield np.stack([copy.activations for copy in copies]), copies[0].scores
        print(f"{start + len(part)} of {len(frames)} frames", file=sys.stderr)


def labelled_features(
    annotator: Annotator, name: str, start: int, stop: int, symmetries: tuple[int, ...], seed: int
) -> LabelledFeatures:
    """Return what a model makes of frames of a domain, and their labels."""
    made = list(domain(name, seed=seed).frames(start, stop))
    parts = list(encoded(annotator, [Frame(frame.pixels, frame.geometry) for frame in made], symmetries))
    truth = np.array([[label in frame.labels for label in LABELS] for frame in made], dtype=np.int8)
    activations = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts])
    fine = ~np.isnan(scores).any(axis=1) & ~np.isnan(activations).any(axis=(0, 2))
    return LabelledFeatures(
        activations=activations[:, fine], truth=truth[fine], scores=scores[fine][:, : len(LABELS)]
    )


def judged(
    pool: LabelledFeatures, others: LabelledFeatures, which: NDArray[np.int64], seed: int
) -> dict[str, object]:
    """Adapt to some frames of the pool and return average precisions on the others, before and after."""
    part = LabelledFeatures(
        activations=pool.activations[:, which], truth=pool.truth[which], scores=pool.scores[which]
    )
    adaptation = adapt(part, seed=seed)
    known = [k for k, label in enumerate(LABELS) if 0 < others.truth[:, k].sum() < len(others.truth)]
    before = {
        LABELS[k]: float(average_precision_score(others.truth[:, k], others.scores[:, k])) for k in known
    }
    after = dict(before)
    if adaptation.heads is not None:
        decisions = adaptation.heads.decision(others.activations[0])
        for column, label in enumerate(adaptation.heads.labels):
            if label in after:
                truth = others.truth[:, LABELS.index(label)]
                after[label] = float(average_precision_score(truth, decisions[:, column]))
    return {
        "frames": len(which),
        "kept": [outcome.label for outcome in adaptation.outcomes if outcome.kept],
        "gain": sum(after.values()) - sum(before.values()),
        "before": before,
        "after": after,
    }


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Adapt to draws from the pool of each domain."""
    annotator = Annotator.load(options.model, device="cpu")
    rng, copies = np.random.default_rng(options.seed), tuple(range(options.copies))
    found = {}
    for name in ("single", "mixed"):
        pool = labelled_features(annotator, name, 0, options.pool, copies, options.seed)
        others = labelled_features(annotator, name, options.pool, 2 * options.pool, (0,), options.seed)
        found[name] = [
            judged(pool, others, rng.permutation(len(pool.truth))[:count], options.seed)
            for count, draws in DRAWS.items()
            if count <= options.pool
            for _ in range(draws)
        ]
    circumstances = {"model": str(annotator.identity), "seed": options.seed, "copies": options.copies}
    return {**circumstances, "domains": found}


if __name__ == "__main__":
    run(
        "adaptation",
        __doc__,
        measure,
        model="default",
        pool=(400, "labelled frames; as many others are judged"),
        copies=(8, "symmetries of each frame that heads are fitted to"),
        seed=77,
    )
