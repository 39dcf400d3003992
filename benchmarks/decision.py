"""How network and measurement decide together on real frames, set-ups left out of what is fitted: JSON on stdout.

    python -m benchmarks.decision --folder FOLDER [--model MODEL] [--without SETUP,SETUP]

`FOLDER` is laid out as docs/real-frames.md says. In each of `tries` the five fold and symmetry labels are decided
otherwise, and all else as the bundle says:

- `network`: by what the network states alone;
- `rule`: by the measured evidence alone, accepted from 1 on; nothing is fitted;
- `joined`: by both together, three numbers for all five labels fitted to the other set-ups;
- `chosen`: the same, and all labels accepted from a probability of `CANDIDATES` that has the best F1 on the other
  set-ups;
- `bundle`: by the numbers of the bundle, which were chosen on these very frames.

`fitted_to_all` are the numbers fitted to all set-ups. They are held near `START`, for ten set-ups say little.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.command import run
from dvfb_stream import Annotator
from dvfb_stream.azimuthal.orders import FEWEST_RINGS
from dvfb_stream.cli.labelled.folder import RealFrame, read_folder
from dvfb_stream.labels import LABELS, close_under_implication
from dvfb_stream.models.decision import (
    LEAST_EVIDENCE,
    MEASURED_LABELS,
    PLACES,
    SUREST,
    Decision,
    decide,
)
from dvfb_stream.training.presets import DECISION
from dvfb_stream.training.real_frames.judged_frames import JudgedFrames, measure

START = np.array([1.0, 1.0, 0.0])
"""Weights of the measurement and of the network's logit, and offset, before any real frame."""
HELD = 0.2
"""Weight of that, in set-ups."""
FRAMES_TOGETHER = 16
CANDIDATES = (0.3, 0.35, 0.4, 0.45, 0.5)
"""For the probability from which on labels are accepted."""


class Looked:
    """What network and measurement say of N frames."""

    def __init__(self, annotator: Annotator, frames: list[RealFrame]) -> None:
        results = []
        for start in range(0, len(frames), FRAMES_TOGETHER):
            some = [annotator.prepare(frame.read()) for frame in frames[start : start + FRAMES_TOGETHER]]
            results += annotator.infer(some)
        found = [result for result in results if not isinstance(result, Exception)]
        if len(found) < len(results):
            raise SystemExit(f"{len(results) - len(found)} frames cannot be annotated")
        self.stated = np.array([one.stated for one in found])
        self.evidence = np.array(
            [[one.measured.verified.labels[label] for label in MEASURED_LABELS] for one in found]
        )
        self.known = np.array([one.measured.verified.rings_known >= FEWEST_RINGS for one in found])
        self.novelty = np.array([one.novelty for one in found])
        self.setups = tuple(frame.setup for frame in frames)
        self.is_known = np.array([[label in frame.labels for label in LABELS] for frame in frames])
        self.truth = np.array([[bool(frame.labels.get(label)) for label in LABELS] for frame in frames])

    @property
    def weights(self) -> NDArray[np.float64]:
        """One over the frames of each frame's set-up."""
        return np.array([1 / self.setups.count(setup) for setup in self.setups])


def fitted(looked: Looked, which: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the three numbers that say best of some frames what they show."""
    own = looked.stated[:, PLACES].clip(SUREST, 1 - SUREST)
    values = np.stack(
        [
            np.log(np.maximum(looked.evidence, LEAST_EVIDENCE)),
            np.log(own / (1 - own)),
            np.ones_like(own),
        ],
        axis=-1,
    )
    used = looked.is_known[:, PLACES] & (looked.known & which)[:, None]
    signs = np.where(looked.truth[:, PLACES], 1.0, -1.0)[used]
    values, weights = values[used], np.broadcast_to(looked.weights[:, None], used.shape)[used]

    def cost(numbers: NDArray[np.float64]) -> float:
        losses = np.logaddexp(0, -signs * (values @ numbers))
        return float(weights @ losses + HELD * ((numbers - START) ** 2).sum())

    return np.asarray(minimize(cost, START, bounds=[(0.1, 10), (0, 3), (-5, 5)]).x)


def judged(looked: Looked, decisions: list[Decision], known: NDArray[np.bool_]) -> JudgedFrames:
    """Return the frames as they are decided, each by its own decision, accepted from where that says."""
    parts = [
        decide(
            looked.stated[i : i + 1],
            looked.evidence[i : i + 1],
            known[i : i + 1],
            looked.novelty[i : i + 1],
            np.full(looked.stated.shape[1], one.accepted_from),
            one,
        )
        for i, one in enumerate(decisions)
    ]
    accepted = np.concatenate([part.accepted for part in parts])[:, : len(LABELS)]
    closed = [close_under_implication(LABELS[k] for k in np.flatnonzero(row)) for row in accepted]
    accepted = np.array([[label in labels for label in LABELS] for labels in closed])
    doubtful = np.concatenate([part.doubtful for part in parts])[:, : len(LABELS)] & ~accepted
    return JudgedFrames(
        setups=looked.setups,
        known=looked.is_known,
        truth=looked.truth,
        scores=np.concatenate([part.scores for part in parts])[:, : len(LABELS)],
        accepted=accepted,
        doubtful=doubtful,
        warnings={"doubtful_or_novel": np.maximum(doubtful.mean(axis=1), looked.novelty)},
    )


def chosen(looked: Looked, which: NDArray[np.bool_], decision: Decision) -> Decision:
    """Return the decision accepting from the candidate of best F1 on some frames, the highest of equal ones."""

    def f1(accepted_from: float) -> float:
        frames = judged(looked, [replace(decision, accepted_from=accepted_from)] * len(which), looked.known)
        found = measure(frames.of(which), draws=0)
        precision, recall = found["precision"]["value"], found["recall"]["value"]
        return float(round(2 * precision * recall / (precision + recall), 6))

    return replace(decision, accepted_from=max(reversed(CANDIDATES), key=f1))


def with_numbers(decision: Decision, numbers: NDArray[np.float64]) -> Decision:
    return replace(decision, measured=float(numbers[0]), network=float(numbers[1]), offset=float(numbers[2]))


def decision(options: argparse.Namespace) -> dict[str, Any]:
    annotator = Annotator.load(options.model)
    without = [setup for setup in options.without.split(",") if setup]
    looked = Looked(annotator, read_folder(Path(options.folder), without=without))
    bundle = annotator.decision or DECISION
    setups = np.array(looked.setups)
    names = dict.fromkeys(looked.setups)
    left_out = {name: with_numbers(bundle, fitted(looked, setups != name)) for name in names}
    choices = {name: chosen(looked, setups != name, left_out[name]) for name in names}
    rule = replace(with_numbers(bundle, np.array([3.0, 0.0, 0.0])), contradiction=2.0)
    network = replace(bundle, contradiction=2.0)
    everywhere = len(looked.setups)
    nowhere = np.zeros_like(looked.known)
    alone = decide_alone(looked, network, nowhere)
    return {
        "model": str(annotator.identity),
        "without": without,
        "frames": len(looked.setups),
        "tries": {
            "network": summary(alone),
            "rule": summary(judged(looked, [rule] * everywhere, looked.known)),
            "joined": summary(judged(looked, [left_out[name] for name in looked.setups], looked.known)),
            "chosen": summary(judged(looked, [choices[name] for name in looked.setups], looked.known)),
            "bundle": summary(judged(looked, [bundle] * everywhere, looked.known)),
        },
        "left_out": {setup: one.as_dict() for setup, one in choices.items()},
        "fitted_to_all": with_numbers(bundle, fitted(looked, np.ones_like(looked.known))).as_dict(),
    }


def decide_alone(looked: Looked, network: Decision, nowhere: NDArray[np.bool_]) -> JudgedFrames:
    """Return the frames as the network alone decides: nothing is measured, and that is no doubt."""
    frames = judged(looked, [network] * len(looked.setups), nowhere)
    reached = looked.stated[:, : len(LABELS)] >= network.accepted_from
    closed = [close_under_implication(LABELS[k] for k in np.flatnonzero(row)) for row in reached]
    accepted = np.array([[label in labels for label in LABELS] for labels in closed])
    return replace(frames, accepted=accepted, doubtful=np.zeros_like(accepted))


def summary(frames: JudgedFrames) -> dict[str, Any]:
    found = measure(frames)
    return {
        name: found[name]
        for name in (
            "all_right",
            "mean_average_precision",
            "precision",
            "recall",
            "expected_calibration_error",
            "finds_wrong_frames",
            "labels",
            "setups",
        )
    }


if __name__ == "__main__":
    run(
        "decision",
        __doc__,
        decision,
        folder=("../shared/real_frames/benchmark", "Real frames with known labels"),
        model=("default", "Bundle"),
        without=("", "Set-ups to leave out, with commas"),
    )
