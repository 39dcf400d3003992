"""Probabilities that mean what they say, and thresholds that do what they are for."""

import numpy as np
from scipy.special import expit

from dvfb_stream.models.calibration import fit_label, probabilities


def test_platt_scaling_recovers_the_true_probability():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=40_000) * 3
    truth = rng.random(40_000) < expit(0.5 * logits - 1)
    fitted = fit_label(logits, truth)
    stated = probabilities(logits[:, None], [fitted])[:, 0]
    assert np.abs(stated - expit(0.5 * logits - 1)).max() < 0.03


def test_the_threshold_is_the_one_of_best_f1():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=2000)
    truth = rng.random(2000) < expit(4 * logits - 2)
    fitted = fit_label(logits, truth)
    stated = probabilities(logits[:, None], [fitted])[:, 0]

    def f1(threshold):
        accepted = stated >= threshold
        return 2 * (accepted & truth).sum() / (accepted.sum() + truth.sum())

    assert f1(fitted.threshold) >= max(f1(t) for t in np.linspace(0.01, 0.99, 99))


def test_the_high_precision_threshold_is_precise_and_no_laxer():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=20_000)
    truth = rng.random(20_000) < expit(4 * logits - 2)
    fitted = fit_label(logits, truth)
    accepted = probabilities(logits[:, None], [fitted])[:, 0] >= fitted.high_precision
    assert truth[accepted].mean() >= 0.95
    assert accepted.sum() > 1000
    assert fitted.high_precision >= fitted.threshold


def test_the_high_precision_threshold_of_an_easy_label_is_that_of_best_f1():
    """With five of a hundred negatives accepted, too, it would still be precise, but laxer."""
    decisions = np.concatenate([np.linspace(1, 2, 100), np.linspace(-2, -1, 100)])
    fitted = fit_label(decisions, decisions > 0)
    assert fitted.high_precision == fitted.threshold
    assert fitted.threshold == probabilities([[1.0]], [fitted])[0, 0]


def test_a_precision_of_fewer_than_ten_frames_means_nothing():
    rng = np.random.default_rng(5)
    decisions = np.concatenate([rng.normal(size=500), [20.0] * 9])
    truth = np.concatenate([rng.random(500) < 0.3, np.ones(9, dtype=bool)])
    assert fit_label(decisions, truth).high_precision is None
    decisions, truth = np.append(decisions, 20.0), np.append(truth, True)
    assert fit_label(decisions, truth).high_precision is not None


def test_a_label_that_is_never_precise_has_no_such_threshold():
    rng = np.random.default_rng(4)
    fitted = fit_label(rng.normal(size=2000), rng.random(2000) < 0.3)
    assert fitted.high_precision is None
    assert fitted.accepted_from("high_precision") > 1
    assert fitted.accepted_from("best_f1") == fitted.threshold


def test_frames_told_apart_perfectly_do_not_make_it_certain():
    """Platt's targets: of 10 positives and 10 negatives no more than 11/12 and no less than 1/12 is claimed."""
    decisions = np.concatenate([np.full(10, 1.0), np.full(10, -1.0)])
    fitted = fit_label(decisions, decisions > 0)
    stated = probabilities(decisions[:, None], [fitted])[:, 0]
    np.testing.assert_allclose(stated[:10], 11 / 12, rtol=1e-4)
    np.testing.assert_allclose(stated[10:], 1 / 12, rtol=1e-4)


def test_a_label_that_no_frame_has_is_accepted_nowhere():
    """Its probability is that of Platt's targets, 1/(N + 2)."""
    decisions, truth = np.linspace(-1.0, 1.0, 98), np.zeros(98, dtype=bool)
    fitted = fit_label(decisions, truth)
    stated = probabilities(decisions[:, None], [fitted])[:, 0]
    np.testing.assert_allclose(stated, 1 / 100, rtol=0.02)
    assert not (stated >= fitted.accepted_from("best_f1")).any()
    assert fitted.high_precision is None
