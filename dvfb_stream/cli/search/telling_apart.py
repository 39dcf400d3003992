"""Which columns a table needs so that lines of different analyses do not look alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple


class Origin(NamedTuple):
    """Whence a line comes; its fields are the titles of the columns."""

    run: str
    """Uid of the raw run."""
    stream: str
    detector: str
    model: str
    """Name and version."""
    analysis: str
    """Uid of the analysis run."""


def columns_apart(origins: Iterable[Origin], always: Collection[str] = ()) -> list[str]:
    """Return the columns in which origins differ, besides their runs, and those that are `always` wanted.

    The uid of the analysis is among them where nothing else tells two of the same run apart.
    """
    different = set(origins)
    columns = [
        name
        for name in ("stream", "detector", "model")
        if name in always or len({getattr(one, name) for one in different}) > 1
    ]
    if len({tuple(getattr(one, name) for name in ("run", *columns)) for one in different}) < len(different):
        columns.append("analysis")
    return columns
