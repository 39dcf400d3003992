"""How well a network ranks and how honest its probabilities are, on frames it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dvfb_stream.fbt.device import find_precision, in_precision
from dvfb_stream.labels import LABELS
from dvfb_stream.models.networks import AnnotationNetwork
from dvfb_stream.training.examples import Examples


@torch.inference_mode()
def predict(
    network: AnnotationNetwork,
    examples: Examples,
    *,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    precision: str = "auto",
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float32]]:
    """Return the logits of each head, (N, 10), and the activations of the first fully connected layer, (N, hidden).

    Parameters
    ----------
    network
        Left in evaluation mode, on `device`.
    examples
        N frames.
    batch_size
        Frames at a time.
    device
        Where to compute.
    precision
        Of the network's products, as `find_precision` names it.

    Raises
    ------
    SettingsError
        When there is no such precision.
    """
    precision = find_precision(precision, device)
    network.to(device).eval()
    logits: dict[str, list[torch.Tensor]] = {}
    hidden = []
    for batch in examples.batches(batch_size, device):
        inputs = network.prepare(batch.images, batch.masks, batch.coefficients)
        with in_precision(precision, device):
            outputs, activations = network.all_logits(inputs)
        for head, values in outputs.items():
            logits.setdefault(head, []).append(values.float().cpu())
        hidden.append(activations.float().cpu())
    return (
        {head: torch.cat(values).double().numpy() for head, values in logits.items()},
        torch.cat(hidden).numpy(),
    )


def average_precision(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], labels: Sequence[str] = LABELS
) -> dict[str, float]:
    """Return scikit-learn's average precision per label and their mean as ``mean``.

    A label with no positive frame has none and is left out, also of the mean.

    Parameters
    ----------
    scores, truth
        (N, L).
    labels
        Of the columns.
    """
    values = {
        label: float(average_precision_score(truth[:, k], scores[:, k]))
        for k, label in enumerate(labels)
        if truth[:, k].any()
    }
    return {**values, "mean": float(np.mean(list(values.values()))) if values else float("nan")}


def mean_average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the mean over labels of `average_precision`."""
    return average_precision(scores, truth)["mean"]


def expected_calibration_error(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], *, bins: int = 15
) -> float:
    """Return the mean distance between stated probability and observed share, weighted by bin population.

    Over all labels together, equal-width bins of probability (Guo et al. 2017).
    """
    stated, happened = probabilities.ravel(), truth.ravel()
    which = np.minimum((stated * bins).astype(int), bins - 1)
    populations = np.bincount(which, minlength=bins)
    gaps = np.abs(
        np.bincount(which, weights=stated, minlength=bins)
        - np.bincount(which, weights=happened, minlength=bins)
    )
    return float(gaps.sum() / populations.sum())
