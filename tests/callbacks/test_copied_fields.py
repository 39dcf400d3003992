"""Whatever somebody wrote into a start document, analysis runs are valid and plain JSON."""

from __future__ import annotations

import json
import threading

import event_model
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.callbacks.copied_fields import COPIED_FIELDS, MOST_ITEMS, copied_fields

# Named characters: of all of Unicode a table is built first, which takes seconds on a fresh machine.
texts = st.text(alphabet="a./é漢😀\0\n", max_size=3)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.integers(), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=6,
)


def check(start):
    copied = copied_fields(start)
    json.dumps(copied, allow_nan=False)
    event_model.schema_validators[event_model.DocumentNames.start].validate(
        {"uid": "u", "time": 1.0, **copied}
    )
    return copied


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(COPIED_FIELDS, anything)))
def test_what_is_copied_is_always_valid(start):
    check(start)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scan_id", "abc"),
        ("scan_id", 7.5),
        ("scan_id", [1, 2]),
        ("scan_id", 10**400),
        ("scan_id", True),
        ("scan_id", 2**63),
        ("sample_name", 2**63),
        ("data_session", 5),
        ("sample_name", {"a.b": 1}),
        ("sample_name", {1: 2}),
        ("sample_name", threading.Lock()),
        ("sample_name", (n for n in [1])),
        ("proposal", {"id": 10**30}),
        ("proposal", list(range(MOST_ITEMS))),
    ],
)
def test_what_a_catalog_cannot_keep_is_left_out_and_the_rest_is_copied(name, value, caplog):
    assert check({"beamline_id": "SMI", name: value}) == {"beamline_id": "SMI"}
    assert f"the field {name!r} of run" in caplog.text


def test_texts_are_made_printable_and_short():
    copied = check({"proposal": "half a character: \ud800", "sample_name": {"a\0": "x" * 10**6}})
    assert copied["proposal"] == "half a character: \ufffd"
    assert [len(value) for value in copied["sample_name"].values()] == [1_000]


def test_the_largest_integers_of_json_writers_are_copied():
    assert check({"scan_id": 2**63 - 1, "sample_name": -(2**63) + 1}) == {
        "scan_id": 2**63 - 1,
        "sample_name": -(2**63) + 1,
    }


def test_numpy_s_numbers_and_arrays_become_plain_ones():
    start = {"scan_id": np.int64(3), "sample_name": np.arange(3), "proposal": (1.5, np.float32(2), np.nan)}
    assert check(start) == {"scan_id": 3, "sample_name": [0, 1, 2], "proposal": [1.5, 2.0, None]}


def test_what_is_copied_is_a_copy():
    tags = ["pass-1"]
    copied = check({"tiled_access_tags": tags})
    tags.append("everybody")
    assert copied == {"tiled_access_tags": ["pass-1"]}


def test_a_list_that_holds_itself_is_left_out():
    endless = []
    endless.append(endless)
    assert check({"sample_name": endless}) == {}
