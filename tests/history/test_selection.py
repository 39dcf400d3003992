"""Conditions are parsed and never evaluated; what cannot be understood is pointed at."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.errors import SettingsError
from dvfb_stream.history.selection import conditions


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("sample_name = 'x'", 13),
        ("sample_name == ", 1),
        ("sample_name == x", 16),
        ("sample_name", 1),
        ("a == 1 or b == 2", 1),
        ("1 < scan_id < 3", 5),
        ("scan_id in 3", 12),
        ("scan_id == [3]", 12),
        ("scan_id is 3", 1),
        ("__import__('os').getcwd() == 'x'", 1),
        ("sample_name == f'{x}'", 16),
        ("a == 1 and b.c() == 2", 12),
        ("scan_id == -'x'", 12),
    ],
)
def test_the_message_points_at_the_place(text: str, character: int) -> None:
    with pytest.raises(SettingsError, match=rf"at character {character} "):
        conditions(text)


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(SettingsError):
        conditions(text)


def test_values_are_taken_as_they_stand() -> None:
    text = "a == 'it; DROP TABLE \"runs\"' and b.c != -2.5 and d in (1, 2) and e not in ['x'] and f == True"
    assert [(q.key, getattr(q, "value", None)) for q in conditions(text)] == [
        ("start.a", 'it; DROP TABLE "runs"'),
        ("start.b.c", -2.5),
        ("start.d", [1, 2]),
        ("start.e", ["x"]),
        ("start.f", True),
    ]
