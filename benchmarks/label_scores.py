"""How right the labels of a set of frames are: ranked, accepted, doubtful and by their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from dvfb_stream.annotations import Annotation
from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.training.evaluation import expected_calibration_error

Truth = Mapping[str, bool]
"""Of a frame, whether it has a label; labels of which that is not known are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedLabels:
    """N frames, what is known of them, and what a model says, (N, 18) each in the order of `ALL_LABELS`."""

    known: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    """Of no meaning where it is not known."""
    scores: NDArray[np.float64]
    """NaN of labels that the model has no number for."""
    accepted: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]

    @classmethod
    def of(cls, truths: Sequence[Truth], annotations: Sequence[Annotation]) -> Self:
        """Return what is known of frames beside what their annotations say."""
        return cls(
            known=_table([[label in truth for label in ALL_LABELS] for truth in truths]),
            truth=_table([[truth.get(label, False) for label in ALL_LABELS] for truth in truths]),
            scores=np.array(
                [[one.scores.get(label, np.nan) for label in ALL_LABELS] for one in annotations]
            ).reshape(-1, len(ALL_LABELS)),
            accepted=_table([[label in one.labels for label in ALL_LABELS] for one in annotations]),
            doubtful=_table([[label in one.doubtful for label in ALL_LABELS] for one in annotations]),
        )

    @classmethod
    def together(cls, sets: Sequence[Self]) -> Self:
        """Return the frames of several sets as one."""
        return cls(
            *(
                np.concatenate([getattr(one, name) for one in sets])
                for name in ("known", "truth", "scores", "accepted", "doubtful")
            )
        )

    def __len__(self) -> int:
        return len(self.known)


def _table(rows: list[list[bool]]) -> NDArray[np.bool_]:
    return np.array(rows, dtype=bool).reshape(-1, len(ALL_LABELS))


def measure(judged: JudgedLabels) -> dict[str, Any]:
    """Return how right the labels are, every frame weighed alike.

    Returns
    -------
    dict
        JSON-ready; None where nothing can be said.

        ``mean_average_precision``: over those of the paper's ten labels that some frames have and some have not.
        ``precision``, ``recall``: of accepted labels, over the ten together; a doubtful label is not accepted.
        ``all_right``: share of frames whose known ones of the ten are all accepted or rejected rightly.
        ``doubtful_frames``: share of frames with a doubtful label.
        ``expected_calibration_error``: over the ten together; ``..._all_labels``: over all that the model knows.
        ``labels``: of each label of which something is known ``have_it`` and ``have_it_not`` in frames; how many of
        its acceptances are ``right`` and ``wrong``, how many were ``missed``, how many frames are in ``doubt``;
        ``average_precision``, ``roc_area``, ``precision`` and ``recall``.
    """
    ten = np.array([label in LABELS for label in ALL_LABELS])
    labels = {
        label: _measure_label(judged, k) for k, label in enumerate(ALL_LABELS) if judged.known[:, k].any()
    }
    ranked = [labels[label]["average_precision"] for label in LABELS if label in labels]
    ranked = [value for value in ranked if value is not None]
    known = judged.known & ten
    hits = int((known & judged.truth & judged.accepted).sum())
    wrong = known & (judged.accepted != judged.truth)
    return {
        "frames": len(judged),
        "mean_average_precision": float(np.mean(ranked)) if ranked else None,
        "precision": _ratio(hits, int((known & judged.accepted).sum())),
        "recall": _ratio(hits, int((known & judged.truth).sum())),
        "all_right": _ratio(int((~wrong.any(axis=1)).sum()), len(judged)),
        "doubtful_frames": _ratio(int(judged.doubtful.any(axis=1).sum()), len(judged)),
        "expected_calibration_error": _calibration_error(judged, known),
        "expected_calibration_error_all_labels": _calibration_error(judged, judged.known),
        "labels": labels,
    }


def roc_area(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve, None without scores or where all frames are alike."""
    if np.isnan(scores).any() or truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, scores))


def _measure_label(judged: JudgedLabels, k: int) -> dict[str, Any]:
    known = judged.known[:, k]
    truth, accepted, scores = judged.truth[known, k], judged.accepted[known, k], judged.scores[known, k]
    ranked = roc_area(scores, truth)
    right = int((accepted & truth).sum())
    return {
        "have_it": int(truth.sum()),
        "have_it_not": int((~truth).sum()),
        "right": right,
        "wrong": int((accepted & ~truth).sum()),
        "missed": int((~accepted & truth).sum()),
        "doubt": int(judged.doubtful[known, k].sum()),
        "average_precision": None if ranked is None else float(average_precision_score(truth, scores)),
        "roc_area": ranked,
        "precision": _ratio(right, int(accepted.sum())),
        "recall": _ratio(right, int(truth.sum())),
    }


def _calibration_error(judged: JudgedLabels, known: NDArray[np.bool_]) -> float | None:
    stated = known & ~np.isnan(judged.scores)
    if not stated.any():
        return None
    return expected_calibration_error(judged.scores[stated], judged.truth[stated])


def _ratio(above: int, below: int) -> float | None:
    return above / below if below else None
