"""Expressions that nobody can understand: each error points at its place, and nothing in them is ever run."""

from __future__ import annotations

import pytest

from dvfb_stream.catalog.expression import ExpressionError, parse

DEEP = "(" * 51

MALFORMED = [
    # expression, line, column, a part of the reason
    ("", 1, 1, "nothing is asked for"),
    ("   ", 1, 1, "nothing is asked for"),
    ("fourfold", 1, 1, "did you mean four_fold"),
    ("halo and fourfold", 1, 10, "did you mean four_fold"),
    ("halo\nand\n  ringz", 3, 3, "did you mean rings"),
    ("novelti > 0.5", 1, 1, "did you mean novelty"),
    ("xyzzy", 1, 1, "there are diffuse_low_q"),
    ("halo and", 1, 9, "breaks off here"),
    ("and halo", 1, 1, "not 'and'"),
    ("or", 1, 1, "not 'or'"),
    ("not", 1, 4, "breaks off here"),
    ("halo and or rings", 1, 10, "not 'or'"),
    ("halo rings", 1, 6, "'and' or 'or' is missing"),
    ("halo not rings", 1, 6, "'and' or 'or' is missing"),
    ("(halo", 1, 6, "column 1 is not closed"),
    ("(halo rings)", 1, 7, "not closed before 'rings'"),
    ("halo)", 1, 5, "no parenthesis was opened"),
    ("()", 1, 2, "is expected, not ')'"),
    ("halo and ()", 1, 11, "is expected, not ')'"),
    (DEEP + "halo" + ")" * 51, 1, 51, "within one another"),
    ("not " * 60 + "halo", 1, 201, "within one another"),
    ("halo >", 1, 7, "breaks off here"),
    (">= 0.5", 1, 1, "before the comparison"),
    ("halo >= rings", 1, 9, "a number is expected"),
    ("halo >= 0.5 >= 0.1", 1, 13, "two sides"),
    ("0.1 < halo < 0.5", 1, 12, "two sides"),
    ("0.5 < 0.7", 1, 7, "two numbers"),
    ("0.5", 1, 1, "nothing is compared with 0.5"),
    ("halo = 0.5", 1, 6, "write == to compare"),
    ("halo => 0.5", 1, 6, "write == to compare"),
    ("halo >= 1.5", 1, 9, "from 0 to 1"),
    ("halo >= -0.1", 1, 9, "from 0 to 1"),
    ("fraction(halo) > 20", 1, 18, "a fraction is from 0 to 1"),
    ("halo >= 1e999", 1, 9, "too large"),
    ("novelty > 1e999", 1, 11, "too large"),
    ("halo >= 1.2.3", 1, 9, "no number"),
    ("halo >= 0x10", 1, 9, "no number"),
    ("halo >= 90%", 1, 11, "no meaning here"),
    ("novelty", 1, 8, "novelty is a number: compare it"),
    ("not novelty and halo", 1, 13, "novelty is a number: compare it"),
    ("count(halo)", 1, 12, "is a number: compare it"),
    ("count >= 3", 1, 7, "write count(four_fold)"),
    ("count() >= 3", 1, 7, "is expected, not ')'"),
    ("count(halo >= 3", 1, 15, "from 0 to 1"),
    ("count(halo", 1, 11, "column 6 is not closed"),
    ("count(count(halo) > 1) > 1", 1, 7, "within count or fraction"),
    ("fraction(fraction(halo) > 0.1) > 0.1", 1, 10, "within count or fraction"),
    ("(halo) >= 0.5", 1, 8, "in parentheses is no number"),
    ("halo(rings)", 1, 5, "takes nothing in parentheses"),
    ("novelty(halo) > 0.5", 1, 8, "takes nothing in parentheses"),
    ("doubtful >= 1", 1, 1, "count(doubtful) is"),
    ("doubtful()", 1, 10, "name of a label is expected"),
    ("doubtful(novelty)", 1, 10, "novelty is no label"),
    ("doubtful(halo and rings)", 1, 15, "not closed before 'and'"),
    ("failed > 0", 1, 1, "count(failed) is"),
    ("halo && rings", 1, 6, "write 'and'"),
    ("halo | rings", 1, 6, "write 'or'"),
    ("!halo", 1, 1, "write 'not'"),
    ("halo, rings", 1, 5, "join by 'and' or 'or'"),
    ("'halo'", 1, 1, "names stand without quotes"),
    ('"; DROP TABLE nodes; --', 1, 1, "names stand without quotes"),
    ("halo; import os", 1, 5, "no meaning here"),
    ("__import__('os').system('true')", 1, 1, "no meaning here"),
    ("halo.count >= 3", 1, 5, "no meaning here"),
    ("halo[0]", 1, 5, "no meaning here"),
    ("lambda: halo", 1, 7, "no meaning here"),
    ("halo\0", 1, 5, "U+0000"),
    ("h\u0430lo", 1, 2, "no meaning here"),  # Cyrillic
    ("halo \u2265 0.5", 1, 6, "write >="),
    ("halo and " * 1200 + "halo", 1, 10_001, "more than 10,000 characters"),
]


def test_there_are_enough():
    assert len({text for text, *_ in MALFORMED}) >= 50


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"), MALFORMED, ids=[ascii(text)[:30] for text, *_ in MALFORMED]
)
def test_an_error_points_at_its_place(text, line, column, reason):
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert reason in error.value.why
    assert (error.value.line, error.value.column) == (line, column)
    assert f"line {line}, column {column}" in str(error.value)
    shown, caret = error.value.pointer.split("\n")
    assert caret.strip() == "^"
    source = text.split("\n")[line - 1]
    if column <= len(source) and source[column - 1].isprintable():
        assert shown[len(caret) - 1] == source[column - 1]
    assert shown.isprintable() or not shown


def test_the_caret_stands_below_wide_characters():
    with pytest.raises(ExpressionError) as error:
        parse("halo and 試")
    shown, caret = error.value.pointer.split("\n")
    assert shown == "halo and 試"
    assert caret == " " * 9 + "^"


def test_what_is_no_text_is_refused():
    with pytest.raises(ExpressionError, match="an expression is a text, not 3"):
        parse(3)  # type: ignore[arg-type]
