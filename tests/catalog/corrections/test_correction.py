"""What counts of what people say."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.catalog.corrections.correction import (
    Correction,
    ModelRow,
    Undo,
    by_frame,
    contradiction,
    corrected_labels,
    settled,
    stated_labels,
)
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Origin
from dvfb_stream.labels import ALL_LABELS, FURTHER_IMPLICATIONS, IMPLICATIONS, close_under_implication

ROW = ModelRow(
    analysis_uid="a", model="small", model_version="1", model_sha256="0" * 64, status="ok", labels=(), doubtful=()
)  # fmt: skip
ORIGIN = Origin(run_uid="raw", stream="primary", data_key="image", index=3)


def said(
    time: float, add: str = "", remove: str = "", *, uid: str = "", by: str = "ann", call: str = ""
) -> Correction:
    uid = uid or f"{time}"
    return Correction(
        uid=uid, call=call or uid, time=time, by=by, note="", origin=ORIGIN, row=ROW,
        add=tuple(add.split()), remove=tuple(remove.split()),
    )  # fmt: skip


def undo(time: float, undoes: str, uid: str = "") -> Undo:
    return Undo(uid=uid or f"undo {time}", time=time, by="bob", note="", undoes=undoes, raw_uids=("raw",))


def test_what_people_say_wins_and_of_the_rest_what_the_model_says():
    said_ = [said(1, "four_fold", "halo")]
    assert corrected_labels(["halo", "rings"], said_) == ("rings", "four_fold")
    assert corrected_labels([], said_) == ("four_fold",)
    assert corrected_labels(["rings", "halo"], []) == ("halo", "rings")
    assert stated_labels(said_) == {"halo": False, "symmetry_halo": False, "four_fold": True}


def test_of_two_who_contradict_each_other_the_later_counts_whatever_the_order_given():
    ann, bob = said(1, "four_fold"), said(2, remove="four_fold", by="bob")
    for order in itertools.permutations((ann, bob)):
        assert corrected_labels(["four_fold"], order) == ()
    assert corrected_labels([], [ann, replace(bob, time=0.5)]) == ("four_fold",)


def test_at_the_same_time_the_uid_decides():
    a, b = said(1, "rings", uid="a"), said(1, remove="rings", uid="b")
    for order in itertools.permutations((a, b)):
        assert corrected_labels([], order) == ()
    assert corrected_labels([], [replace(a, uid="c"), b]) == ("rings",)


def test_a_confirmed_label_stays_when_a_newer_model_does_not_see_it():
    assert corrected_labels([], [said(1, "rings")]) == ("rings",)


@pytest.mark.parametrize(
    ("words", "labels", "expected"),
    [
        ([said(1, "symmetry_halo")], [], ("halo", "symmetry_halo")),
        ([said(1, remove="rings")], ["rings", "symmetry_rings", "rings_spotted"], ()),
        ([said(1, "symmetry_halo"), said(2, remove="halo")], [], ()),
        ([said(1, remove="halo"), said(2, "symmetry_halo")], [], ("halo", "symmetry_halo")),
        # Who takes back "no halo" says nothing of its symmetry: the model does.
        ([said(1, remove="halo"), said(2, "halo")], ["halo", "symmetry_halo"], ("halo", "symmetry_halo")),
        ([said(1, remove="halo"), said(2, "halo")], ["halo"], ("halo",)),
        ([said(1, "symmetry_rings"), said(2, remove="symmetry_rings")], ["rings"], ("rings",)),
        ([said(1, "symmetry_rings"), said(2, remove="symmetry_rings")], [], ()),
    ],
)  # fmt: skip
def test_what_follows_by_definition_is_said_too(words, labels, expected):
    assert corrected_labels(labels, words) == expected


labels = st.lists(st.sampled_from(ALL_LABELS), max_size=4).map(tuple)


@given(
    st.lists(labels, min_size=0, max_size=1),
    st.lists(st.tuples(st.integers(0, 3), labels, labels), max_size=6),
    st.randoms(use_true_random=False),
)
def test_labels_are_what_a_reader_of_the_rules_would_say(model, words, shuffle: random.Random):
    accepted = close_under_implication(itertools.chain(*model))
    given_ = [
        replace(said(time), uid=f"{number}", add=add, remove=tuple(set(remove) - set(add)))
        for number, (time, add, remove) in enumerate(words)
        if not contradiction(add, tuple(set(remove) - set(add)))
    ]
    # Each label by itself: its own last word, or one that implies it, whichever is later.
    last: dict[str, tuple[tuple[float, str], bool]] = {}
    for one in sorted(given_, key=lambda one: (one.time, one.uid)):
        for label in ALL_LABELS:
            if label in one.add or label in one.remove:
                last[label] = ((one.time, one.uid), label in one.add)
    expected = []
    for label in ALL_LABELS:
        words_ = [last[label]] if label in last else []
        for special, general in (IMPLICATIONS | FURTHER_IMPLICATIONS).items():
            if general == label and special in last and last[special][1]:
                words_.append(last[special])
            if special == label and general in last and not last[general][1]:
                words_.append(last[general])
        if max(words_)[1] if words_ else label in accepted:
            expected.append(label)
    shuffle.shuffle(given_)
    assert corrected_labels(accepted, given_) == tuple(expected)
    assert corrected_labels(accepted, given_) == close_under_implication(expected)


def test_what_is_undone_does_not_count_and_stays_to_be_seen():
    ann = said(1, "four_fold")
    corrections, undos = settled([ann], [undo(2, ann.uid)])
    assert [one.undone_by for one in corrections] == ["undo 2"]
    assert corrected_labels([], corrections) == ()
    assert [one.undone_by for one in undos] == [""]


def test_an_undone_undo_lets_the_correction_count_at_its_own_time():
    ann, bob = said(1, "four_fold"), said(3, remove="four_fold", by="bob")
    corrections, undos = settled([bob, ann], [undo(4, "undo 2"), undo(2, ann.uid)])
    assert [one.undone_by for one in corrections] == ["", ""]
    assert [(one.uid, one.undone_by) for one in undos] == [("undo 2", "undo 4"), ("undo 4", "")]
    assert corrected_labels([], corrections) == ()
    corrections, _ = settled([ann], [undo(2, ann.uid), undo(4, "undo 2"), undo(5, "undo 4")])
    assert corrected_labels([], corrections) == ()


def test_an_undo_counts_by_what_it_names_not_by_its_clock():
    corrections, _ = settled([said(10, "four_fold")], [undo(2, "10"), undo(1, "undo 2")])
    assert corrections[0].undone_by == ""


def test_two_undos_of_one_both_have_to_be_undone():
    corrections, _ = settled([said(1, "rings")], [undo(2, "1"), undo(3, "1"), undo(4, "undo 3")])
    assert corrections[0].undone_by == "undo 2"


def test_an_undo_of_a_call_undoes_all_that_was_made_with_it():
    together = [
        replace(said(1, "rings", uid=f"{n}", call="call"), origin=replace(ORIGIN, index=n)) for n in range(3)
    ]
    corrections, _ = settled(together, [undo(2, "call")])
    assert {one.undone_by for one in corrections} == {"undo 2"}
    corrections, _ = settled(together, [undo(2, "1")])
    assert [one.undone_by for one in corrections] == ["", "undo 2", ""]


def test_undos_that_undo_each_other_and_long_chains_end():
    ring = [undo(1, "undo 2"), undo(2, "undo 1"), undo(3, "1")]
    assert settled([said(1, "rings")], ring)[0][0].undone_by == "undo 3"
    chain = [undo(0, "1"), *(undo(n, f"undo {n - 1}") for n in range(1, 2001))]
    assert settled([said(1, "rings")], chain)[0][0].undone_by == "undo 0"


def test_corrections_of_several_frames_are_told_apart():
    other = replace(said(1, "rings"), origin=replace(ORIGIN, index=4))
    with pytest.raises(SettingsError, match="2 frames; by_frame"):
        corrected_labels([], [said(1, "rings"), other])
    assert {origin.index: len(found) for origin, found in by_frame([said(1), other, said(2)]).items()} == {
        3: 2,
        4: 1,
    }


@pytest.mark.parametrize(
    ("add", "remove", "reason"),
    [
        ("rings", "rings", "rings is both added and removed"),
        ("symmetry_halo", "halo", "symmetry_halo has halo by definition"),
        ("rings_spotted four_fold", "rings", "rings_spotted has rings by definition"),
        ("halo", "symmetry_halo", ""),
    ],
)
def test_labels_that_no_frame_has_together_are_named(add, remove, reason):
    assert reason in contradiction(add.split(), remove.split())
    assert bool(contradiction(add.split(), remove.split())) == bool(reason)
