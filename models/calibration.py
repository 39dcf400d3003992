"""From logits to probabilities that mean what they say, and to accepted labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvfb_stream.models.bundle_description import OPERATING_POINTS, LabelCalibration

__all__ = ["OPERATING_POINTS", "fit_label", "probabilities"]

PRECISION = 0.95
"""Of the second, on the frames of the calibration: simulated ones, except of an adapted label."""
LEAST_ACCEPTED = 10
"""Frames of the calibration that must be accepted for a precision to mean anything."""


def fit_label(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> LabelCalibration:
    """Fit the scaling by maximum likelihood and both thresholds, on data not trained on.

    As Platt has it, a positive frame counts as one with probability (P + 1) / (P + 2), a negative one with
    1 / (N + 2), of P and N frames: a few frames that are told apart perfectly would make the slope endless.

    Parameters
    ----------
    logits, truth
        (N,) each. A label that no frame has is accepted at no probability below 1.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines.
    """
    # Imported here: scikit-learn takes longer to import than a frame to annotate, and only fitting needs it.
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import precision_recall_curve

    positives, negatives = int(truth.sum()), int((~truth).sum())
    likely = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    regression = LogisticRegression(C=1e6).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([True, False], len(logits)),
        sample_weight=np.concatenate([likely, 1 - likely]),
    )
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if not positives:
        return LabelCalibration(slope, intercept, threshold=1.0)
    stated = expit(slope * logits + intercept)
    precision, recall, thresholds = precision_recall_curve(truth, stated)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    accepted = len(stated) - np.searchsorted(np.sort(stated), thresholds)
    best = float(thresholds[int(np.argmax(f1[:-1]))])
    # A label that is easy is precise below its best F1 already; no set is laxer than the other.
    precise = (precision[:-1] >= PRECISION) & (accepted >= LEAST_ACCEPTED) & (thresholds >= best)
    high = float(thresholds[int(np.argmax(precise))]) if precise.any() else None
    return LabelCalibration(slope, intercept, best, high)


def probabilities(logits: ArrayLike, calibrations: Sequence[LabelCalibration]) -> NDArray[np.float64]:
    """Return calibrated probabilities, (B, n_labels), of logits of that shape."""
    from scipy.special import expit

    slopes = np.array([c.slope for c in calibrations])
    intercepts = np.array([c.intercept for c in calibrations])
    scaled = np.asarray(logits, dtype=np.float64) * slopes + intercepts
    return np.asarray(expit(scaled), dtype=np.float64)
