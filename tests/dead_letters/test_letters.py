"""A dead letter comes back as it was, in whatever it is kept; what is no letter is refused, and room is bounded."""

import json
import os

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from dvfb_stream.dead_letters.folder import LetterFolder, NoRoomError, folder_of_group
from dvfb_stream.dead_letters.letter import (
    Content,
    DeadLetter,
    Kind,
    LetterError,
    letter_of,
)
from dvfb_stream.texts import MOST_CHARACTERS, MOST_OF_A_NAME


def letter(offset=7, **fields):
    given_fields = {
        "kind": Kind.UNDECODABLE, "reason": "not msgpack", "time": 1.5, "value": b"\xc1\0", "topic": "smi.documents",
        "partition": 2, "offset": offset, "key": b"\xff", "run": "raw-1",
    }  # fmt: skip
    return DeadLetter(**given_fields | fields)


texts = st.text(st.characters(), max_size=30)  # surrogates included
letters = st.builds(
    DeadLetter,
    kind=st.sampled_from(Kind), reason=texts, time=st.floats(0, 1e10), content=st.sampled_from(Content),
    value=st.binary(max_size=30), topic=texts, partition=st.integers(-1, 2**31), offset=st.integers(-1, 2**63),
    key=st.none() | st.binary(max_size=30), run=texts, about=texts,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(letter=letters)
def test_a_letter_comes_back_from_its_facts_and_bytes(letter):
    facts = letter.facts()
    assert letter_of(facts.encode(), letter.value) == letter
    assert len(facts.splitlines()) == 1


@settings(deadline=None, max_examples=60)
@given(facts=st.binary(max_size=60) | st.recursive(
    st.none() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(sorted(json.loads(letter().facts()))), inner, max_size=9),
).map(lambda content: json.dumps(content).encode()))  # fmt: skip
def test_what_is_no_letter_is_refused_and_nothing_else_is_raised(facts):
    with pytest.raises(LetterError):
        letter_of(facts, b"")


def test_facts_of_endless_length_or_depth_are_refused():
    for facts in (b"[" * 100_000, b" " * 100_000 + letter().facts().encode(), b"[" * 60_000):
        with pytest.raises(LetterError):
            letter_of(facts, b"")


def test_texts_of_a_letter_are_printable_and_bounded():
    told = letter(reason="\x1b[2J\0\ud800\n" + "x" * 10**6, run="y" * 10**6, about="\u2028")
    assert len(told.reason) == MOST_CHARACTERS
    assert told.reason.startswith("\ufffd[2J\ufffd\ufffd xxx")
    assert len(told.run) == MOST_OF_A_NAME
    assert told.about == " "
    assert len(told.facts()) < 10_000


def test_the_same_origin_has_the_same_id_whenever_it_is_read():
    assert letter().id == letter(reason="another", time=2.0, kind=Kind.KILLER).id
    ids = {
        letter().id,
        letter(8).id,
        letter(partition=3).id,
        letter(topic="").id,
        letter(topic="", run="b").id,
    }
    assert len(ids) == 5


def test_a_folder_keeps_what_it_was_given_once_and_for_this_user_alone(tmp_path):
    folder = LetterFolder(tmp_path / "a" / "b", max_bytes=1 << 20)
    assert list(folder.letters()) == []
    first, second = letter(1, time=2.0), letter(2, time=1.0)
    for each in (first, second, letter(1, reason="read again")):
        folder.put(each)
    assert [each.offset for each in folder.letters()] == [2, 1]
    assert folder.get(first.id) == first
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.remove(first.id)
    folder.remove(first.id)
    assert [each.id for each in folder.letters()] == [second.id]


def test_what_is_asked_for_by_a_path_is_refused(tmp_path):
    (tmp_path / "secret.letter").write_bytes(letter().facts().encode() + b"\n")
    folder = LetterFolder(tmp_path / "letters", max_bytes=1 << 20)
    for wanted in ("../secret", "", "x" * 12, "A" * 12):
        with pytest.raises(LetterError):
            folder.get(wanted)
    with pytest.raises(LetterError, match="there is no dead letter"):
        folder.get("0" * 12)


def test_a_damaged_file_is_passed_over(tmp_path):
    folder = LetterFolder(tmp_path, max_bytes=1 << 20)
    folder.put(letter())
    (tmp_path / f"{'0' * 12}.letter").write_bytes(os.urandom(100))
    assert [each.id for each in folder.letters()] == [letter().id]


def test_a_flood_of_messages_leaves_room_for_what_ended_the_process(tmp_path):
    folder = LetterFolder(tmp_path, max_bytes=10 * 4096)
    for offset in range(7):
        folder.put(letter(offset))
    with pytest.raises(NoRoomError, match="beyond"):
        folder.put(letter(7))
    for offset in range(10, 13):
        folder.put(letter(offset, kind=Kind.KILLER))
    with pytest.raises(NoRoomError):
        folder.put(letter(13, kind=Kind.REFUSED))
    assert len(list(folder.letters())) == 10
    folder.put(letter(3))  # it is there


def test_a_letter_larger_than_the_folder_is_refused(tmp_path):
    with pytest.raises(NoRoomError):
        LetterFolder(tmp_path, max_bytes=1 << 16).put(letter(value=bytes(1 << 16)))


def test_a_folder_that_cannot_be_made_takes_no_letter(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoomError, match="takes no dead letter"):
        LetterFolder(tmp_path / "file" / "folder", max_bytes=1 << 20).put(letter())


def test_a_group_has_a_folder_of_its_own_whatever_it_is_called(monkeypatch, tmp_path):
    monkeypatch.setenv("DVFB_SPOOL", str(tmp_path))
    of = folder_of_group
    assert of("dvfb", ["b:1", "a:1"]) == of("dvfb", ["a:1", "b:1"])
    assert of("dvfb", ["a:1"]) != of("dvfb", ["b:1"])
    assert of("../../etc", ["a:1"]).parent == of("\0" * 300, ["a:1"]).parent == tmp_path / "dead-letters"
