"""Scalings compared: each wins where its assumption is the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from dvfb_stream.labels import LABELS
from dvfb_stream.training.evaluation import SCALINGS, compare_calibrations


def drawn(truth_of, seed, count=6000):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, len(LABELS))) * 2
    return logits, rng.random(logits.shape) < truth_of(logits)


@pytest.mark.parametrize(
    ("truth_of", "honest", "dishonest"),
    [
        (expit, ("uncalibrated", "temperature", "platt", "isotonic"), ()),
        (lambda x: expit(x / 4), ("temperature", "platt", "isotonic"), ("uncalibrated",)),
        (lambda x: expit(x - 2), ("platt", "isotonic"), ("uncalibrated", "temperature")),
        # No logistic curve: two steps.
        (
            lambda x: np.where(x < 0, 0.3, np.where(x < 2, 0.35, 0.95)),
            ("isotonic",),
            ("uncalibrated", "temperature", "platt"),
        ),
    ],
)
def test_a_scaling_is_honest_where_its_assumption_holds(truth_of, honest, dishonest):
    compared = compare_calibrations(*drawn(truth_of, 0), *drawn(truth_of, 1))
    for name in honest:
        assert compared[name]["expected_calibration_error"] < 0.018, name
    for name in dishonest:
        assert compared[name]["expected_calibration_error"] > 0.025, name


def test_the_comparison_is_json_ready_and_complete():
    compared = json.loads(json.dumps(compare_calibrations(*drawn(expit, 0), *drawn(expit, 1))))
    assert list(compared) == list(SCALINGS)
    for measured in compared.values():
        assert list(measured["labels"]) == list(LABELS)
        assert 0 < measured["brier_score"] < 0.25
