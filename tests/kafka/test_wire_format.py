"""The decoder reads everything that beamlines publish and refuses everything else, whatever the bytes."""

import os
import pickle
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import example, given, settings

from dvfb_stream.daemon.settings import MAX_MESSAGE_BYTES, KafkaSettings
from dvfb_stream.kafka.wire_format import MAX_DEPTH, MAX_ITEMS, MessageError, decode


def encode(content):
    """What bluesky_kafka's publisher puts on the wire."""
    return msgpack_numpy.packb(content)


def equal(left, right):
    """Equality of documents, arrays by type, shape and bytes, NaN included; tuples travel as lists."""
    if isinstance(left, np.ndarray | np.generic):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right or (left != left and right != right)


def event(value):
    return ["event", {"data": {"det": value}}]


# ------------------------------------------------------------------ what beamlines publish

numbers = (
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes()
    | hnp.complex_number_dtypes()
     | hnp.unicode_string_dtypes(max_len=4) | hnp.byte_string_dtypes(max_len=4)
)  # fmt: skip
structured = st.sampled_from(
    [
        np.dtype([("x", "<f8"), ("n", "<u2")]),
        np.dtype([("roi", [("min", "<i4"), ("max", ">i4")]), ("counts", "<u4", (2, 3)), ("name", "<U3")]),
    ]
)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)) | hnp.arrays(
    structured, st.integers(0, 3)
)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
documents = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        scalars | arrays | st.complex_numbers(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(["start", "event", "event_page", "stop", "stream_datum"]), document=documents)
def test_what_the_publisher_encodes_comes_back_equal(name, document):
    decoded_name, decoded = decode(encode((name, document)))
    assert decoded_name == name
    assert equal(decoded, document)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_detector_frame_comes_back_with_its_type_and_pixels(order):
    frame = np.random.default_rng(0).integers(0, 2**16, (195, 487), dtype=np.uint16)
    _, document = decode(encode(event(np.array(frame, order=order))))
    pixels = document["data"]["det"]
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, frame)


def test_numpy_numbers_come_back_as_numpy_numbers():
    _, document = decode(encode(event([np.float32(1.5), np.uint16(7), np.bool_(True)])))
    assert [type(value) for value in document["data"]["det"]] == [np.float32, np.uint16, np.bool_]
    assert document["data"]["det"] == [1.5, 7, True]


def test_text_keys_that_look_like_an_array_are_left_alone():
    lookalike = {"nd": True, "type": "|O", "kind": "O", "shape": [1], "data": "x", "complex": True}
    assert decode(encode(event(lookalike)))[1]["data"]["det"] == lookalike


# ------------------------------------------------------------------ what nobody may make us do


class Sentinel:
    """Unpickling it creates a folder: the trace that code of a message ran."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def array(**fields):
    content = {b"nd": True, b"type": "<u2", b"kind": b"", b"shape": [2], b"data": b"\0" * 4}
    content.update({name.encode(): value for name, value in fields.items()})
    return content


HOSTILE = {
    "object type, no kind": array(type="|O", data=b"\0" * 16),
    "object type, short spelling": array(type="O8", data=b"\0" * 16),
    "object type, by name": array(type="object", data=b"\0" * 16),
    "object type as bytes": array(type=b"|O", data=b"\0" * 16),
    "comma-separated fields with objects": array(type="i8,O", data=b"\0" * 32),
    "sub-array in the type": array(type="(2,)O", data=b"\0" * 32),
    "type as a list without kind": array(type=[["a", "|O"]], data=b"\0" * 16),
    "structured with an object": array(type=[["a", "<i4"], ["b", "|O"]], kind=b"V", data=b"\0" * 24),
    "nested structured with an object": array(type=[["a", [["b", "|O"]]]], kind=b"V", data=b"\0" * 16),
    "structured with an object sub-array": array(type=[["a", "|O", [2]]], kind=b"V", data=b"\0" * 32),
    "object kind, numeric type": array(kind=b"O"),
    "object kind as text": array(kind="O"),
    "unknown kind": array(kind=b"P"),
    "variable-width strings": array(type="|T16", data=b"\0" * 32),
    "no bytes an item": array(type="|S0", shape=[2**31 - 1], data=b""),
    "type missing": array(type=None),
    "type a number": array(type=3),
    "negative length": array(shape=[-2]),
    "two negative lengths": array(shape=[-1, -2]),
    "huge length": array(shape=[2**62]),
    "lengths that overflow to the right size": array(shape=[2**31, 2**31, 4], data=b""),
    "many dimensions": array(shape=[1] * 65, data=b"\0\0"),
    "a length that is true": array(shape=[True, 2]),
    "a length that is a float": array(shape=[2.0]),
    "shape a number": array(shape=2),
    "shape missing": array(shape=None),
    "too few bytes": array(data=b"\0" * 3),
    "too many bytes": array(data=b"\0" * 6),
    "data as text": array(data="abcd"),
    "data missing": array(data=None),
    "field without name": array(type=[[1, "<u2"]], kind=b"V"),
    "field shape negative": array(type=[["a", "<u2", [-1]]], kind=b"V"),
    "fields without end": array(type=[[str(i), "<u2"] for i in range(5000)], kind=b"V"),
    "number of object type": {b"nd": False, b"type": "|O", b"data": b"\0" * 8},
    "number without bytes": {b"nd": False, b"type": "<f8", b"data": b""},
    "complex number that is code": {b"complex": True, b"data": "__import__('os').abort()"},
    "bytes keys": {b"other": 1},
    "extension": msgpack.ExtType(5, b"payload"),
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_arrays_are_refused(content):
    with pytest.raises(MessageError):
        decode(msgpack.packb(event(content)))


def test_pickles_are_refused_and_never_run(tmp_path):
    trace = tmp_path / "unpickled"
    bomb = pickle.dumps(np.array([Sentinel(trace)], dtype=object))
    hostile = [
        encode(event(np.array([Sentinel(trace)], dtype=object))),
        msgpack.packb(event({b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": bomb})),
        msgpack.packb(event({b"nd": True, b"kind": b"O", b"data": bomb})),
        msgpack.packb(event({b"nd": True, b"type": "<u2", b"kind": b"O", b"shape": [1], b"data": bomb})),
        bomb,
    ]
    for message in hostile:
        with pytest.raises(MessageError):
            decode(message)
    assert not trace.exists()
    pickle.loads(bomb)
    assert trace.exists()  # the sentinel would have told


def test_the_decoder_holds_in_a_process_that_bluesky_kafka_has_patched(tmp_path):
    trace = tmp_path / "unpickled"
    message = encode(event(np.array([Sentinel(trace)], dtype=object)))
    script = f"""
import bluesky_kafka, msgpack
from dvfb_stream.kafka.wire_format import MessageError, decode
assert msgpack.unpackb.__module__ == "msgpack_numpy"
try:
    decode({message!r})
except MessageError as error:
    print("refused")
import numpy as np
frame = np.arange(6, dtype=np.uint16).reshape(2, 3)
name, document = decode(msgpack.dumps(("event", {{"data": frame}})))
assert document["data"].dtype == np.uint16 and (document["data"] == frame).all()
"""
    # The class that the pickle names need not be importable there: os.mkdir is all that it calls.
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (0, "refused\n"), result.stderr
    assert not trace.exists()


def nested(depth):
    content = 0
    for _ in range(depth):
        content = [content]
    return content


MALFORMED = {
    "nothing": b"",
    "no value": None,
    "not msgpack": b"\xc1",
    "a number": msgpack.packb(1),
    "a triple": msgpack.packb(["event", {}, 1]),
    "a map": msgpack.packb({"event": {}}),
    "no such document": msgpack.packb(["evil", {}]),
    "name not text": msgpack.packb([1, {}]),
    "name a list": msgpack.packb([["event"], {}]),
    "document not a map": msgpack.packb(["event", []]),
    "document an array": encode(["event", np.zeros(3)]),
    "two documents": msgpack.packb(["event", {}]) * 2,
    "integer keys": msgpack.packb(["event", {1: 2}]),
    "deep": msgpack.packb(event(nested(MAX_DEPTH))),
    "deeper than msgpack goes": b"\x91" * 5000,
    "list that claims four milliard items": b"\x92\xa5event\xdd\xff\xff\xff\xff",
    "bytes that claim four gigabytes": b"\x92\xa5event\xc6\xff\xff\xff\xff",
    "invalid text": b"\x92\xa5event\x81\xa1\xff\x00",
    "not a unicode surrogate": b"\x92\xa5event\x81\xa3\xed\xa0\x80\x00",
    "time stamp out of range": b"\x92\xa5event\xc7\x0c\xff" + b"\xff" * 12,
    "more items than allowed": msgpack.packb(event([[0] * (MAX_ITEMS // 8)] * 9)),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_refused(message):
    with pytest.raises(MessageError):
        decode(message)


def test_a_message_cut_short_anywhere_is_refused():
    message = encode(event(np.arange(12, dtype=np.uint16).reshape(3, 4)))
    for length in range(len(message)):
        with pytest.raises(MessageError):
            decode(message[:length])


def test_a_message_over_the_size_limit_is_refused_unread():
    message = encode(event(np.zeros(1000)))
    with pytest.raises(MessageError, match="more than the 100 allowed"):
        decode(message, max_bytes=100)


def test_a_frame_of_sixteen_megapixels_of_32_bits_passes_and_larger_ones_where_that_is_configured():
    message = encode(event(np.zeros((4096, 4096), np.int32)))
    _, document = decode(message)
    (image,) = document["data"].values()
    assert image.nbytes == 64 << 20
    assert len(message) < KafkaSettings(bootstrap_servers=["a:1"], topics=["t"]).max_message_bytes
    larger = KafkaSettings(bootstrap_servers=["a:1"], topics=["t"], max_message_bytes=MAX_MESSAGE_BYTES)
    assert larger.max_message_bytes == 1 << 30


def never_anything_but_a_message_error(message):
    try:
        name, document = decode(message)
    except MessageError:
        return
    assert isinstance(name, str)
    assert isinstance(document, dict)


@settings(deadline=None, max_examples=60)
@given(message=st.binary(max_size=200))
@example(message=b"\x92\xa5event\x80")
def test_random_bytes_raise_nothing_else(message):
    never_anything_but_a_message_error(message)


@settings(deadline=None, max_examples=60)
@given(document=documents, data=st.data())
def test_a_corrupted_document_raises_nothing_else(document, data):
    message = bytearray(encode(("event", document)))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    never_anything_but_a_message_error(bytes(message))


messy = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=16)
    | st.text(max_size=6)
)
types = st.deferred(lambda: dtype_like | messy | st.lists(fields, max_size=3))
fields = st.deferred(lambda: st.tuples(st.text(max_size=2), types).map(list))
dtype_like = st.sampled_from(
    [
        "|O",
        "O",
        "<u2",
        "|b1",
        "<U1",
        "|V0",
        "<M8[ns]",
        "<m8[0s]",
        "<f16",
        "<f3",
        "f",
        "|T16",
        "?",
        "V2147483647",
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    content=st.fixed_dictionaries(
        {b"nd": st.booleans() | messy, b"type": types},
        optional={b"kind": st.sampled_from([b"", b"V", b"O"]) | messy,
                  b"shape": st.lists(st.integers(-1, 2**33), max_size=3) | messy,
                  b"data": st.binary(max_size=16) | messy,
                  b"complex": messy},
    )
)  # fmt: skip
def test_random_array_descriptions_raise_nothing_else(content):
    never_anything_but_a_message_error(msgpack.packb(event(content)))
