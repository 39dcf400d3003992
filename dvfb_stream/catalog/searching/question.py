"""What is asked: which analysis runs are looked at, and what is to hold for their frames."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute

from dvfb_stream.catalog.expression import Expression, labels_of, parse
from dvfb_stream.catalog.expression.syntax import with_least_score
from dvfb_stream.errors import SettingsError, check_at_least

COPIED = frozenset({"scan_id", "sample_name", "proposal", "data_session", "beamline_id"})
"""Fields of the raw start document that analysis runs have a copy of; of others the raw runs are asked."""

Moment = datetime | float | str
"""A time: seconds since 1970, or a date with or without a time, as ISO 8601 writes it."""


class Source(StrEnum):
    """Whose labels count."""

    MODEL = "model"
    """Those that the model accepted."""
    HUMAN = "human"
    """Where somebody corrected a frame, what they say; those of the model where nobody did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the analysis runs of a catalog."""

    expression: Expression | None
    """What holds for the frames; None: all frames are meant."""
    min_frames: int = 1
    """Least number of frames of a run for which it holds."""
    fraction: float = 0.0
    """Least share of the run's annotated frames for which it holds."""
    model: str | None = None
    """Name of the model, or ``name@version``, or the beginning of its SHA-256; None: any."""
    is_newest: bool = True
    """Whether of several analyses of the same frames the newest alone counts."""
    since: float = -math.inf
    until: float = math.inf
    """Raw runs begun at or after the one, before the other, seconds since 1970."""
    source: Source = Source.MODEL
    raw_uids: frozenset[str] | None = None
    """Of the raw runs that are looked at; None: all."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """What the raw start document says, by its fields; a list: one of its entries."""

    @property
    def labels(self) -> tuple[str, ...]:
        """That the expression names."""
        return () if self.expression is None else labels_of(self.expression)


def question(
    expression: str | None,
    *,
    min_frames: int = 1,
    min_score: float | None = None,
    fraction: float = 0.0,
    model: str | None = None,
    newest: bool = True,
    since: Moment | None = None,
    until: Moment | None = None,
    source: str = "model",
    raw_uids: Collection[str] | None = None,
    **raw: Any,
) -> Question:
    """Return the question that the arguments of a search ask.

    Raises
    ------
    ExpressionError
        When the expression cannot be understood.
    SettingsError
        When another argument is out of range, or the name of a raw field looks like that of an argument.
    """
    if isinstance(raw_uids, str):
        raise SettingsError(f"raw_uids must be a list of uids, such as [{raw_uids!r}], not a text")
    check_at_least(1, min_frames=min_frames)
    for name, share in (("min_score", min_score), ("fraction", fraction)):
        if share is not None and not 0 <= share <= 1:
            raise SettingsError(f"{name} must be from 0 to 1, not {share!r}")
    if source not in list(Source):
        raise SettingsError(f"source must be one of {', '.join(Source)}, not {source!r}")
    parsed = None if expression is None else parse(expression)
    if parsed is not None and min_score is not None:
        parsed = with_least_score(parsed, min_score)
    return Question(
        expression=parsed,
        min_frames=min_frames,
        fraction=fraction,
        model=model,
        is_newest=newest,
        since=-math.inf if since is None else moment("since", since),
        until=math.inf if until is None else moment("until", until),
        source=Source(source),
        raw_uids=None if raw_uids is None else frozenset(raw_uids),
        raw={_raw_field(name): value for name, value in raw.items()},
    )


_ARGUMENTS = (
    "min_frames", "min_score", "fraction", "model", "newest", "since", "until", "source", "raw_uids",
    "progress", "exact",
)  # fmt: skip
"""Of searches; `exact` of `search_runs` alone."""
_CLOSE = 0.8
"""Likeness of a name to that of an argument from which on it is taken for a slip: ``num_frames`` to `min_frames`."""
_START = "start."


def _raw_field(name: str) -> str:
    """Return the field of the raw start document that a keyword names; with ``start.`` before it, any.

    Raises
    ------
    SettingsError
        When it looks like an argument: no raw run would say so, and nothing would be found.
    """
    if name.startswith(_START):
        return name.removeprefix(_START)
    near = difflib.get_close_matches(name.lower(), _ARGUMENTS, n=1, cutoff=_CLOSE)
    if near and name not in COPIED:
        meant = (
            f"there is no argument {name!r} here"
            if near[0] == name
            else f"there is no argument {name!r}; did you mean {near[0]}?"
        )
        raise SettingsError(
            f"{meant}; a field {name!r} of raw start documents is asked for as **{{'{_START}{name}': ...}}"
        )
    return name


def moment(name: str, value: Moment) -> float:
    """Return a time in seconds since 1970; without a zone, in that of this machine.

    Raises
    ------
    SettingsError
        When it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.timestamp()
    raise SettingsError(f"{name} must be a time such as 2026-11-30 or 2026-11-30T08:00, not {value!r}")


def chosen(runs: pyarrow.Table, asked: Question) -> pyarrow.Table:
    """Return those of the known runs that are looked at; of `raw` by the copied fields alone."""
    keep = runs["is_finished"].to_numpy(zero_copy_only=False)
    if asked.since > -math.inf or asked.until < math.inf:
        times = runs["time"].to_numpy()
        keep = keep & (times >= asked.since) & (times < asked.until)
    if asked.model is not None:
        keep = keep & _of_model(runs, asked.model)
    if asked.is_newest:
        # Of the finished ones of that model, whatever else is asked.
        finished = runs["is_finished"].to_numpy(zero_copy_only=False)
        among = finished if asked.model is None else finished & _of_model(runs, asked.model)
        keep = keep & _newest(runs, among)
    if asked.raw_uids is not None:
        uids = pyarrow.array(sorted(asked.raw_uids), pyarrow.string())
        keep = keep & compute.is_in(runs["parent"], uids).to_numpy()
    for name, wanted in asked.raw.items():
        if name.partition(".")[0] in COPIED:
            keep = keep & _raw_says(runs["raw"], name, wanted)
    return runs.filter(pyarrow.array(keep))


def _of_model(runs: pyarrow.Table, model: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    named = compute.binary_join_element_wise(runs["model"], runs["model_version"], "@")
    found = compute.or_(compute.equal(runs["model"], model), compute.equal(named, model))
    if len(model) >= _SHORTEST_HASH:
        found = compute.or_(found, compute.starts_with(runs["model_sha256"], model))
    flags: np.ndarray[Any, np.dtype[np.bool_]] = found.to_numpy()
    return flags


_SHORTEST_HASH = 6
"""Characters of a hash that name a model."""


def _newest(
    runs: pyarrow.Table, among: np.ndarray[Any, np.dtype[np.bool_]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which runs are the newest of their frames: begun last.

    Where no run of some frames says when it was begun, all of them are, as `dvfb_stream.catalog.newest` has it.
    """
    frames = compute.binary_join_element_wise(runs["parent"], runs["stream"], runs["data_key"], "\0")
    begun = runs["begun"].to_numpy()
    codes = frames.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((runs["position"].to_numpy(), begun, codes))
    order = order[among[order]]
    last = np.ones(len(order), np.bool_)
    last[:-1] = codes[order[1:]] != codes[order[:-1]]
    found = np.zeros(runs.num_rows, np.bool_)
    found[order[last]] = True
    says_nothing = np.zeros(codes.max(initial=-1) + 1, np.bool_)
    says_nothing[codes[order[last]]] = begun[order[last]] == 0
    found |= among & says_nothing[codes]
    return found


def _raw_says(texts: Any, name: str, wanted: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    path = name.split(".")
    one_of = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    return np.array([_at(json.loads(text), path) in one_of for text in texts.to_pylist()], np.bool_)


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
