"""One kernel SVM a label on features of labelled frames, kept where it is the better one (section 4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS
from dvfb_stream.models.bundle_description import LabelCalibration
from dvfb_stream.models.calibration import fit_label
from dvfb_stream.models.kernel_head import KernelHeads, unit_max
from dvfb_stream.training.kernel_svm import fit_kernel_svms

FEWEST = 8
"""Frames of either kind that a head is fitted to: two of each in every fold of the cross-validation."""
FOLDS = 4
INNER_FOLDS = 3
"""Of the grid search, in the frames of the other folds."""
PENALTIES = (1.0, 10.0, 100.0)
"""C to choose from."""
GAMMAS = (0.1, 0.3, 1.0, 3.0)
"""γ to choose from, over the median squared distance of two frames."""

RESAMPLES = 500
CERTAIN = 0.8
"""Share of the resamples in which a head must be the better one. In 16 adaptations to 60 to 400 frames of two
independent domains this avoided two thirds of what a mere comparison lost and gave up an eighth of what it gained;
0.95 gave up half."""

UNKNOWN = -1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelledFeatures:
    """What is known of N frames of a beamline."""

    activations: NDArray[np.float32]
    """(S, N, F) of the first fully connected layer: of the frames as they are, then of S - 1 copies of each under
    symmetries that keep its labels."""
    truth: NDArray[np.int8]
    """(N, 10): 1 has the label, 0 has not, `UNKNOWN`."""
    scores: NDArray[np.float64]
    """(N, 10) probabilities that the base model gives the frames as they are."""
    labels: tuple[str, ...] = LABELS
    """Labels to adapt."""

    def __post_init__(self) -> None:
        frames = len(self.truth)
        if self.activations.shape[1] != frames or self.scores.shape != self.truth.shape:
            raise SettingsError(
                f"features of shape {self.activations.shape}, scores of shape {self.scores.shape} and labels of "
                f"shape {self.truth.shape} do not belong to the same frames"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOutcome:
    """What became of one label."""

    label: str
    positive: int
    """Frames that have it."""
    negative: int
    """Frames that have it not."""
    base: float | None
    """Average precision of the base model on these frames; None without a positive frame."""
    adapted: float | None
    """Average precision of the new head on the same frames, each judged by a head that has seen neither it nor its
    copies; None where frames are too few to fit one."""
    certainty: float | None
    """Share of resamples of the frames in which the new head is better (bootstrap)."""
    kept: bool
    """Whether the new head is in the adapted bundle."""

    def __str__(self) -> str:
        """Say it in a line for people."""
        if self.adapted is None:
            kind, count = min(
                (("positive", self.positive), ("negative", self.negative)), key=lambda of: of[1]
            )
            frames = "frame" if count == 1 else "frames"
            return (
                f"only {count} {kind} {frames} of {self.label}; at least {FEWEST} are needed; "
                "the base model's head is kept"
            )
        if self.kept:
            verdict = "the new head is taken"
        elif self.base is not None and self.adapted > self.base:
            verdict = f"better in {self.certainty:.0%} of resamples only, the base model's head is kept"
        else:
            verdict = "not better, the base model's head is kept"
        return f"{self.label}: average precision {self.base:.3f} -> {self.adapted:.3f}; {verdict}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Adaptation:
    """Heads that are better than the base model's, and what was measured of all."""

    heads: KernelHeads | None
    """None: the base model's are nowhere worse."""
    calibrations: dict[str, LabelCalibration]
    """Of the labels of `heads`."""
    outcomes: tuple[LabelOutcome, ...]
    """Of all labels to adapt, in the order of `LABELS`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """One label's SVM and the frames and copies it was fitted to."""

    svm: SVC
    gamma: float
    rows: NDArray[np.int64]
    """Of the (S · N, F) features that it was fitted to."""


def adapt(
    labelled: LabelledFeatures,
    *,
    seed: int = 0,
    report: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Adaptation:
    """Fit a head to every label with `FEWEST` frames of either kind, and keep those that are surely better.

    A head is an SVM with radial basis functions on unit ℓ∞ features, C and γ by grid search on the frames as they
    are. It is measured by `FOLDS`-fold cross-validation, in which the copies of a frame are on the frame's own side
    and C and γ are searched anew in each fold, beside the base model on the same frames; and calibrated by the
    decision values that each frame got from the head that had not seen it.

    Parameters
    ----------
    labelled
        Features and labels.
    seed
        Of the folds.
    report
        Told the label, how many are done and how many there are.
    """
    # float32 as stored in the bundle, so that what is measured is what is used.
    features = unit_max(labelled.activations.reshape(-1, labelled.activations.shape[-1]))
    wanted = [label for label in LABELS if label in labelled.labels]
    kept: dict[str, _Head] = {}
    calibrations: dict[str, LabelCalibration] = {}
    outcomes = []
    for done, label in enumerate(wanted):
        report(label, done, len(wanted))
        column = LABELS.index(label)
        known = np.flatnonzero(labelled.truth[:, column] != UNKNOWN)
        truth = labelled.truth[known, column] == 1
        positive, negative = int(truth.sum()), int((~truth).sum())
        scores = labelled.scores[known, column]
        base = float(average_precision_score(truth, scores)) if positive else None
        adapted, certainty, better = None, None, False
        if base is not None and min(positive, negative) >= FEWEST:
            decisions = _held_out_decisions(features, len(labelled.truth), known, truth, seed)
            adapted = float(average_precision_score(truth, decisions))
            certainty = _certainty(truth, decisions, scores, seed)
            better = certainty >= CERTAIN
            if better:
                kept[label] = _fitted(features, len(labelled.truth), known, truth, seed)
                calibrations[label] = fit_label(decisions, truth)
        outcomes.append(
            LabelOutcome(
                label=label,
                positive=positive,
                negative=negative,
                base=base,
                adapted=adapted,
                certainty=certainty,
                kept=better,
            )
        )
    report("", len(wanted), len(wanted))
    return Adaptation(
        heads=_as_arrays(kept, features) if kept else None,
        calibrations=calibrations,
        outcomes=tuple(outcomes),
    )


def _held_out_decisions(
    features: NDArray[np.float32], frames: int, known: NDArray[np.int64], truth: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """Return the decision of each known frame as it is, by a head that has seen neither it nor its copies."""
    decisions = np.empty(len(known))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for seen, held_out in folds.split(known, truth):
        head = _fitted(features, frames, known[seen], truth[seen], seed)
        # Rows 0 to N - 1 are the frames as they are.
        decisions[held_out] = head.svm.decision_function(features[known[held_out]])
    return decisions


def _certainty(
    truth: NDArray[np.bool_], decisions: NDArray[np.float64], scores: NDArray[np.float64], seed: int
) -> float:
    """Return in what share of resamples of the frames, kind by kind, `decisions` rank better than `scores`."""
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    better = 0
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        better += average_precision_score(truth[drawn], decisions[drawn]) > average_precision_score(
            truth[drawn], scores[drawn]
        )
    return better / RESAMPLES


def _fitted(
    features: NDArray[np.float32], frames: int, which: NDArray[np.int64], truth: NDArray[np.bool_], seed: int
) -> _Head:
    """Choose C and γ on frames as they are, and fit to them and their copies."""
    found = fit_kernel_svms(
        features[which],
        truth[:, None],
        penalties=PENALTIES,
        gammas=GAMMAS,
        labels=("",),
        folds=INNER_FOLDS,
        seed=seed,
    ).fitted[0]
    copies = len(features) // frames
    rows = np.concatenate([which + copy * frames for copy in range(copies)])
    # C is the price of an error of one row; copies share what a frame's error costs.
    svm = SVC(C=found.penalty / copies, gamma=found.gamma).fit(features[rows], np.tile(truth, copies))
    return _Head(svm, found.gamma, rows)


def _as_arrays(kept: dict[str, _Head], features: NDArray[np.float32]) -> KernelHeads:
    """Return the heads as plain arrays that share the support vectors of all of them."""
    dual = np.zeros((len(features), len(kept)), dtype=np.float32)
    for k, head in enumerate(kept.values()):
        dual[head.rows[head.svm.support_], k] = head.svm.dual_coef_[0]
    support = np.flatnonzero(dual.any(axis=1))
    return KernelHeads(
        labels=tuple(kept),
        gammas=tuple(head.gamma for head in kept.values()),
        intercepts=tuple(float(head.svm.intercept_[0]) for head in kept.values()),
        support=features[support],
        dual=dual[support],
    )


def joined(base: KernelHeads | None, new: KernelHeads | None) -> KernelHeads | None:
    """Return the heads of both, those of `new` where both judge a label."""
    if base is None or new is None:
        return base if new is None else new
    old = [k for k, label in enumerate(base.labels) if label not in new.labels]
    if not old:
        return new
    dual = np.zeros((len(base.support) + len(new.support), len(old) + len(new.labels)), dtype=np.float32)
    dual[: len(base.support), : len(old)] = base.dual[:, old]
    dual[len(base.support) :, len(old) :] = new.dual
    return KernelHeads(
        labels=(*(base.labels[k] for k in old), *new.labels),
        gammas=(*(base.gammas[k] for k in old), *new.gammas),
        intercepts=(*(base.intercepts[k] for k in old), *new.intercepts),
        support=np.concatenate([base.support, new.support]),
        dual=dual,
    )
