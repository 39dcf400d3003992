"""Labels of real frames are measured as scikit-learn does with sample weights, and as one counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS
from dvfb_stream.training.evaluation import expected_calibration_error
from dvfb_stream.training.real_frames.judged_frames import JudgedFrames, judged_frames, measure
from dvfb_stream.training.real_frames.setups import left_out, setup_weights, with_interval
from dvfb_stream.training.real_frames.weighted_scores import (
    average_precision,
    calibration_error,
    roc_area,
    weighted_share,
)


@st.composite
def ranked_frames(draw):
    """Scores of which many are equal, truth with both outcomes, weights above 0."""
    count = draw(st.integers(2, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = rng.random(count) < 0.5
    truth[:2] = True, False
    return rng.integers(0, draw(st.integers(1, 20)) + 1, count) / 20, truth, rng.random((3, count)) + 0.01


@settings(deadline=None)
@given(ranked_frames())
def test_rankings_are_scikit_learns_with_sample_weights(frames):
    scores, truth, weights = frames
    for ours, theirs in ((average_precision, average_precision_score), (roc_area, roc_auc_score)):
        expected = [theirs(truth, scores, sample_weight=row) for row in weights]
        np.testing.assert_allclose(ours(scores, truth, weights), expected, atol=1e-12)


@settings(deadline=None)
@given(ranked_frames())
def test_frames_that_weigh_nothing_count_as_if_they_were_not_there(frames):
    scores, truth, weights = frames
    weights[:, 2::3] = 0
    kept = weights[0] > 0
    for statistic in (average_precision, roc_area, calibration_error):
        np.testing.assert_allclose(
            statistic(scores, truth, weights),
            statistic(scores[kept], truth[kept], weights[:, kept]),
            atol=1e-12,
        )


def test_a_label_that_all_frames_or_none_have_is_not_ranked():
    scores, weights = np.array([0.2, 0.7]), np.ones((1, 2))
    for truth in (np.array([True, True]), np.array([False, False])):
        assert np.isnan(average_precision(scores, truth, weights)).all()
        assert np.isnan(roc_area(scores, truth, weights)).all()


@settings(deadline=None)
@given(ranked_frames())
def test_calibration_with_equal_weights_is_that_of_simulated_frames(frames):
    scores, truth, _ = frames
    expected = expected_calibration_error(scores[:, None], truth[:, None])
    assert calibration_error(scores, truth, np.full((1, len(scores)), 0.3))[0] == pytest.approx(expected)


def test_a_frame_weighs_one_over_the_frames_of_its_setup_and_setups_are_drawn_whole():
    weights = setup_weights(["a", "b", "a", "a"], draws=400, seed=3)
    np.testing.assert_allclose(weights[0], [1 / 3, 1, 1 / 3, 1 / 3])
    of_a, of_b = weights[1:, [0, 2, 3]].sum(axis=1), weights[1:, 1]
    # Two set-ups are drawn: twice a, one of each, or twice b, with odds 1 : 2 : 1.
    np.testing.assert_allclose(of_a + of_b, 2)
    assert {*of_b} == {0.0, 1.0, 2.0}
    assert (of_b == 1).mean() == pytest.approx(0.5, abs=0.1)  # four standard deviations
    np.testing.assert_array_equal(weights, setup_weights(["a", "b", "a", "a"], draws=400, seed=3))


def test_an_interval_holds_95_percent_of_the_draws_and_needs_half_of_them():
    values = np.r_[0.5, np.linspace(0, 1, 1001)]
    assert with_interval(values) == {"value": 0.5, "interval": pytest.approx([0.025, 0.975])}
    values[1:502] = np.nan
    assert with_interval(values)["interval"] is None
    assert with_interval(np.array([np.nan, np.nan]))["value"] is None


RINGS, TWO_FOLD = LABELS.index("rings"), LABELS.index("two_fold")


@pytest.fixture
def judged():
    """Four frames, three of one set-up, of which `rings` and `two_fold` are known."""
    shape = (4, len(LABELS))
    known, truth, accepted = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    scores = np.full(shape, 0.5)
    known[:, RINGS], known[1:, TWO_FOLD] = True, True
    truth[:, RINGS], truth[:, TWO_FOLD] = [1, 1, 0, 0], [1, 1, 0, 0]
    accepted[:, RINGS], accepted[:, TWO_FOLD] = [1, 0, 1, 0], [0, 1, 0, 0]
    scores[:, RINGS], scores[:, TWO_FOLD] = [0.9, 0.3, 0.8, 0.1], [0.0, 0.6, 0.7, 0.2]
    accepted[:, 0] = True  # of a label that is not known: neither right nor wrong
    return JudgedFrames(
        setups=("a", "a", "a", "b"),
        known=known,
        truth=truth,
        scores=scores,
        accepted=accepted,
        warnings={"novelty": np.array([0.1, 0.9, 0.5, 0.2])},
    )


def test_labels_are_measured_as_counted_by_hand(judged):
    found = measure(judged, draws=50)
    # Right are frame 0 (rings alone is known of it) and frame 3: (1/3 + 1) of 2.
    assert found["all_right"]["value"] == pytest.approx(2 / 3)
    assert found["setups"] == {
        "a": {
            "frames": 3,
            "all_right": pytest.approx(1 / 3),
            "all_right_decided": pytest.approx(1 / 3),
            "coverage": 1,
            "right": 2,
            "wrong": 1,
            "missed": 1,
        },
        "b": {
            "frames": 1,
            "all_right": 1,
            "all_right_decided": 1,
            "coverage": 1,
            "right": 0,
            "wrong": 0,
            "missed": 0,
        },
    }
    # Accepted where known: rings of 0 and 2, two_fold of 1, of which 0 and 1 are right; missed: rings of 1.
    assert found["precision"]["value"] == pytest.approx(2 / 3)
    assert found["recall"]["value"] == pytest.approx(2 / 3)
    rings, two_fold = found["labels"]["rings"], found["labels"]["two_fold"]
    assert [rings[name] for name in ("have_it", "have_it_not", "right", "wrong", "missed")] == [2, 2, 1, 1, 1]
    assert [two_fold[name] for name in ("have_it", "have_it_not", "right", "wrong", "missed")] == [
        1,
        2,
        1,
        0,
        0,
    ]
    # rings, by score: 0 (has it), 2 (not), 1 (has it), 3 (not, weight 1): precision 1 and 2/3 at the two.
    assert rings["average_precision"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    # Pairs of weight 1/9 with frame 2 (one of two in order), of weight 1/3 with frame 3 (both in order).
    assert rings["roc_area"]["value"] == pytest.approx((1 / 9 + 2 / 3) / (2 / 9 + 2 / 3))
    # two_fold: frame 2 ranks above frame 1, which alone has it.
    assert two_fold["average_precision"]["value"] == pytest.approx(1 / 2)
    assert found["mean_average_precision"]["value"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    weights = np.array([1, 1, 1, 3, 1, 1, 3]) / 3
    stated, truth = np.array([0.9, 0.3, 0.8, 0.1, 0.6, 0.7, 0.2]), np.array([1, 1, 0, 0, 1, 0, 0])
    error = weights @ np.abs(stated - truth) / weights.sum()  # each in a bin of its own
    assert found["expected_calibration_error"]["value"] == pytest.approx(error)
    finds = found["finds_wrong_frames"]["novelty"]
    # Not as they should be: frames 1 and 2, more novel than 0 and 3. A wrong accepted label: frame 2 alone.
    assert finds["against_any"]["value"] == 1
    assert finds["against_accepted"]["value"] == pytest.approx((1 / 3 + 1) / (1 / 3 + 1 / 3 + 1))


def test_doubtful_labels_are_neither_accepted_nor_decided(judged):
    doubtful = np.zeros_like(judged.known)
    doubtful[1, RINGS] = True  # has it; missed
    doubtful[3, TWO_FOLD] = True  # has it not; rightly not accepted
    doubtful[3, 0] = True  # nobody knows
    judged.accepted[3, 0] = False
    found = measure(replace(judged, doubtful=doubtful), draws=20)
    before = measure(judged, draws=20)
    for name in ("all_right", "precision", "recall", "mean_average_precision"):
        assert found[name] == before[name]
    # Of known labels a has 5 and b 2, at 1/3 and 1 each; one of each set-up is doubtful.
    assert found["coverage"]["value"] == pytest.approx((4 / 3 + 1) / (5 / 3 + 2))
    # Frame 1 is right as far as it is decided, beside 0 and 3; frame 2 is not.
    assert found["all_right_decided"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    assert [found["labels"][name]["doubtful"] for name in ("rings", "two_fold", "halo")] == [1, 1, 0]
    assert found["labels"]["rings"]["missed"] == 1
    assert found["setups"]["b"]["coverage"] == 1 / 2
    assert (before["coverage"]["value"], before["all_right_decided"]) == (1, before["all_right"])


def test_a_label_cannot_be_accepted_and_doubtful(judged):
    doubtful = np.zeros_like(judged.known)
    doubtful[2, RINGS] = True
    with pytest.raises(SettingsError, match="rings of frame 2 is both accepted and doubtful"):
        replace(judged, doubtful=doubtful)
    with pytest.raises(SettingsError, match=r"scores has shape \(4, 9\), not .* = \(4, 10\)"):
        replace(judged, scores=judged.scores[:, 1:])


def entry(setup, truth, labels=(), doubtful=(), novelty=0.5, **scores):
    return {
        "setup": setup,
        "truth": truth,
        "scores": {**dict.fromkeys(LABELS, 0.25), **scores},
        "labels": list(labels),
        "doubtful": list(doubtful),
        "novelty": novelty,
        "fit_residual": 0.1,
    }


def test_results_are_taken_back_as_arrays():
    entries = [
        entry("a", {"rings": True, "grazing": True}, ["rings"], ["halo"], grazing=0.75, weak=0.5),
        entry("b", {"rings": False, "grazing": False}, [], [], None, grazing=0.0, weak=0.5),
        entry("b", {"two_fold": False}, ["two_fold"], ["halo", "rings"], 0.75, grazing=0.5, weak=0.5),
    ]
    frames = judged_frames(entries)
    assert frames.setups == ("a", "b", "b")
    assert frames.labels == (*LABELS, "grazing")  # of `weak` nothing is known
    np.testing.assert_array_equal(frames.known[:, RINGS], [True, True, False])
    np.testing.assert_array_equal(frames.truth[:, RINGS], [True, False, False])
    np.testing.assert_array_equal(frames.accepted.sum(axis=1), [1, 0, 1])
    np.testing.assert_array_equal(frames.scores[:, -1], [0.75, 0.0, 0.5])
    np.testing.assert_array_equal(frames.grazing, [True, False, False])
    # Novelty 0.5 and a tenth doubtful; novelty that is not known is the greatest; 0.75 and two tenths.
    np.testing.assert_array_equal(frames.warnings["doubtful_or_novel"], [0.5, 1.0, 0.75])
    found = measure(frames, draws=0)
    assert found["labels"]["grazing"]["roc_area"] == {"value": 1.0, "interval": None}
    assert found["finds_wrong_frames"]["doubtful_or_novel"]["against_accepted"]["value"] == pytest.approx(
        2 / 3
    )
    # A model of ten labels: nothing is measured of grazing, but folds of grazing frames are.
    for one in entries:
        del one["scores"]["grazing"], one["doubtful"]
    assert judged_frames(entries).labels == LABELS


def test_folds_that_grazing_frames_are_given_are_told():
    truth = {"grazing": True, "two_fold": False, "four_fold": False}
    entries = [
        entry("a", truth, ["two_fold"]),
        entry("a", truth, []),
        entry("b", truth, []),
        entry("b", {"grazing": True}, ["two_fold", "four_fold"]),  # it is not known whether it has them
        entry("b", {"grazing": False, "two_fold": False}, ["two_fold"]),
        entry("c", {"two_fold": False}, ["two_fold"]),
    ]
    found = measure(judged_frames(entries), draws=0)["grazing_frames"]
    # Weights 1/2 of a, 1/3 of b.
    assert found["frames"] == 4
    assert found["two_fold"]["value"] == pytest.approx((1 / 2) / (1 / 2 + 1 / 2 + 1 / 3))
    assert found["four_fold"]["value"] == 0


def test_setups_are_left_out_one_by_one():
    found = [(name, others.tolist(), own.tolist()) for name, others, own in left_out(["b", "a", "b"])]
    assert found == [
        ("b", [False, True, False], [True, False, True]),
        ("a", [True, False, True], [False, True, False]),
    ]


def test_some_of_the_frames_are_measured_alone(judged):
    (_, others, own), _ = left_out(judged.setups)
    assert measure(judged.of(own), draws=0)["setups"] == {"a": measure(judged, draws=0)["setups"]["a"]}
    assert measure(judged.of(others), draws=0)["all_right"]["value"] == 1
    np.testing.assert_array_equal(judged.of(np.array([3, 0])).warnings["novelty"], [0.2, 0.1])


def test_what_is_not_known_changes_nothing(judged):
    before = measure(judged, draws=20)
    judged.scores[:, 0], judged.truth[:, 0], judged.accepted[0, TWO_FOLD] = 0.99, True, True
    assert measure(judged, draws=20) == before


def test_intervals_are_over_setups(judged):
    found = measure(judged, draws=400)
    # Drawn alone, set-up a has a third of its frames right, b all.
    assert found["all_right"]["interval"] == pytest.approx([1 / 3, 1])
    # b alone has no frame with rings, and a alone is drawn in a quarter of the draws: rings are ranked in 3 of 4.
    assert found["labels"]["rings"]["roc_area"]["interval"] is not None


def test_shares_of_no_weight_are_unknown():
    assert np.isnan(weighted_share(np.array([True]), np.zeros((1, 1)))).all()
