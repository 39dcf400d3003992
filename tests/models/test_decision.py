from dataclasses import replace

import numpy as np
import pytest

from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.models.bundle_description import LabelCalibration
from dvfb_stream.models.decision import (
    LEAST_EVIDENCE,
    MEASURED_LABELS,
    Decision,
    accepted_from,
    decide,
)

DECISION = Decision(
    measured=2.0,
    network=0.5,
    offset=0.1,
    doubtful_from=0.3,
    accepted_from=0.5,
    contradiction=0.7,
    novel_from=0.99,
)
TWO, RINGS = LABELS.index("two_fold"), LABELS.index("rings")
PLACE = MEASURED_LABELS.index("two_fold")


def decided(*, own=0.5, evidence=1.0, known=True, rings=0.5, novelty=0.5, adapted=None, decision=DECISION):
    stated = np.full((1, len(ALL_LABELS)), 0.01)
    stated[0, TWO], stated[0, RINGS] = own, rings
    measured = np.zeros((1, 5))
    measured[0, PLACE] = evidence
    return decide(
        stated,
        measured,
        np.array([known]),
        np.array([novelty]),
        np.full(len(ALL_LABELS), 0.5),
        decision,
        adapted=adapted,
    )


def test_the_probability_of_a_fold_joins_measurement_and_network():
    x = 2.0 * np.log(3.0) + 0.5 * np.log(0.8 / 0.2) + 0.1
    assert decided(own=0.8, evidence=3.0).scores[0, TWO] == pytest.approx(1 / (1 + np.exp(-x)))
    x = 2.0 * np.log(LEAST_EVIDENCE) + 0.5 * np.log(0.8 / 0.2) + 0.1
    assert decided(own=0.8, evidence=0.0).scores[0, TWO] == pytest.approx(1 / (1 + np.exp(-x)))


def test_what_is_not_measured_is_the_networks():
    assert decided(rings=0.7).scores[0, RINGS] == 0.7
    unknown = decided(own=0.95, evidence=0.0, known=False)
    assert unknown.scores[0, TWO] == 0.95


def test_a_fold_that_is_measured_and_stated_is_accepted():
    found = decided(own=0.9, evidence=2.0)
    assert found.accepted[0, TWO]
    assert not found.doubtful[0, TWO]


def test_a_fold_of_which_nothing_is_known_is_doubtful_and_not_accepted():
    found = decided(own=0.95, known=False)
    assert found.doubtful[0, TWO]
    assert not found.accepted[0, TWO]


@pytest.mark.parametrize(("own", "accepted"), [(0.55, False), (0.75, True), (1.0, True)])
def test_a_fold_that_cannot_be_verified_takes_a_surer_network(own, accepted):
    found = decided(own=own, known=False, decision=replace(DECISION, unverified_from=0.7))
    assert (found.accepted[0, TWO], found.doubtful[0, TWO]) == (accepted, not accepted)
    never = decided(own=own, known=False, decision=replace(DECISION, unverified_from=1.0))
    assert (never.accepted[0, TWO], never.doubtful[0, TWO]) == (False, True)


@pytest.mark.parametrize(
    ("own", "evidence", "contradict"),
    [
        (0.05, 9.0, True),
        (0.02, 4.0, True),
        (0.94, 0.1, True),
        (0.06, 2.0, False),
        (0.9, 2.0, False),
        (0.02, 0.1, False),
    ],
)
def test_a_contradiction_is_doubtful(own, evidence, contradict):
    found = decided(own=own, evidence=evidence)
    apart = abs(own - evidence / (1 + evidence)) > DECISION.contradiction
    assert apart == contradict
    if contradict:
        assert found.doubtful[0, TWO]
        assert not found.accepted[0, TWO]
    else:
        assert found.accepted[0, TWO] == (found.scores[0, TWO] >= 0.5)


@pytest.mark.parametrize(
    ("rings", "accepted", "doubtful"), [(0.6, True, False), (0.45, False, True), (0.2, False, False)]
)
def test_between_accepted_and_rejected_is_doubtful(rings, accepted, doubtful):
    found = decided(rings=rings)
    assert (found.accepted[0, RINGS], found.doubtful[0, RINGS]) == (accepted, doubtful)


def test_a_novel_frame_has_doubtful_labels_alone():
    found = decided(rings=0.99, own=0.9, evidence=3.0, novelty=0.995)
    assert not found.accepted.any()
    quality = decided(rings=0.99, novelty=0.995)
    assert not quality.accepted[0, RINGS]
    assert found.doubtful[0, RINGS]
    assert found.doubtful[0, TWO]


@pytest.mark.parametrize(("fold", "grazing"), [(0.7, 0.9), (0.9, 0.7)])
def test_a_frame_at_grazing_incidence_has_no_fold(fold, grazing):
    """Of the two, the one that is more probable is accepted and the other is doubtful."""
    place, four = ALL_LABELS.index("grazing"), LABELS.index("four_fold")
    stated = np.full((1, len(ALL_LABELS)), 0.01)
    stated[0, four], stated[0, place], stated[0, RINGS] = fold, grazing, 0.8
    decision = replace(DECISION, unverified_from=0.6)
    found = decide(
        stated, np.zeros((1, 5)), np.array([False]), np.zeros(1), np.full(len(ALL_LABELS), 0.5), decision
    )
    assert found.accepted[0, place] == found.doubtful[0, four] == (grazing > fold)
    assert found.accepted[0, four] == found.doubtful[0, place] == (fold > grazing)
    assert found.accepted[0, RINGS]


def test_an_empty_frame_shows_nothing():
    """Of an empty frame and a ring on it, the one that is more probable is accepted and the other is doubtful."""
    empty, oriented, textured = (
        ALL_LABELS.index(name) for name in ("empty", "rings_oriented", "symmetry_rings")
    )
    for rings, is_empty in ((0.6, 0.9), (0.9, 0.6)):
        stated = np.full((1, len(ALL_LABELS)), 0.01)
        stated[0, RINGS], stated[0, empty] = rings, is_empty
        found = decide(
            stated, np.zeros((1, 5)), np.ones(1, bool), np.zeros(1), np.full(len(ALL_LABELS), 0.5), DECISION
        )
        assert found.accepted[0, empty] == (is_empty > rings)
        assert found.accepted[0, RINGS] == (rings > is_empty)
        assert found.doubtful[0, RINGS] != found.accepted[0, RINGS]
        assert found.scores[0, oriented] == found.scores[0, textured]


def test_an_adapted_label_is_decided_by_its_own_head():
    adapted = np.array([label == "two_fold" for label in ALL_LABELS])
    found = decided(own=0.55, evidence=0.0, adapted=adapted)
    assert found.scores[0, TWO] == 0.55
    assert found.accepted[0, TWO]


def test_no_label_is_both_and_joining_keeps_order():
    rng = np.random.default_rng(0)
    stated, evidence = rng.random((200, len(ALL_LABELS))), rng.exponential(1.0, (200, 5))
    known, novelty = rng.random(200) < 0.8, rng.random(200)
    found = decide(stated, evidence, known, novelty, rng.random(len(ALL_LABELS)), DECISION)
    assert not (found.accepted & found.doubtful).any()
    oriented, textured = ALL_LABELS.index("rings_oriented"), ALL_LABELS.index("symmetry_rings")
    for given in (found.accepted, found.doubtful):
        np.testing.assert_array_equal(given[:, oriented], given[:, textured])
    more = decide(stated, evidence * 2, known, novelty, np.zeros(len(ALL_LABELS)), DECISION).scores
    assert (more >= found.scores - 1e-12).all()


def test_a_decision_is_read_as_it_was_written():
    assert Decision.from_dict(DECISION.as_dict()) == DECISION
    earlier = {name: value for name, value in DECISION.as_dict().items() if name != "unverified_from"}
    assert Decision.from_dict(earlier) == DECISION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measured": None}, "measured must be a number"),
        ({"measured": float("nan")}, "measured must be a number"),
        ({"other": 1.0}, "a decision has"),
        ({"accepted_from": 7.0}, "accepted_from must lie from 0 to 1"),
        ({"measured": -1.0}, "measured must lie from 0 to 100"),
    ],
)
def test_a_wrong_decision_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Decision.from_dict({**DECISION.as_dict(), **change})


@pytest.mark.parametrize(
    ("point", "decision", "expected"),
    [
        ("best_f1", None, 0.7),
        ("best_f1", DECISION, 0.5),
        ("high_precision", None, 0.4),
        ("high_precision", DECISION, 0.5),
    ],
)
def test_a_decision_accepts_what_is_more_likely_than_not(point, decision, expected):
    assert accepted_from(LabelCalibration(1.0, 0.0, 0.7, 0.4), point, decision) == expected


def test_a_label_that_is_never_precise_is_never_accepted_then():
    never = LabelCalibration(1.0, 0.0, 0.7, None)
    assert accepted_from(never, "high_precision", DECISION) == np.inf
