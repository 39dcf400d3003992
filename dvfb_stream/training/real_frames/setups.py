"""Frames weighed by set-up: sister frames of one detector, one optics and one sample say little that is new."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
"""Of a bootstrap: the ends of a 95 % interval are then known to a few hundredths of its length."""
SEED = 0
"""Of the draws, so that an interval can be repeated."""
TAILS = (2.5, 97.5)
"""Percentiles: what lies between them is the 95 % interval."""


def setup_weights(setups: Sequence[str], *, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Return the weight of each frame, and that in each draw of a bootstrap over set-ups.

    Parameters
    ----------
    setups
        Set-up of each of N frames. A frame weighs one over the number of frames of its set-up.
    draws
        How often as many set-ups as there are get drawn with replacement.
    seed
        Of the draws.

    Returns
    -------
    NDArray
        (1 + draws, N): the weights, then those of each draw, in which a set-up counts as often as it was drawn.

    References
    ----------
    Efron and Tibshirani (1993), An introduction to the bootstrap; whole clusters are resampled.
    """
    names, which, counts = np.unique(np.asarray(setups, dtype=str), return_inverse=True, return_counts=True)
    plain = 1.0 / counts[which]
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    return np.vstack([plain[None], drawn[:, which] * plain])


def left_out(setups: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield each set-up with the frames of all others, to fit or choose by, and its own, to measure on.

    Yields
    ------
    tuple
        Name; (N,) boolean, the others; (N,) boolean, its own.
    """
    of = np.asarray(setups, dtype=object)
    for setup in dict.fromkeys(setups):
        own = np.asarray(of == setup, dtype=bool)
        yield setup, ~own, own


def with_interval(values: NDArray[np.float64]) -> dict[str, float | list[float] | None]:
    """Return a statistic and its 95 % interval, JSON-ready.

    Parameters
    ----------
    values
        (1 + draws,) of the rows of `setup_weights`; NaN where a draw has none, for lack of positives for example.

    Returns
    -------
    dict
        ``value``, null where there is none; ``interval``, null where not even half of the draws have one.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    enough = len(drawn) and len(drawn) >= len(values[1:]) / 2
    return {
        "value": float(values[0]) if np.isfinite(values[0]) else None,
        "interval": [float(end) for end in np.percentile(drawn, TAILS)] if enough else None,
    }


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of (K, draws) over what is known of K; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=0))
