"""Statistics of weighed frames, for many sets of weights at once: scikit-learn's take one set a call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
"""(D, N): of N frames in each of D draws."""

BINS = 15
"""Of equal width, of probability; those of `expected_calibration_error`."""


def weighted_share(outcomes: NDArray[np.bool_], weights: Weights) -> NDArray[np.float64]:
    """Return the weighed share of true outcomes (N,) in each draw, (D,); NaN where nothing weighs."""
    happened, not_happened = weights @ outcomes.astype(float), weights @ (~outcomes).astype(float)
    return ratio(happened, happened + not_happened)  # exactly 1 where nothing else happened


def average_precision(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return scikit-learn's ``average_precision_score`` with ``sample_weight`` in each draw, (D,).

    NaN where positives or negatives weigh nothing: a label that all frames have, or none, is not ranked.
    """
    positives, negatives = _by_score(scores, truth, weights)
    # From the highest score down.
    hits, misses = positives[:, ::-1], negatives[:, ::-1]
    hits_so_far, misses_so_far = hits.cumsum(axis=1), misses.cumsum(axis=1)
    precision = np.nan_to_num(ratio(hits_so_far, hits_so_far + misses_so_far))
    return np.where(misses.sum(axis=1) > 0, ratio((hits * precision).sum(axis=1), hits.sum(axis=1)), np.nan)


def roc_area(scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: Weights) -> NDArray[np.float64]:
    """Return scikit-learn's ``roc_auc_score`` with ``sample_weight`` in each draw, (D,); NaN as above."""
    positives, negatives = _by_score(scores, truth, weights)
    below = negatives.cumsum(axis=1) - negatives / 2  # ties count half
    return ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def calibration_error(
    stated: NDArray[np.float64], happened: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return the mean distance between stated probability and observed share, by bins, in each draw, (D,).

    With equal weights it is `dvfb_stream.training.evaluation.expected_calibration_error`.
    """
    which = np.minimum((stated * BINS).astype(int), BINS - 1)
    in_bin = (which[:, None] == np.arange(BINS)).astype(float)
    gaps = np.abs(weights @ (in_bin * (stated - happened)[:, None])).sum(axis=1)
    return ratio(gaps, weights.sum(axis=1))


def _by_score(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: Weights
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of positives and negatives at each different score, ascending: (D, scores) each."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    sorted_weights, has_it = weights[:, order], truth[order]
    return (
        np.add.reduceat(sorted_weights * has_it, starts, axis=1),
        np.add.reduceat(sorted_weights * ~has_it, starts, axis=1),
    )


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a ratio, NaN where nothing is below."""
    ratios: NDArray[np.float64] = np.divide(
        above, below, out=np.full(np.shape(above), np.nan), where=below > 0
    )
    return ratios
