"""How well a network ranks and how honest its probabilities are, on frames it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score

from dvfb_stream.fbt.device import find_precision, in_precision
from dvfb_stream.labels import LABELS
from dvfb_stream.models.calibration import fit_label
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
        inputs = network.prepare(batch.images, batch.masks, batch.coefficients, batch.rings)
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


Logits = NDArray[np.float64]
Truth = NDArray[np.bool_]

HOTTEST = 1e2
"""Bounds on the temperature, and one over it; logits that need more are no logits."""


def compare_calibrations(
    logits: Logits, truth: Truth, held_out_logits: Logits, held_out_truth: Truth
) -> dict[str, dict[str, Any]]:
    """Fit each scaling to some frames and measure it on others.

    Parameters
    ----------
    logits, truth
        (N, 10) of frames to fit to.
    held_out_logits, held_out_truth
        (M, 10) of frames to measure on.

    Returns
    -------
    dict
        By scaling: ``uncalibrated`` (the logistic function alone), ``temperature`` (one number for all labels),
        ``platt`` (slope and intercept a label; what bundles hold), ``isotonic`` (a monotonic step function a label).
        Each says ``expected_calibration_error`` over all labels together and in ``labels`` of each, and
        ``brier_score``, the mean squared distance between probability and truth. JSON-ready.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks; Platt (1999); Zadrozny and Elkan (2002).
    """
    return {
        name: _measured(scale(logits, truth, held_out_logits), held_out_truth)
        for name, scale in SCALINGS.items()
    }


def _measured(stated: NDArray[np.float64], truth: Truth) -> dict[str, Any]:
    return {
        "expected_calibration_error": expected_calibration_error(stated, truth),
        "labels": {
            label: expected_calibration_error(stated[:, k], truth[:, k]) for k, label in enumerate(LABELS)
        },
        "brier_score": float(np.square(stated - truth).mean()),
    }


def _uncalibrated(logits: Logits, truth: Truth, held_out: Logits) -> NDArray[np.float64]:
    return np.asarray(expit(held_out))


def _temperature(logits: Logits, truth: Truth, held_out: Logits) -> NDArray[np.float64]:
    signed = np.where(truth, logits, -logits)

    def cost(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed * np.exp(-log_temperature)).mean())

    bound = float(np.log(HOTTEST))
    found = minimize_scalar(cost, bounds=(-bound, bound), method="bounded")
    return np.asarray(expit(held_out * np.exp(-found.x)))


def _platt(logits: Logits, truth: Truth, held_out: Logits) -> NDArray[np.float64]:
    fitted = [fit_label(logits[:, k], truth[:, k]) for k in range(logits.shape[1])]
    return np.stack([expit(c.slope * held_out[:, k] + c.intercept) for k, c in enumerate(fitted)], axis=1)


def _isotonic(logits: Logits, truth: Truth, held_out: Logits) -> NDArray[np.float64]:
    steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    columns = range(logits.shape[1])
    return np.stack(
        [steps.fit(logits[:, k], truth[:, k].astype(float)).predict(held_out[:, k]) for k in columns], axis=1
    )


SCALINGS: dict[str, Callable[[Logits, Truth, Logits], NDArray[np.float64]]] = {
    "uncalibrated": _uncalibrated,
    "temperature": _temperature,
    "platt": _platt,
    "isotonic": _isotonic,
}
"""Probabilities of held-out logits, (M, 10), by a scaling fitted to others."""
