"""A model measured on simulated frames that it has not seen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvfb_stream.models import Bundle
from dvfb_stream.models.calibration import probabilities
from dvfb_stream.training.dataset import SimulatedDataset, build
from dvfb_stream.training.evaluation import (
    average_precision,
    compare_calibrations,
    expected_calibration_error,
    predict,
)
from dvfb_stream.training.examples import Examples


def unseen_examples(
    bundle: Bundle,
    frames: int,
    *,
    seed: int,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Return simulated examples, in memory, with the coefficients that the bundle's settings give them."""
    with tempfile.TemporaryDirectory() as folder:
        return build(
            Path(folder) / "frames",
            SimulatedDataset(seed=seed, count=frames, fbt=bundle.fbt_settings),
            processes=processes,
            report=report,
        ).in_memory()


def measure_bundle(bundle: Bundle, test: Examples, *, device: str = "cpu") -> dict[str, Any]:
    """Return how well a bundle's network ranks and how honest its probabilities are, and what a diagram draws of it.

    What is measured without the network has no say here, and only those labels count whose truth the examples have.

    Besides, the usual scalings of logits are compared: fitted to the first half of the frames, measured on the other.
    """
    logits, _ = predict(bundle.network, test, device=device, precision="float32")
    truth = test.truth
    labels = bundle.description.labels[: truth.shape[1]]
    logits = {head: values[:, : len(labels)] for head, values in logits.items()}
    output = logits[bundle.network.output]
    stated = probabilities(output, bundle.calibrations[: len(labels)])
    half = len(test) // 2
    return {
        "model": str(bundle.identity),
        "test_frames": len(test),
        "positive_ratio": {label: float(truth[:, k].mean()) for k, label in enumerate(labels)},
        "average_precision": average_precision(stated, truth),
        "heads": {head: average_precision(values, truth) for head, values in logits.items()},
        "expected_calibration_error": expected_calibration_error(stated, truth),
        "expected_calibration_error_per_label": {
            label: expected_calibration_error(stated[:, k], truth[:, k]) for k, label in enumerate(labels)
        },
        "calibrations": compare_calibrations(output[:half], truth[:half], output[half:], truth[half:]),
        "probabilities": stated,
        "truth": truth,
    }
