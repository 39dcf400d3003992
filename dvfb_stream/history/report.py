"""What became of raw runs that were to be annotated, in numbers that add up over calls and processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(slots=True)
class HistoryReport:
    """What became of the raw runs that were meant."""

    runs: int = 0
    """Raw runs that were looked at."""
    annotated: int = 0
    """Of them: with rows that were stored now."""
    skipped: int = 0
    """Of them: nothing was to be done."""
    other_geometry: int = 0
    """Of those: annotated before, with another geometry; their rows stay."""
    without_arrays: int = 0
    """Of those: annotated before, without the arrays that are asked for now."""
    made_newest: int = 0
    """Analyses that were there as they were asked for, and supersede the others again."""
    unfinished: int = 0
    """Of them: without a stop yet, left alone."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows that were made, by status."""
    replaced: int = 0
    """Rows that took the place of others."""
    beside: int = 0
    """Analyses that were made beside one with another geometry."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Spent on looking what is due, annotating, and waiting for the store, one after the other; and in the stages of
    annotating, which overlap: read, view, coefficients, network, annotate, write."""
    failures: list[str] = field(default_factory=list)
    """Of raw runs that could not be annotated, which and why."""

    def add(self, other: HistoryReport) -> None:
        """Count what another report says, too."""
        for each in fields(self):
            if each.name != "seconds":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for what, seconds in other.seconds.items():
            self.spent(what, seconds)

    def spent(self, what: str, seconds: float) -> None:
        """Count what something took."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def as_json(self) -> dict[str, Any]:
        """Return it JSON-ready; `from_json` takes it."""
        return {**asdict(self), "rows": dict(self.rows)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave."""
        return cls(**{**said, "rows": Counter(said["rows"])})
