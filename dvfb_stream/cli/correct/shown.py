"""Corrections in words and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvfb_stream.catalog.corrections import Correction, Undo

SHORT = 8
"""Characters of a uid that people are shown; 5 suffice to name it."""


def as_json(said: Correction | Undo) -> dict[str, Any]:
    """Return what was said as an object."""
    return asdict(said)


def described(one: Correction) -> str:
    """Return a correction in one line."""
    where = f"{one.origin.stream}/{one.origin.data_key}"
    before = ", ".join(one.row.labels) or f"{one.row.status}, no labels"
    return (
        f"frame {one.origin.index} of {where} of run {one.origin.run_uid}: {words_of(one)}, by {one.by}; "
        f"{one.row.model} had said: {before}; correction {one.uid}"
    )


def words_of(one: Correction) -> str:
    """Return which labels it adds and removes: ``+four_fold -halo``."""
    return " ".join([*(f"+{label}" for label in one.add), *(f"-{label}" for label in one.remove)])


def when(time: float) -> str:
    """Return a time in this machine's zone."""
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}"
