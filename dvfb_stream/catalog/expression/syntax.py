"""The parts that an expression is made of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Relation(Enum):
    """How a number is compared with another."""

    LESS = "<"
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="
    AT_LEAST = ">="
    MORE = ">"

    @property
    def compare(self) -> Callable[[Any, Any], Any]:
        """Compares numbers or arrays of them."""
        return _COMPARE[self]

    @property
    def turned(self) -> Relation:
        """The same with its two sides exchanged."""
        return _TURNED.get(self, self)


_COMPARE: dict[Relation, Callable[[Any, Any], Any]] = {
    Relation.LESS: operator.lt,
    Relation.AT_MOST: operator.le,
    Relation.EQUAL: operator.eq,
    Relation.UNEQUAL: operator.ne,
    Relation.AT_LEAST: operator.ge,
    Relation.MORE: operator.gt,
}
_TURNED = {
    Relation.LESS: Relation.MORE,
    Relation.MORE: Relation.LESS,
    Relation.AT_MOST: Relation.AT_LEAST,
    Relation.AT_LEAST: Relation.AT_MOST,
}


@dataclass(frozen=True, slots=True)
class Label:
    """The label was accepted."""

    name: str


@dataclass(frozen=True, slots=True)
class Score:
    """The label's probability compares so with a number."""

    label: str
    relation: Relation
    number: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """The label is doubtful; None: some label is."""

    label: str | None


@dataclass(frozen=True, slots=True)
class WithoutAnnotation:
    """The frame has no probabilities, and this status: ``failed`` or ``dropped``."""

    status: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of the row compares so with another."""

    name: str
    relation: Relation
    number: float


@dataclass(frozen=True, slots=True)
class Count:
    """The number of the run's frames for which something holds compares so with a number."""

    of: Expression
    relation: Relation
    number: float


@dataclass(frozen=True, slots=True)
class Fraction:
    """Their share of the run's annotated frames compares so with a number."""

    of: Expression
    relation: Relation
    number: float


@dataclass(frozen=True, slots=True)
class Not:
    """It is not so."""

    of: Expression


@dataclass(frozen=True, slots=True)
class And:
    """All are so."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One at least is so."""

    parts: tuple[Expression, ...]


Expression = Label | Score | Doubtful | WithoutAnnotation | Quantity | Count | Fraction | Not | And | Or

QUANTITIES: tuple[str, ...] = (
    "novelty",
    "fit_residual",
    "measured_order",
    "measured_contrast",
    "masked_pixels",
    "center_x",
    "center_y",
    "frame",
)
"""Columns of `dvfb_stream.rows` that can be compared with a number, besides the labels."""


def parts_of(expression: Expression) -> Iterator[Expression]:
    """Give an expression and all that it is made of, from left to right."""
    yield expression
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from parts_of(part)
        case Not(of) | Count(of) | Fraction(of):
            yield from parts_of(of)


def labels_of(expression: Expression) -> tuple[str, ...]:
    """Return the labels that an expression names, each once, in their order."""
    named: dict[str, None] = {}
    for part in parts_of(expression):
        match part:
            case Label(name) | Score(name) | Doubtful(str(name)):
                named[name] = None
    return tuple(named)


def with_least_score(expression: Expression, least: float) -> Expression:
    """Return the same expression in which a label counts only where its probability is `least` or more."""
    match expression:
        case Label(name):
            return And((expression, Score(name, Relation.AT_LEAST, least)))
        case And(parts):
            return And(tuple(with_least_score(part, least) for part in parts))
        case Or(parts):
            return Or(tuple(with_least_score(part, least) for part in parts))
        case Not(of):
            return Not(with_least_score(of, least))
        case Count(of, relation, number):
            return Count(with_least_score(of, least), relation, number)
        case Fraction(of, relation, number):
            return Fraction(with_least_score(of, least), relation, number)
    return expression
