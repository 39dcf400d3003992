"""Which raw runs of a catalog are meant: by uid, by time, and by what their start documents say."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tiled.queries import In, Key, KeyPresent, NotEq, NotIn

from dvfb_stream.catalog.listing import selected
from dvfb_stream.catalog.place import plain
from dvfb_stream.errors import SettingsError

_SHORTEST_UID = 5
"""Characters: fewer may be anything."""

_EXAMPLE = "sample_name == 'lamella' and scan_id >= 100"


def raw_runs(
    client: Any,
    *,
    uids: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    where: str = "",
) -> list[str]:
    """Return the uids of raw runs, in the order they were begun; the server answers.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.
    uids
        These and no others; the first characters of one suffice.
    since, until
        Begun at or after the one, before the other; without a zone, in that of this machine.
    where
        See `conditions`.

    Raises
    ------
    SettingsError
        When there is no run with a uid, there are several, or `where` cannot be understood.
    """
    queries = [KeyPresent("start.uid"), KeyPresent("start.analysis.kind", exists=False), *conditions(where)]
    if since is not None:
        queries.append(Key("start.time") >= since.timestamp())
    if until is not None:
        queries.append(Key("start.time") < until.timestamp())
    found = plain(client)
    for query in queries:
        found = found.search(query)
    begun = [(_time(time), key) for page in selected(found, "start.time") for key, time in page]
    chosen = [key for _, key in sorted(begun, key=lambda one: one[0])]
    if not uids:
        return chosen
    named = {_only_one(uid, chosen) for uid in uids}
    return [uid for uid in chosen if uid in named]


def _time(said: object) -> float:
    """Return when a run was begun; one that does not say comes first."""
    return float(said) if isinstance(said, int | float) else float("-inf")


def _only_one(wanted: str, chosen: Sequence[str]) -> str:
    matches = [uid for uid in chosen if uid == wanted]
    if not matches and len(wanted) >= _SHORTEST_UID:
        matches = [uid for uid in chosen if uid.startswith(wanted)]
    if not matches:
        raise SettingsError(
            f"there is no raw run with the uid {wanted!r} among the {len(chosen)} that are meant; give its first "
            f"{_SHORTEST_UID} characters or more, and see whether the other options leave it out"
        )
    if len(matches) > 1:
        raise SettingsError(
            f"{len(matches)} raw runs have a uid that begins with {wanted!r}; give more of it"
        )
    return matches[0]


def conditions(text: str) -> list[Any]:
    """Return Tiled's queries for what start documents are to say; the text is parsed, and never evaluated.

    Comparisons, joined by `and`: a field's name (of nested ones with dots), one of ``== != < <= > >= in``, and a
    text, a number, True or False; after `in` a list of them.

    Raises
    ------
    SettingsError
        When it is something else; the message points at the place.
    """
    if not text.strip():
        return []
    try:
        parsed = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, getattr(error, "offset", None) or 1, "it ends or breaks off here") from error
    parts = parsed.values if isinstance(parsed, ast.BoolOp) and isinstance(parsed.op, ast.And) else [parsed]
    return [_query(text, part) for part in parts]


def _query(text: str, part: ast.expr) -> Any:
    if not isinstance(part, ast.Compare):
        raise _refused(text, part.col_offset + 1, "a comparison is expected here")
    if len(part.ops) != 1:
        raise _refused(text, part.comparators[0].col_offset + 1, "join comparisons by 'and'")
    name, value = _name(text, part.left), _value(text, part.comparators[0])
    key, operator = Key(f"start.{name}"), part.ops[0]
    if isinstance(value, list) != isinstance(operator, ast.In | ast.NotIn):
        raise _refused(
            text, part.comparators[0].col_offset + 1, "a list goes with 'in', and nothing else does"
        )
    match operator:
        case ast.Eq():
            return key == value
        case ast.NotEq():
            return NotEq(key.key, value)
        case ast.Lt():
            return key < value
        case ast.LtE():
            return key <= value
        case ast.Gt():
            return key > value
        case ast.GtE():
            return key >= value
        case ast.In():
            return In(key.key, value)
        case ast.NotIn():
            return NotIn(key.key, value)
    raise _refused(text, part.left.col_offset + 1, "only ==, !=, <, <=, >, >=, in and not in compare")


def _name(text: str, part: ast.expr) -> str:
    if isinstance(part, ast.Name):
        return part.id
    if isinstance(part, ast.Attribute):
        return f"{_name(text, part.value)}.{part.attr}"
    raise _refused(text, part.col_offset + 1, "the name of a field is expected here")


def _value(text: str, part: ast.expr) -> Any:
    if isinstance(part, ast.List | ast.Tuple):
        return [_value(text, item) for item in part.elts]
    sign = -1 if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub) else 1
    constant = part.operand if isinstance(part, ast.UnaryOp) and sign == -1 else part
    if isinstance(constant, ast.Constant) and isinstance(constant.value, str | int | float):
        if sign == 1:
            return constant.value
        if not isinstance(constant.value, str):
            return -constant.value
    raise _refused(text, part.col_offset + 1, "a text in quotes or a number is expected here")


def _refused(text: str, column: int, why: str) -> SettingsError:
    text = text.strip()
    return SettingsError(
        f"the condition {text!r} cannot be understood at character {column} ({text[column - 1 : column + 19]!r}): "
        f"{why}; an example: {_EXAMPLE}"
    )
