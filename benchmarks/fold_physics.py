"""How far folds measured along the azimuth go on real frames, set-ups left out of anything fitted: JSON on stdout.

    python -m benchmarks.fold_physics tries --folder FOLDER --network RESULTS.json
    python -m benchmarks.fold_physics invariance --folder FOLDER

`FOLDER` is laid out as docs/real-frames.md says; the file holds what `dvfb evaluate --real` found for a network.
`invariance` alters the frames as `dvfb invariance` does, and looks at the five labels alone, accepted by the rule. In
each of `tries` the five fold and symmetry labels are decided by the measured evidence and the others by the network:

- `rule`: accepted from 1 on, which is the least contrast of docs/labels.md; nothing is fitted.
- `threshold`: two numbers for all five labels together, threshold and slope, fitted to the other set-ups.
- `seen`: the same by all sectors, verified or not.
- `network where unknown`: as `threshold`, but the network decides where fewer than four rings are verified.
- `both where unknown`: there, network and the evidence of all sectors must agree.
- `without distortion`, `without odd`: as `rule`, but nothing is taken off for a tilt, or for what is one-sided.
- `network`: as it is.

What is measured, and its constants, were chosen looking at these frames; only threshold and slope are
cross-validated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks.command import run
from dvfb_stream.annotations import Annotation, ModelIdentity, Status
from dvfb_stream.azimuthal import evidence as evidence_of
from dvfb_stream.azimuthal import maxima
from dvfb_stream.azimuthal.orders import AzimuthalOrders, MeasuredOrders
from dvfb_stream.cli.labelled.folder import RealFrame, read_folder
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS, close_under_implication
from dvfb_stream.training.real_frames.invariance import measure_invariance
from dvfb_stream.training.real_frames.judged_frames import JudgedFrames, judged_frames, measure
from dvfb_stream.view import ViewResampler

DECIDED = ("symmetry_halo", "symmetry_rings", "two_fold", "four_fold", "six_fold")
PLACES = [LABELS.index(label) for label in DECIDED]
RULE = ModelIdentity(name="rule", version="1", sha256="0" * 64)
LEAST, SLOPE = 0.05, 3.0
"""Evidence below this is this; and the slope that the fit starts from and is held to."""
HELD = 1.0
"""Weight of that, in set-ups."""
FEWEST_RINGS = 4


def orders_of(frame: Frame) -> tuple[AzimuthalOrders, NDArray[np.float32]]:
    """Return what measures a frame, and its counts."""
    resampler = ViewResampler(frame.geometry)
    view, raster = resampler.view(frame.pixels), resampler.fine
    orders = AzimuthalOrders(view.fine.mask, raster.center_x, raster.center_y, raster.area, step=raster.step)
    return orders, view.fine.counts[None]


def measured(frame: RealFrame) -> dict[str, Any]:
    """Return the evidence of a frame by way of measuring, and what else is known of it."""
    orders, counts = orders_of(frame.read())
    verified, seen = orders.harmonics(counts)
    (found,) = orders.measure(counts)
    with mock.patch.object(maxima, "DISTORTION", 0.0), mock.patch.object(evidence_of, "DISTORTION", 0.0):
        (without_distortion,) = evidence_of.evidence(verified)
    return {
        "measured": found,
        "verified": found.verified,
        "seen": evidence_of.evidence(seen)[0],
        "without odd": evidence_of.evidence(replace(verified, odd=np.zeros_like(verified.odd)))[0],
        "without distortion": without_distortion,
    }


def annotate(frames: Sequence[Frame]) -> list[Annotation]:
    """Return annotations with the five labels alone, by the rule."""
    found = []
    for frame in frames:
        orders, counts = orders_of(frame)
        evidence = orders.measure(counts)[0].verified.labels
        labels = tuple(label for label in DECIDED if evidence[label] >= 1)
        found.append(Annotation(status=Status.OK, model=RULE, labels=labels))
    return found


def invariance(options: argparse.Namespace) -> dict[str, Any]:
    frames = read_folder(Path(options.folder), without=without_of(options))
    return {
        "model": "the rule",
        "folder": Path(options.folder).name,
        "without": without_of(options),
        **measure_invariance(annotate, ((frame.name, frame.setup, frame.read()) for frame in frames)),
    }


def without_of(options: argparse.Namespace) -> list[str]:
    return [setup for setup in options.without.split(",") if setup]


def fitted(
    evidence: NDArray[np.float64],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return threshold and slope, both as logarithms, of weighed frames."""
    strength = np.log(np.maximum(evidence, LEAST))[known]
    signs, each = np.where(truth, 1.0, -1.0)[known], np.broadcast_to(weights[:, None], known.shape)[known]
    start = np.array([0.0, np.log(SLOPE)])

    def cost(parameters: NDArray[np.float64]) -> float:
        margin = signs * np.exp(parameters[1]) * (strength - parameters[0])
        return float(each @ np.logaddexp(0, -margin) + HELD * ((parameters - start) ** 2).sum())

    return np.asarray(minimize(cost, start).x)


def probabilities(evidence: NDArray[np.float64], parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(expit(np.exp(parameters[1]) * (np.log(np.maximum(evidence, LEAST)) - parameters[0])))


def by_rule(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    return probabilities(evidence, np.array([0.0, np.log(SLOPE)]))


def left_out(evidence: NDArray[np.float64], judged: JudgedFrames) -> NDArray[np.float64]:
    """Return probabilities of each set-up's frames by what was fitted to the others."""
    setups = np.array(judged.setups)
    counts = {setup: (setups == setup).sum() for setup in set(setups)}
    weights = np.array([1 / counts[setup] for setup in setups])
    stated = np.empty_like(evidence)
    for setup in counts:
        others = setups != setup
        parameters = fitted(
            evidence[others],
            judged.truth[others][:, PLACES],
            judged.known[others][:, PLACES],
            weights[others],
        )
        stated[~others] = probabilities(evidence[~others], parameters)
    return stated


def decided(judged: JudgedFrames, stated: NDArray[np.float64]) -> dict[str, Any]:
    """Return what is measured where these probabilities decide the five labels."""
    scores, accepted = judged.scores.copy(), judged.accepted.copy()
    scores[:, PLACES] = stated
    accepted[:, PLACES] = stated >= 0.5
    closed = [close_under_implication(LABELS[k] for k in np.flatnonzero(row)) for row in accepted]
    accepted = np.array([[label in labels for label in LABELS] for labels in closed])
    found = measure(
        JudgedFrames(
            setups=judged.setups,
            known=judged.known,
            truth=judged.truth,
            scores=scores,
            accepted=accepted,
            warnings={},
        )
    )
    return {name: found[name] for name in ("all_right", "mean_average_precision", "precision", "recall")} | {
        "expected_calibration_error": found["expected_calibration_error"],
        "labels": {label: found["labels"][label] for label in DECIDED},
        "setups": found["setups"],
    }


def judged_by_network(results: dict[str, Any], without: list[str]) -> tuple[JudgedFrames, list[str]]:
    entries = [
        {**entry, "truth": {label: has for label, has in entry["truth"].items() if label in LABELS}}
        for entry in results["judged"]
        if entry["setup"] not in without
    ]
    return judged_frames(entries), [entry["name"] for entry in entries]


def tries(options: argparse.Namespace) -> dict[str, Any]:
    results = json.loads(Path(options.network).read_text())
    without = without_of(options)
    judged, names = judged_by_network(results, without)
    by_name = {frame.name: measured(frame) for frame in read_folder(Path(options.folder), without=without)}
    orders: list[MeasuredOrders] = [by_name[name]["measured"] for name in names]

    def evidence(way: str) -> NDArray[np.float64]:
        return np.array([[by_name[name][way].labels[label] for label in DECIDED] for name in names])

    verified = evidence("verified")
    network = judged.scores[:, PLACES]
    by_threshold, by_all = left_out(verified, judged), left_out(evidence("seen"), judged)
    unknown = np.array([one.verified.rings_known < FEWEST_RINGS for one in orders])[:, None]
    # Where the network decides, from its own thresholds on.
    as_accepted = np.where(judged.accepted[:, PLACES], 0.5 + network / 2, network / 2)
    return {
        "model": results["model"],
        "without": without,
        "tries": {
            "network": decided(judged, as_accepted),
            "rule": decided(judged, by_rule(verified)),
            **{
                name: decided(judged, by_rule(evidence(name)))
                for name in ("without distortion", "without odd")
            },
            "threshold": decided(judged, by_threshold),
            "seen": decided(judged, by_all),
            "network where unknown": decided(judged, np.where(unknown, as_accepted, by_threshold)),
            "both where unknown": decided(
                judged, np.where(unknown, np.minimum(as_accepted, by_all), by_threshold)
            ),
        },
        "fitted_to_all": dict(
            zip(
                ("threshold", "slope"),
                np.exp(
                    fitted(
                        verified,
                        judged.truth[:, PLACES],
                        judged.known[:, PLACES],
                        np.array([1 / judged.setups.count(setup) for setup in judged.setups]),
                    )
                ).tolist(),
                strict=True,
            )
        ),
        "frames": [
            {
                "name": name,
                "setup": setup,
                "verified": one.verified.labels,
                "seen": by_name[name]["seen"].labels,
                "order": one.verified.order,
                "contrast": one.verified.contrast,
                "rings_known": one.verified.rings_known,
                "worth": one.worth,
                "shift": [one.shift_x, one.shift_y],
            }
            for name, setup, one in zip(names, judged.setups, orders, strict=True)
        ],
    }


if __name__ == "__main__":
    run(
        "fold-physics",
        __doc__,
        {"tries": tries, "invariance": invariance},
        folder=("../shared/real_frames/benchmark", "Real frames with known labels"),
        network=("benchmarks/results/real-benchmark-tagged-default.json", "Results of a network on them"),
        without=("", "Set-ups to leave out, with commas"),
    )
