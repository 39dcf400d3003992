"""Tables of searches have the columns that tell their lines apart, and no others."""

from __future__ import annotations

from dvfb_stream.cli.search.telling_apart import Origin, columns_apart

ONE = Origin(run="a", stream="primary", detector="saxs", model="small@1", analysis="1")


def test_columns_are_those_that_differ() -> None:
    assert columns_apart([]) == columns_apart([ONE, ONE, ONE._replace(run="b", analysis="2")]) == []
    assert columns_apart([ONE], always=("detector",)) == ["detector"]
    assert columns_apart([ONE, ONE._replace(detector="waxs", analysis="2")]) == ["detector"]
    assert columns_apart([ONE, ONE._replace(model="small@2", stream="b", analysis="2")]) == [
        "stream",
        "model",
    ]


def test_the_analysis_is_named_where_nothing_else_differs() -> None:
    assert columns_apart([ONE, ONE._replace(analysis="2")]) == ["analysis"]
    others = [
        ONE._replace(run="b", model="small@2", analysis="2"),
        ONE._replace(run="b", model="small@2", analysis="3"),
    ]
    assert columns_apart([ONE, *others]) == ["model", "analysis"]
