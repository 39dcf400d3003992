"""Judgements of a beamline's own: kernel SVMs on the features of a bundle's network (section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvfb_stream.labels import ALL_LABELS

NO_FEATURE = 1e-12


def unit_max(features: ArrayLike) -> NDArray[np.float32]:
    """Return features, (N, F), each row divided by its largest magnitude: the paper's unit ℓ∞ norm."""
    values = np.asarray(features)
    largest = np.abs(values).max(axis=1, keepdims=True)
    return np.asarray(values / np.maximum(largest, NO_FEATURE), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class KernelHeads:
    """SVMs with radial basis functions, one for each label that was adapted."""

    labels: tuple[str, ...]
    """Which labels, in any order."""
    gammas: tuple[float, ...]
    """γ of each label's kernel exp(-γ‖x - s‖²)."""
    intercepts: tuple[float, ...]
    support: NDArray[np.float32]
    """(S, F) unit ℓ∞ features of the labelled frames, shared by all labels."""
    dual: NDArray[np.float32]
    """(S, K) signed dual coefficients; 0 where a frame is no support vector of a label."""

    def in_place_of(self, logits: ArrayLike, features: ArrayLike) -> NDArray[np.float64]:
        """Return logits, (B, 10), those of the adapted labels replaced by the decisions of their heads.

        Parameters
        ----------
        logits
            Of the network, in the order of `ALL_LABELS`, or its first ten.
        features
            (B, F) activations of its first fully connected layer.
        """
        values = np.array(logits, dtype=np.float64)
        values[:, [ALL_LABELS.index(label) for label in self.labels]] = self.decision(features)
        return values

    def decision(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return decision values, (B, K), of features, (B, F), as the network gives them."""
        x, s = unit_max(features).astype(np.float64), self.support.astype(np.float64)
        squared = np.square(x).sum(1)[:, None] + np.square(s).sum(1) - 2.0 * x @ s.T
        squared = np.maximum(squared, 0.0)
        return np.stack(
            [
                np.exp(-gamma * squared) @ self.dual[:, k].astype(np.float64) + self.intercepts[k]
                for k, gamma in enumerate(self.gammas)
            ],
            axis=1,
        )
