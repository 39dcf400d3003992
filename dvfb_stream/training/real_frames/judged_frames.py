"""What a model says of frames whose labels people agreed on, and how often it is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.labels import LABELS
from dvfb_stream.training.real_frames.setups import DRAWS, SEED, mean_known, setup_weights, with_interval
from dvfb_stream.training.real_frames.weighted_scores import (
    Weights,
    average_precision,
    calibration_error,
    ratio,
    roc_area,
    weighted_share,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFrames:
    """N frames, what is known of them, and what a model says."""

    setups: tuple[str, ...]
    """Set-up of each frame."""
    known: NDArray[np.bool_]
    """(N, 10): whether people agreed that the frame has the label, or that it has not."""
    truth: NDArray[np.bool_]
    """(N, 10): whether it has; of no meaning where that is not known."""
    scores: NDArray[np.float64]
    """(N, 10): probabilities."""
    accepted: NDArray[np.bool_]
    """(N, 10): whether the model gives the frame the label."""
    warnings: Mapping[str, NDArray[np.float64]]
    """(N,) each, by name: what is to be high where a label is wrong."""


def measure(frames: JudgedFrames, *, draws: int = DRAWS, seed: int = SEED) -> dict[str, Any]:
    """Return how often the labels are right, each frame weighed by one over the frames of its set-up.

    Returns
    -------
    dict
        JSON-ready. A *statistic* is ``{"value", "interval"}``, with a 95 % bootstrap interval over set-ups.

        ``all_right``: share of frames whose known labels are all accepted or rejected rightly.
        ``mean_average_precision``: over labels of which some frames have them and some have not; a draw that lacks
        either for a label leaves it out.
        ``precision``, ``recall``: of accepted labels, over all labels together.
        ``expected_calibration_error``: over all labels together.
        ``finds_wrong_frames``: by warning, the area under its ROC curve ``against_any`` (frames with a known label
        that is not as it should be) and ``against_accepted`` (frames with a wrong accepted label).
        ``labels``: of each how many frames have it and have it not, how many of its acceptances are ``right`` and
        ``wrong``, how many were ``missed``, all counted in frames; and the statistics ``average_precision``,
        ``roc_area`` and ``expected_calibration_error``.
        ``setups``: of each ``frames`` and the share that is ``all_right``.
    """
    weights = setup_weights(frames.setups, draws=draws, seed=seed)
    has = frames.known & frames.truth
    wrong = frames.known & (frames.accepted != frames.truth)
    right = ~wrong.any(axis=1)
    labels = {label: _label(frames, k, weights) for k, label in enumerate(LABELS)}
    precisions = np.stack([found.pop("average_precisions") for found in labels.values()])
    hits = weights @ (frames.accepted & has).sum(axis=1)
    flat = np.repeat(weights, len(LABELS), axis=1)[:, frames.known.ravel()]
    return {
        "frames": len(frames.setups),
        "draws": draws,
        "all_right": with_interval(weighted_share(right, weights)),
        "mean_average_precision": with_interval(mean_known(precisions)),
        "precision": with_interval(ratio(hits, weights @ (frames.accepted & frames.known).sum(axis=1))),
        "recall": with_interval(ratio(hits, weights @ has.sum(axis=1))),
        "expected_calibration_error": with_interval(
            calibration_error(frames.scores[frames.known], frames.truth[frames.known], flat)
        ),
        "finds_wrong_frames": {
            name: {
                "against_any": with_interval(roc_area(values, ~right, weights)),
                "against_accepted": with_interval(
                    roc_area(values, (wrong & frames.accepted).any(axis=1), weights)
                ),
            }
            for name, values in frames.warnings.items()
        },
        "labels": labels,
        "setups": _setups(frames.setups, right),
    }


def _label(frames: JudgedFrames, k: int, weights: Weights) -> dict[str, Any]:
    known = frames.known[:, k]
    truth, accepted = frames.truth[known, k], frames.accepted[known, k]
    scores, weights = frames.scores[known, k], weights[:, known]
    if not known.any():
        nothing = np.full(len(weights), np.nan)
        ranked, area, error = nothing, nothing, nothing
    else:
        ranked = average_precision(scores, truth, weights)
        area = roc_area(scores, truth, weights)
        error = calibration_error(scores, truth, weights)
    return {
        "have_it": int(truth.sum()),
        "have_it_not": int((~truth).sum()),
        "right": int((accepted & truth).sum()),
        "wrong": int((accepted & ~truth).sum()),
        "missed": int((~accepted & truth).sum()),
        "average_precision": with_interval(ranked),
        "roc_area": with_interval(area),
        "expected_calibration_error": with_interval(error),
        "average_precisions": ranked,
    }


def _setups(setups: tuple[str, ...], right: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    of = np.asarray(setups)
    return {
        setup: {"frames": int((of == setup).sum()), "all_right": float(right[of == setup].mean())}
        for setup in dict.fromkeys(setups)
    }
