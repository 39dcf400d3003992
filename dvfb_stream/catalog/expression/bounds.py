"""What the summaries of runs say of an expression already: for how many frames it holds at least, and at most.

Most runs are decided by it, so that their rows need not be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Protocol

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

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Summaries(Protocol):
    """Summaries of runs, one an entry of each array (N,)."""

    @property
    def frames(self) -> Counts:
        """Frames of each."""
        ...

    @property
    def annotated(self) -> Counts:
        """Of them those with probabilities."""
        ...

    def number(self, name: str) -> Numbers:
        """Return an entry of the summaries, such as ``halo.count``; NaN where it is not stated."""
        ...

    def knows(self, label: str) -> Flags:
        """Return which have a model that knows the label."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers of frames from `least` to `most`, of each run."""

    least: Counts
    most: Counts

    @classmethod
    def exactly(cls, counts: Counts) -> Interval:
        """Return the interval that holds one number."""
        return cls(counts, counts)

    def both(self, other: Interval, frames: Counts) -> Interval:
        """Return for how many of so many frames two things hold."""
        return Interval(np.maximum(0, self.least + other.least - frames), np.minimum(self.most, other.most))

    def either(self, other: Interval, frames: Counts) -> Interval:
        """Return for how many of so many frames one of two things holds."""
        return Interval(np.maximum(self.least, other.least), np.minimum(frames, self.most + other.most))


@dataclass(frozen=True, slots=True)
class Bounds:
    """For how many frames an expression holds, and for how many it fails."""

    holds: Interval
    fails: Interval


def bounds_of(expression: Expression, runs: Summaries) -> Bounds:
    """Return between which numbers of frames the expression holds for; `evaluate` gives the number itself."""
    none, annotated = np.zeros_like(runs.frames), runs.annotated
    match expression:
        case Label(name):
            known = runs.knows(name)
            count = np.nan_to_num(runs.number(f"{name}.count")).astype(np.int64)
            return Bounds(Interval.exactly(count), Interval.exactly(np.where(known, annotated - count, 0)))
        case Score(name, relation, number):
            return _compared(
                relation, number, np.full(len(none), np.nan), runs.number(f"{name}.max"), annotated
            )
        case Quantity(name, relation, number) if name in ("novelty", "fit_residual"):
            least, most = runs.number(f"{name}.min"), runs.number(f"{name}.max")
            # Of runs whose summary does not state it, nothing is known; of a score it would say that there is none.
            stated = np.isfinite(most)
            decided = _compared(relation, number, least, most, annotated)
            anything = Interval(none, annotated)
            return Bounds(_chosen(stated, decided.holds, anything), _chosen(stated, decided.fails, anything))
        case Quantity():
            return Bounds(Interval(none, runs.frames), Interval(none, runs.frames))
        case Doubtful(label):
            said = runs.number("doubtful.count" if label is None else f"{label}.doubtful")
            stated = np.isfinite(said)
            exact = Interval.exactly(np.nan_to_num(said).astype(np.int64))
            anything = Interval(none, annotated)
            return Bounds(_chosen(stated, exact, anything), anything)
        case WithoutAnnotation(status):
            count = np.nan_to_num(runs.number(status)).astype(np.int64)
            return Bounds(Interval.exactly(count), Interval.exactly(runs.frames - count))
        case Not(of):
            found = bounds_of(of, runs)
            return Bounds(found.fails, found.holds)
        case And(parts):
            return reduce(
                lambda one, other: _all(one, other, runs.frames), (bounds_of(p, runs) for p in parts)
            )
        case Or(parts):
            turned = [Bounds(found.fails, found.holds) for found in (bounds_of(part, runs) for part in parts)]
            found = reduce(lambda one, other: _all(one, other, runs.frames), turned)
            return Bounds(found.fails, found.holds)
        case Count(of, relation, number):
            return _counted(bounds_of(of, runs), relation, number, runs, np.ones_like(annotated))
        case Fraction(of, relation, number):
            return _counted(bounds_of(of, runs), relation, number, runs, annotated)
    raise TypeError(f"{expression!r} is no expression")


def _all(one: Bounds, other: Bounds, frames: Counts) -> Bounds:
    return Bounds(one.holds.both(other.holds, frames), one.fails.either(other.fails, frames))


def _chosen(which: Flags, one: Interval, other: Interval) -> Interval:
    return Interval(np.where(which, one.least, other.least), np.where(which, one.most, other.most))


def _compared(relation: Relation, number: float, least: Numbers, most: Numbers, annotated: Counts) -> Bounds:
    """Return for how many frames numbers compare so, of which only the extremes are known; NaN: not even that."""
    above, below = np.isfinite(most), np.isfinite(least)
    # Whether the largest and the least of them do; and whether none or all do for that reason.
    largest, smallest = relation.compare(most, number) & above, relation.compare(least, number) & below
    holds_least, fails_least = largest | smallest, (above & ~largest) | (below & ~smallest)
    none = np.zeros(len(most), np.bool_)
    match relation:
        case Relation.AT_LEAST | Relation.MORE:
            never, always = above & ~largest, smallest
        case Relation.AT_MOST | Relation.LESS:
            never, always = below & ~smallest, largest
        case Relation.EQUAL:
            never, always = (above & (most < number)) | (below & (least > number)), none
        case Relation.UNEQUAL:
            never, always = none, (above & (most < number)) | (below & (least > number))
    nothing = ~above
    some = np.where(nothing, 0, annotated)
    return Bounds(
        Interval(holds_least.astype(np.int64), np.where(never, 0, some)),
        Interval(fails_least.astype(np.int64), np.where(always, 0, some)),
    )


def _counted(found: Bounds, relation: Relation, number: float, runs: Summaries, per: Counts) -> Bounds:
    """Return for how many frames a count, or its share of `per`, compares so: for all of a run, or for none."""
    least, most = (value / np.maximum(per, 1) for value in (found.holds.least, found.holds.most))
    match relation:
        case Relation.AT_LEAST | Relation.MORE:
            always, maybe = relation.compare(least, number), relation.compare(most, number)
        case Relation.AT_MOST | Relation.LESS:
            always, maybe = relation.compare(most, number), relation.compare(least, number)
        case Relation.EQUAL:
            always, maybe = (least == number) & (most == number), (least <= number) & (most >= number)
        case Relation.UNEQUAL:
            always, maybe = (most < number) | (least > number), (least != number) | (most != number)
    surely_known = (found.holds.least + found.fails.least > 0) & (per > 0)
    perhaps_known = (found.holds.most + found.fails.most > 0) & (per > 0)
    frames = runs.frames
    return Bounds(
        Interval(np.where(always & surely_known, frames, 0), np.where(maybe & perhaps_known, frames, 0)),
        Interval(np.where(~maybe & surely_known, frames, 0), np.where(~always & perhaps_known, frames, 0)),
    )
