"""How well a network ranks and how honest its probabilities are, on frames it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dvfb_stream.labels import LABELS
from dvfb_stream.models.inputs import coefficient_input, image_input
from dvfb_stream.models.networks import JointNetwork
from dvfb_stream.training.dataset import Examples


@torch.inference_mode()
def predict(
    network: JointNetwork, examples: Examples, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Return the logits of each head, (N, 10), and the first joint layer's activations, (N, hidden)."""
    network.eval()
    logits: dict[str, list[torch.Tensor]] = {"image": [], "coefficient": [], "joint": []}
    hidden = []
    for start in range(0, len(examples), batch_size):
        part = slice(start, start + batch_size)
        images = image_input(examples.images[part].to(device).float(), examples.masks[part].to(device))
        coefficients = coefficient_input(examples.coefficients[part].to(device))
        outputs, activations = network.heads(images, coefficients)
        for head, values in outputs.items():
            logits[head].append(values.cpu())
        hidden.append(activations.cpu())
    return {head: torch.cat(values).double().numpy() for head, values in logits.items()}, torch.cat(
        hidden
    ).double().numpy()


def average_precision(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Return scikit-learn's average precision per label and their mean as ``mean``.

    A label with no positive frame has none and is left out, also of the mean.
    """
    values = {
        label: float(average_precision_score(truth[:, k], logits[:, k]))
        for k, label in enumerate(LABELS)
        if truth[:, k].any()
    }
    return {**values, "mean": float(np.mean(list(values.values())))}


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


def precision_table(results: Mapping[str, Mapping[str, float]], ratios: Mapping[str, float]) -> str:
    """Return average precisions, one column a head, as a Markdown table beside the share of positives."""
    lines = [
        "| label | positives | image alone | coefficients alone | joint |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label in (*LABELS, "mean"):
        ratio = f"{ratios[label]:.4f}" if label in ratios else ""
        cells = (
            f"{results[head].get(label, float('nan')):.4f}" for head in ("image", "coefficient", "joint")
        )
        lines.append(f"| {label} | {ratio} | {' | '.join(cells)} |")
    return "\n".join(lines)
