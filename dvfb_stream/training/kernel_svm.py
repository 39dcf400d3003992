"""Kernel SVMs of Table 4: radial basis functions on unit ℓ∞ features, C and γ by grid search for each label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from dvfb_stream.errors import SettingsError
from dvfb_stream.models.kernel_head import unit_max


@dataclass(frozen=True, slots=True, eq=False)
class FittedLabel:
    """The SVM of one label."""

    svm: SVC
    """On precomputed kernels."""
    penalty: float
    """C."""
    gamma: float
    cross_validated: float
    """Mean average precision over folds."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelSvms:
    """One SVM a label, and the features that their kernels compare with."""

    labels: tuple[str, ...]
    fitted: tuple[FittedLabel, ...]
    features: NDArray[np.float32]
    """(N, F) unit ℓ∞ features that were fitted to."""

    def decision_function(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return decision values, (M, L), of features, (M, F), as they were before `unit_max`."""
        squared = euclidean_distances(unit_max(features), self.features, squared=True)
        return np.stack(
            [label.svm.decision_function(np.exp(-label.gamma * squared)) for label in self.fitted], axis=1
        )

    def choices(self) -> dict[str, dict[str, float]]:
        """Return C, γ and cross-validated average precision of each label, JSON-ready."""
        return {
            label: {"C": fit.penalty, "gamma": fit.gamma, "cross_validated": fit.cross_validated}
            for label, fit in zip(self.labels, self.fitted, strict=True)
        }


def fit_kernel_svms(
    features: NDArray[np.floating],
    truth: NDArray[np.bool_],
    *,
    penalties: Sequence[float],
    gammas: Sequence[float],
    labels: Sequence[str],
    folds: int = 3,
    seed: int = 0,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> KernelSvms:
    """Fit an SVM a label, C and γ by cross-validated average precision (section 5.2).

    Parameters
    ----------
    features
        (N, F), any scale.
    truth
        (N, L).
    penalties
        C to choose from.
    gammas
        γ to choose from, in units of one over the median squared distance of two frames.
    labels
        Names of the columns.
    folds
        Of the stratified cross-validation.
    seed
        Of the folds.
    processes
        Labels fitted at a time.
    report
        Told after each γ.

    Raises
    ------
    SettingsError
        When a label has fewer frames of either kind than there are folds.
    """
    for k, label in enumerate(labels):
        count = int(min(truth[:, k].sum(), (~truth[:, k]).sum()))
        if count < folds:
            raise SettingsError(
                f"only {count} frames have {label}, or have it not; {folds}-fold cross-validation needs {folds}"
            )
    scaled = unit_max(features)
    squared = euclidean_distances(scaled, squared=True)
    median = float(np.median(squared[np.triu_indices(len(squared), k=1)])) or 1.0
    splits = [
        list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(truth)), truth[:, k]))
        for k in range(len(labels))
    ]
    columns = range(len(labels))
    scores = np.zeros((len(gammas), len(penalties), len(labels)))
    # Threads: LIBSVM lets go of the interpreter, and the kernel is shared.
    with Parallel(n_jobs=processes, prefer="threads") as parallel:
        for g, gamma in enumerate(gammas):
            kernel = np.exp(-gamma / median * squared)
            tasks = [(c, k) for c in range(len(penalties)) for k in columns]
            found: list[Any] = parallel(
                delayed(_cross_validated)(kernel, truth[:, k], penalties[c], splits[k]) for c, k in tasks
            )
            for (c, k), value in zip(tasks, found, strict=True):
                scores[g, c, k] = value
            report(g + 1, len(gammas) + 1)
        best = [divmod(int(scores[:, :, k].argmax()), len(penalties)) for k in columns]

        def refit(k: int) -> FittedLabel:
            g, c = best[k]
            gamma = gammas[g] / median
            svm = SVC(kernel="precomputed", C=penalties[c]).fit(np.exp(-gamma * squared), truth[:, k])
            return FittedLabel(svm, penalties[c], gamma, float(scores[g, c, k]))

        fitted = [refit(k) for k in columns]
    report(len(gammas) + 1, len(gammas) + 1)
    return KernelSvms(tuple(labels), tuple(fitted), scaled)


def _cross_validated(
    kernel: NDArray[np.floating],
    truth: NDArray[np.bool_],
    penalty: float,
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> float:
    scores = []
    for fitted, held_out in splits:
        svm = SVC(kernel="precomputed", C=penalty).fit(kernel[np.ix_(fitted, fitted)], truth[fitted])
        values = svm.decision_function(kernel[np.ix_(held_out, fitted)])
        scores.append(average_precision_score(truth[held_out], values))
    return float(np.mean(scores))
