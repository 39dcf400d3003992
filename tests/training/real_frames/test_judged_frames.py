"""Labels of real frames are measured as scikit-learn does with sample weights, and as one counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dvfb_stream.labels import LABELS
from dvfb_stream.training.evaluation import expected_calibration_error
from dvfb_stream.training.real_frames.judged_frames import JudgedFrames, measure
from dvfb_stream.training.real_frames.setups import setup_weights, with_interval
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
        "a": {"frames": 3, "all_right": pytest.approx(1 / 3)},
        "b": {"frames": 1, "all_right": 1},
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
