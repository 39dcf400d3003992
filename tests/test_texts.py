"""Text from elsewhere becomes short and printable, and stays what it is where it is so already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.texts import MOST_CHARACTERS, MOST_OF_A_NAME, REPLACEMENT, name_of, printable

# Named characters: of all of Unicode a table is built first, which takes seconds on a fresh machine.
texts = st.text(alphabet="ab /é漢😀\0\n\t\x1b\ud800\u202e\u2028", max_size=80)


@given(texts, st.integers(1, 60))
def test_what_is_returned_is_short_and_printable_and_can_be_stored(text, most):
    found = printable(text, most)
    assert len(found) <= most
    assert found.isprintable()
    found.encode()
    assert printable(found, most) == found


@pytest.mark.parametrize("text", ["", "a file is not there", "漢字 and 😀", "x" * MOST_CHARACTERS])
def test_what_is_short_and_printable_stays(text):
    assert printable(text) == text


def test_beginning_and_end_are_left_of_what_is_long():
    found = printable(f"/data/{'x' * 10**6}.h5 is not there")
    assert len(found) == MOST_CHARACTERS
    assert found.startswith("/data/xxx")
    assert found.endswith("xxx.h5 is not there")
    assert "(1000022 characters)" in found


def test_white_space_becomes_blanks_and_what_cannot_be_printed_is_marked():
    assert printable("a\nb\tc\0d\ud800e\x1b[31m") == f"a b c{REPLACEMENT}d{REPLACEMENT}e{REPLACEMENT}[31m"


def test_names_that_differ_still_do():
    long = "x" * 10**6
    names = ["image", "a\0b", "a\x01b", long, long + "y"]
    found = [name_of(name) for name in names]
    assert found[0] == "image"
    assert len(set(found)) == len(names)
    assert all(name.isprintable() and len(name) <= MOST_OF_A_NAME for name in found)


def test_reason_and_remark_of_an_annotation_are_bounded_when_it_is_made():
    """Ten thousand rows may wait for a sink: where rows are written is too late."""
    model = ModelIdentity(name="m", version="1", sha256="0" * 64)
    annotation = Annotation(status="failed", model=model, reason="x" * 10**6 + "\0", remark="y\ud800" * 10**6)
    assert len(annotation.reason) == len(annotation.remark) == MOST_CHARACTERS
    row = annotation.as_row()
    assert (row["reason"], row["remark"]) == (annotation.reason, annotation.remark)
    assert (row["reason"] + row["remark"]).isprintable()
