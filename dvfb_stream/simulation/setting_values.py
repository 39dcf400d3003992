"""Checks of settings' values, and the words with which a wrong one is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from dvfb_stream.errors import SettingsError

LARGEST = 1e300
MOST_ODDS = 1e9
"""More would leave nothing to any other kind."""


def shortened(value: object) -> str:
    """Return a value as a text of no more than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) < 80 else f"{text[:40]}..."


def is_number(value: object) -> bool:
    """Return whether a value is a number that a double can hold, which integers of 400 digits are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def check_odds(name: str, odds: object, known: Iterable[str]) -> None:
    """Raise `SettingsError` unless `odds` are a table of known names with numbers, 0 or more, one above 0."""
    if not isinstance(odds, Mapping):
        raise SettingsError(f"{name} must be a table of names and odds, not {odds!r}")
    for key, weight in odds.items():
        if key not in known:
            raise SettingsError(f"{name}: there is no {key!r}; {cure(str(key), list(known))}")
        if not is_number(weight) or weight < 0 or weight > MOST_ODDS:
            raise SettingsError(
                f"{name}: the odds of {key} must be a number, 0 or more, not {shortened(weight)}"
            )
    if not sum(odds.values()) > 0:
        raise SettingsError(f"{name}: at least one must have odds above 0")


def cure(name: str, known: list[str]) -> str:
    """Return what to write instead of an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def plain(value: Any) -> Any:
    """Return a value JSON-ready."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
