"""For which frames an expression holds, by columns: of each frame it holds, fails, or is not known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.expression.syntax import (
    And,
    Count,
    Doubtful,
    Expression,
    Fraction,
    Label,
    Not,
    Or,
    Quantity,
    Relation,
    Score,
    WithoutAnnotation,
)

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of each frame: it is in one of the two, or in none where nobody knows."""

    holds: Flags
    fails: Flags

    def __invert__(self) -> Truth:
        return Truth(self.fails, self.holds)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.holds & other.holds, self.fails | other.fails)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.holds | other.holds, self.fails & other.fails)

    @classmethod
    def where_known(cls, holds: Flags, known: Flags) -> Truth:
        """Return what `holds` says where it is known."""
        return cls(holds & known, ~holds & known)


class Frames(Protocol):
    """Rows of frames, one an entry of each array (N,); those of one run follow one another."""

    @property
    def run(self) -> NDArray[np.integer[Any]]:
        """To which run each belongs, from 0."""
        ...

    @property
    def runs(self) -> int:
        """How many runs there are."""
        ...

    def has_status(self, status: str) -> Flags:
        """Return which have the status ``ok``, ``failed`` or ``dropped``."""
        ...

    def accepted(self, label: str) -> Truth:
        """Return on which the label was accepted; not known without annotation, or of a model without the label."""
        ...

    def doubtful(self, label: str | None) -> Truth:
        """Return on which the label is doubtful, or any is."""
        ...

    def number(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers: a label's probability, or a quantity; NaN where it is not known."""
        ...


def evaluate(expression: Expression, frames: Frames) -> Truth:
    """Return for which frames an expression holds, and for which it fails.

    As in SQL, with what is not known: ``not halo`` holds where a model looked for halos and saw none, and for no
    frame without annotation. ``count`` and ``fraction`` are the same for all frames of a run; they are not known
    where what is counted is not known of any frame.
    """
    match expression:
        case Label(name):
            return frames.accepted(name)
        case Score(name, relation, number) | Quantity(name, relation, number):
            values = frames.number(name)
            return Truth.where_known(relation.compare(values, number), np.isfinite(values))
        case Doubtful(label):
            return frames.doubtful(label)
        case WithoutAnnotation(status):
            found = frames.has_status(status)
            return Truth(found, ~found)
        case Not(of):
            return ~evaluate(of, frames)
        case And(parts):
            return reduce(lambda one, other: one & other, (evaluate(part, frames) for part in parts))
        case Or(parts):
            return reduce(lambda one, other: one | other, (evaluate(part, frames) for part in parts))
        case Count(of, relation, number):
            return _counted(of, relation, number, frames, is_share=False)
        case Fraction(of, relation, number):
            return _counted(of, relation, number, frames, is_share=True)
    raise TypeError(f"{expression!r} is no expression")


def frames_of_runs(flags: Flags, frames: Frames) -> NDArray[np.int64]:
    """Return how many frames of each run (runs,) are marked."""
    return np.bincount(frames.run[flags], minlength=frames.runs).astype(np.int64, copy=False)


def _counted(of: Expression, relation: Relation, number: float, frames: Frames, *, is_share: bool) -> Truth:
    truth = evaluate(of, frames)
    counts = frames_of_runs(truth.holds, frames)
    known = frames_of_runs(truth.holds | truth.fails, frames) > 0
    if is_share:
        annotated = frames_of_runs(frames.has_status("ok"), frames)
        known &= annotated > 0
        holds = relation.compare(counts / np.maximum(annotated, 1), number)
    else:
        holds = relation.compare(counts, number)
    return Truth.where_known(holds[frames.run], known[frames.run])
