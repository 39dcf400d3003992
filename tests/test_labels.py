"""Names, order and implications of the labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.labels import (
    ALL_LABELS,
    FURTHER_IMPLICATIONS,
    FURTHER_LABELS,
    IMPLICATIONS,
    LABELS,
    TITLES,
    close_under_implication,
    settled,
)

some = st.sets(st.sampled_from(ALL_LABELS))
STYLES = ("rings_isotropic", "rings_oriented", "rings_spotted")


def test_the_further_labels_come_after_the_ten_of_the_paper():
    assert len(LABELS) == 10
    assert len(ALL_LABELS) == 18
    assert ALL_LABELS[:10] == LABELS
    assert ALL_LABELS[10:] == FURTHER_LABELS
    assert len(set(ALL_LABELS)) == 18


def test_every_label_has_a_title_of_its_own():
    assert tuple(TITLES) == ALL_LABELS
    assert len(set(TITLES.values())) == 18


def test_no_label_of_the_ten_implies_a_further_one():
    """Networks of ten outputs close their labels among the ten."""
    assert {*IMPLICATIONS, *IMPLICATIONS.values()} <= {*LABELS}
    assert {*FURTHER_IMPLICATIONS} <= {*FURTHER_LABELS}


@pytest.mark.parametrize("style", STYLES)
def test_rings_of_any_style_are_rings(style):
    assert close_under_implication([style]) == ("rings", style)


def test_labels_come_in_their_order_whatever_the_order_given():
    assert close_under_implication(reversed(ALL_LABELS)) == ALL_LABELS


def test_an_unknown_label_is_refused_by_name():
    with pytest.raises(KeyError, match="colourful"):
        close_under_implication(["rings", "colourful"])


@given(some, some)
def test_no_label_is_accepted_and_doubtful(accepted, doubtful):
    labels, in_doubt = settled(accepted, doubtful)
    assert labels == close_under_implication(accepted)
    assert set(in_doubt) == doubtful - set(labels)
    assert list(in_doubt) == sorted(in_doubt, key=ALL_LABELS.index)


def test_a_doubtful_label_that_follows_from_an_accepted_one_is_accepted():
    assert settled(["rings_spotted"], ["rings", "four_fold"]) == (("rings", "rings_spotted"), ("four_fold",))


def test_from_doubt_nothing_follows():
    assert settled([], ["symmetry_rings"]) == ((), ("symmetry_rings",))


def test_an_unknown_doubtful_label_is_refused_by_name():
    with pytest.raises(KeyError, match="colourful"):
        settled(["rings"], ["colourful"])
