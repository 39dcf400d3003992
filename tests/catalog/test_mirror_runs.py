"""What is known of analysis runs, whoever wrote their metadata."""

from __future__ import annotations

import pytest

from dvfb_stream.catalog.mirror.runs import table_of, understood

ANALYSIS = {"kind": "dvfb-annotation", "parent": "raw"}
GOOD = {"start": {"uid": "good", "time": 1.0, "analysis": ANALYSIS}, "stop": {"summary": {"frames": 2}}}


@pytest.mark.parametrize(
    "said",
    [
        {"start": {"analysis": ANALYSIS | {"model": "default"}}},
        {"start": {"analysis": ANALYSIS | {"raw": [1]}}},
        {"start": {"analysis": ANALYSIS, "time": "yesterday"}},
        {"stop": {"summary": [1]}},
        {"stop": {"summary": {"frames": 10**400}}},
        {"stop": "done"},
    ],
)
def test_a_run_that_cannot_be_understood_is_named_and_hides_no_other(said, caplog):
    table = table_of([(0, "bad", GOOD | said), (1, "good", GOOD)])
    assert table["uid"].to_pylist() == ["bad", "good"]
    assert table["is_finished"].to_pylist() == [True, True]
    assert understood(table)["uid"].to_pylist() == ["good"]
    assert "analysis run bad cannot be understood" in caplog.text
    assert "run good" not in caplog.text
