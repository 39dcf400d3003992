"""Reads an expression, by recursive descent.

::

    expression  = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation    = "not" negation | "(" expression ")" | statement
    statement   = LABEL | "doubtful" ["(" LABEL ")"] | "failed" | "dropped" | number RELATION number
    number      = NUMBER | LABEL | QUANTITY | ("count" | "fraction") "(" expression ")"

Of a comparison one side is a NUMBER, the other is not. Case does not matter, and `-` in a name is `_`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from dvfb_stream.catalog.expression.errors import ExpressionError
from dvfb_stream.catalog.expression.syntax import (
    QUANTITIES,
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
from dvfb_stream.labels import ALL_LABELS

_LONGEST = 10_000
"""Characters; a person writes a hundred."""
_DEEPEST = 50
"""Parentheses, `not` and calls within one another; Python's stack bears some hundreds."""

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)*)"
    r"|(?P<relation><=|>=|==|!=|<|>)"
    r"|(?P<bracket>[()])",
    re.ASCII,
)

_JOINING = ("and", "or", "not")
_STATUSES = ("failed", "dropped")
_DOUBTFUL = "doubtful"
_CALLS = ("count", "fraction")
_WORDS = (*_JOINING, *_STATUSES, _DOUBTFUL, *_CALLS, *QUANTITIES)


def parse(text: str, labels: Collection[str] = ALL_LABELS) -> Expression:
    """Return the expression that a text states.

    Parameters
    ----------
    text
        For example ``four_fold >= 0.9 and not halo``; the page "Finding your data" says what each part means.
    labels
        That are known: those of any model.

    Raises
    ------
    ExpressionError
        When it cannot be understood; the message points at the place.
    """
    if not isinstance(text, str):
        raise ExpressionError("", 0, f"an expression is a text, not {text!r}")
    if len(text) > _LONGEST:
        raise ExpressionError(text, _LONGEST, f"it has more than {_LONGEST:,} characters")
    parser = _Parser(text, _tokens(text), labels)
    if parser.token.kind == "end":
        raise ExpressionError(text, 0, "nothing is asked for")
    found = parser.expression()
    parser.expect_end()
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(text, position, _of_no_token(text, position))
        kind = str(match.lastgroup)
        if kind == "name":
            found.append(_Token(kind, match[0].lower().replace("-", "_"), position))
        elif kind != "space":
            found.append(_Token(kind, match[0], position))
        position = match.end()
    return [*found, _Token("end", "", len(text.rstrip()))]


def _of_no_token(text: str, position: int) -> str:
    character = text[position]
    cures = {
        "=": "write == to compare",
        "&": "write 'and'",
        "|": "write 'or'",
        "!": "write 'not'",
        "~": "write 'not'",
        ",": "join by 'and' or 'or'",
        '"': "names stand without quotes",
        "'": "names stand without quotes",
        "\u2265": "write >=",
        "\u2264": "write <=",
    }
    if re.match(r"[+-]?\.?\d", text[position:], re.ASCII):
        return "this is no number"
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    cure = f"; {cures[character]}" if character in cures else ""
    return f"the character {shown!r} has no meaning here{cure}"


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison; a bare label or word is one, too, until it is known whether a relation follows."""

    token: _Token
    of: Expression | None = None
    """What is counted."""

    @property
    def is_number(self) -> bool:
        return self.token.kind == "number"


class _Parser:
    def __init__(self, text: str, tokens: list[_Token], labels: Collection[str]) -> None:
        self._text, self._tokens, self._labels = text, tokens, labels
        self._next = 0
        self._depth = 0
        self._counted = False

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    def expression(self) -> Expression:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def expect_end(self) -> None:
        token = self.token
        if token.kind == "end":
            return
        if token.text == ")":
            raise self._error(token, "no parenthesis was opened that this one closes")
        if token.kind == "relation":
            raise self._error(token, "a comparison has two sides; join several by 'and'")
        raise self._error(token, f"'and' or 'or' is missing before {token.text!r}")

    def _conjunction(self) -> Expression:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self) -> Expression:
        if self.token.text == "not":
            self._deeper()
            found: Expression = Not(self._negation())
            self._depth -= 1
            return found
        if self.token.text == "(":
            opened = self._deeper()
            found = self.expression()
            self._close(opened)
            if self.token.kind == "relation":
                raise self._error(
                    self.token, "what is in parentheses is no number; count(...) and fraction(...) are"
                )
            return found
        return self._statement()

    def _statement(self) -> Expression:
        left = self._side()
        if self.token.kind != "relation":
            return self._bare(left)
        sign = self._taken()
        relation = Relation(sign.text)
        right = self._side()
        if left.is_number == right.is_number:
            sides = "two numbers are compared" if left.is_number else "a number is expected on one side of it"
            raise self._error(right.token, sides)
        if self.token.kind == "relation":
            raise self._error(self.token, "a comparison has two sides; join several by 'and'")
        if left.is_number:
            return self._comparison(right, relation.turned, left.token)
        return self._comparison(left, relation, right.token)

    def _side(self) -> _Side:
        token = self._taken()
        if token.kind == "number":
            return _Side(token)
        if token.kind != "name" or token.text in _JOINING:
            raise self._error(token, self._of_no_name(token))
        if token.text in _CALLS:
            return _Side(token, self._counted_expression(token))
        if token.text == _DOUBTFUL and self.token.text == "(":
            opened = self._deeper()
            label = self._taken()
            self._check_label(label)
            self._close(opened)
            return _Side(token, Doubtful(label.text))
        if token.text not in _WORDS:
            self._check_label(token)
        if self.token.text == "(":
            raise self._error(
                self.token, f"{token.text} takes nothing in parentheses; count(...), fraction(...) do"
            )
        return _Side(token)

    def _counted_expression(self, call: _Token) -> Expression:
        if self._counted:
            raise self._error(call, f"{call.text} cannot stand within count or fraction")
        if self.token.text != "(":
            raise self._error(self.token, f"{call.text} counts frames: write {call.text}(four_fold)")
        opened = self._deeper()
        self._counted = True
        found = self.expression()
        self._counted = False
        self._close(opened)
        return found

    def _bare(self, side: _Side) -> Expression:
        name = side.token.text
        if side.is_number:
            raise self._error(side.token, f"nothing is compared with {name}")
        if name in _CALLS:
            raise self._error(
                self.token, f"{name}(...) is a number: compare it, as in {name}(four_fold) >= 0.5"
            )
        if name in QUANTITIES:
            raise self._error(self.token, f"{name} is a number: compare it, as in {name} >= 0.5")
        if name == _DOUBTFUL:
            return side.of or Doubtful(None)
        return WithoutAnnotation(name) if name in _STATUSES else Label(name)

    def _comparison(self, side: _Side, relation: Relation, written: _Token) -> Expression:
        name = side.token.text
        if name in _STATUSES or name == _DOUBTFUL:
            raise self._error(side.token, f"{name} is no number; count({name}) is")
        number = float(written.text)
        if not math.isfinite(number):
            raise self._error(written, "the number is too large")
        if name == "count" and side.of is not None:
            return Count(side.of, relation, number)
        if name in QUANTITIES:
            return Quantity(name, relation, number)
        if not 0 <= number <= 1:
            kind = "a fraction" if name == "fraction" else "a probability"
            raise self._error(written, f"{kind} is from 0 to 1")
        return Fraction(side.of, relation, number) if side.of is not None else Score(name, relation, number)

    def _check_label(self, token: _Token) -> None:
        if token.kind == "name" and token.text in self._labels:
            return
        if token.kind != "name" or token.text in _JOINING:
            raise self._error(token, "the name of a label is expected here")
        if token.text in _WORDS:
            raise self._error(token, f"{token.text} is no label")
        near = difflib.get_close_matches(token.text, [*self._labels, *_WORDS], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self._labels)}"
        raise self._error(token, f"unknown label {token.text!r}; {hint}")

    def _of_no_name(self, token: _Token) -> str:
        if token.kind == "end":
            return "the expression breaks off here"
        if token.kind == "relation":
            return "a label or a number is expected before the comparison"
        return f"a label or a comparison is expected, not {token.text!r}"

    def _deeper(self) -> _Token:
        token = self._taken()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(token, f"more than {_DEEPEST} parentheses and 'not' stand within one another")
        return token

    def _close(self, opened: _Token) -> None:
        if self.token.text != ")":
            why = (
                "the parenthesis at column"
                f" {ExpressionError(self._text, opened.position, '').column} is not closed"
            )
            if self.token.kind != "end":
                why += f" before {self.token.text!r}"
            raise self._error(self.token, why)
        self._taken()
        self._depth -= 1

    def _take(self, word: str) -> bool:
        if self.token.text != word:
            return False
        self._taken()
        return True

    def _taken(self) -> _Token:
        token = self.token
        if token.kind != "end":
            self._next += 1
        return token

    def _error(self, token: _Token, why: str) -> ExpressionError:
        return ExpressionError(self._text, token.position, why)
