from __future__ import annotations

import json
import math
import pickle

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvfb_stream.catalog.spool.encoding import EncodingError, decode, encode, json_ready

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
DOCUMENTS = st.dictionaries(
    st.text(),
    st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4),
    max_size=3,
)
ARRAYS = hnp.arrays(
    st.sampled_from(["<f8", "<f4", ">u2", "<i8", "|b1", "<c16", "<U5"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@settings(deadline=None, max_examples=50)
@given(DOCUMENTS)
def test_a_document_comes_back_as_it_was(doc):
    assert decode(encode(doc)) == doc


@settings(deadline=None, max_examples=50)
@given(ARRAYS)
def test_an_array_comes_back_with_its_type_and_shape(array):
    back = decode(encode({"coefficients": array}))["coefficients"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_what_is_not_known_stays_so():
    back = decode(encode({"rings": math.nan, "novelty": math.inf, "of_numpy": np.float64("nan")}))
    assert math.isnan(back["rings"])
    assert back["novelty"] == math.inf
    assert math.isnan(back["of_numpy"])


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), 1 << 65, np.zeros(1, "f4,i4")])
def test_other_things_are_refused(value):
    with pytest.raises(EncodingError):
        encode({"value": value})


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_damaged_bytes_are_told_and_nothing_else(packed):
    try:
        doc = decode(packed)
    except EncodingError:
        return
    assert isinstance(doc, dict)


@pytest.mark.parametrize("dtype", ["|O", "O", "f4,i4", "3f4", "<M8[s]", 7])
def test_an_array_of_another_type_is_never_made(dtype):
    content = msgpack.packb((dtype, [1], pickle.dumps(print)))
    with pytest.raises(EncodingError):
        decode(msgpack.packb({"a": msgpack.ExtType(1, content)}))
    with pytest.raises(EncodingError):
        decode(msgpack.packb({"a": msgpack.ExtType(2, content)}))


@settings(deadline=None, max_examples=50)
@given(DOCUMENTS, ARRAYS)
def test_an_export_is_strict_json(doc, array):
    line = json.dumps(json_ready({"doc": doc, "array": array, "nan": math.nan}), allow_nan=False)
    assert json.loads(line)["nan"] is None
