"""Expressions hold for the frames for which plain Python says so, and summaries never contradict that."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.catalog.expression import labels_of, parse
from dvfb_stream.catalog.expression.bounds import bounds_of
from dvfb_stream.catalog.expression.evaluation import evaluate
from dvfb_stream.catalog.expression.syntax import with_least_score
from dvfb_stream.catalog.mirror.rows import SCHEMA, KeptRows
from dvfb_stream.catalog.mirror.runs import RunSummaries, table_of
from dvfb_stream.summary import Summary

NAMES = ("halo", "rings", "four_fold")
RELATIONS = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
UNKNOWN = None
NUMBERS = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]


# An expression as text, beside what plain Python says of a frame: True, False, or None where nobody knows.
@dataclass(frozen=True)
class Meant:
    text: str
    holds: Any  # (row, run) -> True, False, None


def _both(one, other):
    if one is False or other is False:
        return False
    return UNKNOWN if one is None or other is None else True


def _negated(one):
    return None if one is None else not one


def _label(name):
    def holds(row, run):
        if name in row["labels"].split(","):
            return True
        return False if row["status"] == "ok" and name in run["known"] else UNKNOWN

    return Meant(name, holds)


def _number(name, sign, value, turned):
    def holds(row, run):
        found = row[name]
        if row["status"] != "ok" or found is None or math.isnan(found):
            return UNKNOWN
        return RELATIONS[sign](found, value)

    mirrored = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(sign, sign)
    return Meant(f"{value} {mirrored} {name}" if turned else f"{name} {sign} {value}", holds)


def _doubtful(name):
    def holds(row, run):
        named = [label for label in row["doubtful"].split(",") if label]
        if (named if name is None else name in named) and True:
            return True
        known = row["status"] == "ok" and (name is None or name in run["known"])
        return False if known else UNKNOWN

    return Meant("doubtful" if name is None else f"doubtful({name})", holds)


def _status(word):
    return Meant(word, lambda row, run: row["status"] == word)


def _counted(inner, sign, value, *, share):
    def holds(row, run):
        said = [inner.holds(other, run) for other in run["rows"]]
        count, annotated = said.count(True), sum(other["status"] == "ok" for other in run["rows"])
        if all(one is None for one in said) or (share and not annotated):
            return UNKNOWN
        return RELATIONS[sign](count / annotated if share else count, value)

    return Meant(f"{'fraction' if share else 'count'}({inner.text}) {sign} {value}", holds)


def _joined(kind, parts):
    def holds(row, run):
        found = True
        for part in parts:
            one = part.holds(row, run)
            found = _both(found, _negated(one) if kind == "or" else one)
        return _negated(found) if kind == "or" else found

    return Meant(f" {kind} ".join(f"({part.text})" for part in parts), holds)


SIGNS = st.sampled_from(sorted(RELATIONS))
VALUES = st.sampled_from(NUMBERS)
STATEMENTS = st.one_of(
    st.builds(_label, st.sampled_from(NAMES)),
    st.builds(_number, st.sampled_from([*NAMES, "novelty", "fit_residual"]), SIGNS, VALUES, st.booleans()),
    st.builds(_doubtful, st.sampled_from([*NAMES, None])),
    st.builds(_status, st.sampled_from(["failed", "dropped"])),
)


def _further(inner):
    return st.one_of(
        st.builds(
            lambda one: Meant(f"not ({one.text})", lambda row, run: _negated(one.holds(row, run))), inner
        ),
        st.builds(_joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    )


PLAIN = st.recursive(STATEMENTS, _further, max_leaves=4)
COUNTED = st.one_of(
    st.builds(lambda *a: _counted(*a, share=False), PLAIN, SIGNS, st.integers(0, 4)),
    st.builds(lambda *a: _counted(*a, share=True), PLAIN, SIGNS, VALUES),
)
EXPRESSIONS = st.recursive(st.one_of(STATEMENTS, COUNTED), _further, max_leaves=5)

OK = st.fixed_dictionaries(
    {
        "status": st.just("ok"),
        **{name: st.sampled_from(NUMBERS) for name in (*NAMES, "novelty", "fit_residual")},
        "said": st.fixed_dictionaries({name: st.sampled_from(["yes", "no", "perhaps"]) for name in NAMES}),
    }
)
WITHOUT = st.fixed_dictionaries({"status": st.sampled_from(["failed", "dropped"])})
RUNS = st.lists(
    st.tuples(st.sets(st.sampled_from(NAMES)), st.lists(st.one_of(OK, OK, WITHOUT), max_size=5)),
    min_size=1,
    max_size=4,
)


def _rows(known, drawn):
    rows = []
    for frame, one in enumerate(drawn):
        said = {name: word for name, word in one.get("said", {}).items() if name in known}
        rows.append(
            {
                "frame": frame,
                "status": one["status"],
                "novelty": one.get("novelty", math.nan),
                "fit_residual": one.get("fit_residual", math.nan),
                **{name: one.get(name, math.nan) if name in known else math.nan for name in NAMES},
                "labels": ",".join(name for name, word in said.items() if word == "yes"),
                "doubtful": ",".join(name for name, word in said.items() if word == "perhaps"),
            }
        )
    return rows


def _kept(runs):
    rows = pyarrow.Table.from_pylist([row for run in runs for row in run["rows"]], schema=SCHEMA)
    counts = np.array([len(run["rows"]) for run in runs])
    return KeptRows(rows, counts, pyarrow.array([",".join(run["known"]) for run in runs], pyarrow.string()))


def _summaries(runs):
    nodes = []
    for number, run in enumerate(runs):
        summary = Summary(run["known"])
        for row in run["rows"]:
            summary.add(row)
        analysis = {"kind": "dvfb-annotation", "parent": f"raw {number}", "labels": run["known"]}
        metadata = {"start": {"analysis": analysis}, "stop": {"summary": summary.as_dict()}}
        nodes.append((number, f"run {number}", metadata))
    return RunSummaries(table_of(nodes))


@given(EXPRESSIONS, RUNS)
@settings(max_examples=300, deadline=None)
def test_it_holds_where_plain_python_says_so_and_summaries_bound_it(meant, drawn):
    runs = [{"known": sorted(known), "rows": _rows(known, rows)} for known, rows in drawn]
    expression = parse(meant.text)
    found = evaluate(expression, _kept(runs))
    expected = [meant.holds(row, run) for run in runs for row in run["rows"]]
    assert [
        True if h else False if f else None for h, f in zip(found.holds, found.fails, strict=True)
    ] == expected
    bounds = bounds_of(expression, _summaries(runs))
    first = 0
    for number, run in enumerate(runs):
        said = expected[first : first + len(run["rows"])]
        first += len(run["rows"])
        assert bounds.holds.least[number] <= said.count(True) <= bounds.holds.most[number], meant.text
        assert bounds.fails.least[number] <= said.count(False) <= bounds.fails.most[number], meant.text


RUN = {
    "known": ["halo", "rings"],
    "rows": _rows(
        {"halo", "rings"},
        [
            {
                "status": "ok",
                "halo": 0.9,
                "rings": 0.2,
                "novelty": 0.5,
                "said": {"halo": "yes", "rings": "no"},
            },
            {"status": "ok", "halo": 0.4, "rings": 0.8, "said": {"halo": "perhaps", "rings": "yes"}},
            {"status": "ok", "halo": 0.8, "rings": 0.7, "said": {"halo": "yes", "rings": "yes"}},
            {"status": "failed"},
        ],
    ),
}


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("halo", [0, 2]),
        ("not halo", [1]),
        ("halo and rings", [2]),
        ("Halo AND NOT rings", [0]),
        ("halo or rings", [0, 1, 2]),
        ("not halo or not rings", [0, 1]),
        ("not (halo and rings)", [0, 1]),
        ("halo >= 0.85", [0]),
        ("0.85 <= halo", [0]),
        ("doubtful", [1]),
        ("doubtful(halo) and rings", [1]),
        ("novelty > 0.1", [0]),
        ("failed", [3]),
        ("not failed", [0, 1, 2]),
        ("four_fold", []),
        ("not four_fold", []),
        ("not (four_fold >= 0.5)", []),
        ("count(halo) >= 2", [0, 1, 2, 3]),
        ("count(halo) >= 2 and rings", [1, 2]),
        ("count(halo and rings) == 1 and not failed", [0, 1, 2]),
        ("fraction(rings) > 0.6 and halo", [0, 2]),
        ("fraction(rings) > 0.7", []),
        ("count(four_fold) < 3", []),
        ("frame >= 2", [2, 3]),
    ],
)
def test_examples(text, frames):
    assert np.flatnonzero(evaluate(parse(text), _kept([RUN])).holds).tolist() == frames


def test_the_least_score_is_of_accepted_labels_alone():
    expression = with_least_score(parse("rings or count(halo) >= 2"), 0.75)
    assert np.flatnonzero(evaluate(expression, _kept([RUN])).holds).tolist() == [0, 1, 2, 3]
    expression = with_least_score(parse("rings or count(halo) >= 2"), 0.85)
    assert np.flatnonzero(evaluate(expression, _kept([RUN])).holds).tolist() == []


def test_a_summary_decides_what_it_can():
    runs = _summaries([RUN])
    for text, least, most in [
        ("halo", 2, 2),
        ("not halo", 1, 1),
        ("halo and rings", 0, 2),
        ("halo >= 0.95", 0, 0),
    ]:
        bounds = bounds_of(parse(text), runs).holds
        assert (bounds.least[0], bounds.most[0]) == (least, most), text


def test_labels_are_named_once_in_their_order():
    assert labels_of(parse("rings and count(halo and rings) > 2 and doubtful(four_fold)")) == (
        "rings",
        "halo",
        "four_fold",
    )
