"""A recording gives back what came, when it came, without what says who somebody is."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.errors import RefusedDocumentError, SettingsError
from dvfb_stream.kafka.wire_encoding import encode
from dvfb_stream.kafka.wire_format import decode
from dvfb_stream.replay.personal import PERSONAL_FIELDS, without_personal_fields
from dvfb_stream.replay.recording import Recorder, RecordingError, is_recording, read_recording
from tests.kafka.conftest import RawRun


@pytest.fixture
def recorded(tmp_path):
    """Function that records documents, one a second, and returns the files."""

    def record(documents, **options):
        moments = iter(range(1000, 10_000))
        with Recorder(tmp_path / "there", clock=lambda: float(next(moments)), **options) as recorder:
            for name, doc in documents:
                recorder(name, doc)
        return sorted((tmp_path / "there").iterdir())

    return record


def same(left, right):
    np.testing.assert_equal(left, right)


def test_each_run_has_a_file_with_its_documents_and_when_they_came(recorded):
    first, second = RawRun([1, 2]), RawRun([3])
    mixed = [*first.documents[:2], *second.documents, *first.documents[2:]]
    files = recorded(mixed)
    assert len(files) == 2
    for run in (first, second):
        (path,) = [path for path in files if run.uid in path.name]
        assert path.name.startswith("scan-7-")
        assert is_recording(path)
        script = read_recording(path)
        documents = list(script.documents)
        assert script.count == len(documents)
        same([(each.name, each.doc) for each in documents], run.documents)
        assert all(later.at > earlier.at for earlier, later in itertools.pairwise(documents))


def test_who_somebody_is_is_left_out_at_any_depth_and_nothing_else(recorded):
    run = RawRun(
        [1], sample_name="silver behenate", Operator="Ada", proposal={"pi": "Ada"},
        md=[{"user": {"email": "ada@example.org"}, "energy": 16.1}], data_session="pass-1",
    )  # fmt: skip
    (path,) = recorded(run.documents)
    start = next(iter(read_recording(path).documents)).doc
    assert b"Ada" not in path.read_bytes()
    assert b"ada@" not in path.read_bytes()
    assert start == {
        "uid": run.uid, "time": 1.0, "scan_id": 7, "sample_name": "silver behenate", "md": [{"energy": 16.1}],
        "data_session": "pass-1",
    }  # fmt: skip


def test_which_fields_is_for_who_records(recorded):
    (path,) = recorded(RawRun([1], operator="Ada", sample_name="secret").documents, without=["sample_name"])
    start = next(iter(read_recording(path).documents)).doc
    assert start["operator"] == "Ada"
    assert "sample_name" not in start


def test_events_are_as_they_were_whatever_their_data_keys_are_called():
    event = {"data": {"user": 3}, "uid": "e"}
    assert without_personal_fields("event", event) is event
    assert {"operator", "email", "proposal", "user", "pi"} <= set(PERSONAL_FIELDS)


def test_what_belongs_to_no_run_is_counted(tmp_path):
    run = RawRun([1, 2])
    with Recorder(tmp_path) as recorder:
        for name, doc in run.documents[1:]:
            recorder(name, doc)
        assert (recorder.documents, recorder.left_out) == (0, 4)
        recorder(*run.start)
        recorder("event", {"descriptor": "nobody's"})
        assert (recorder.documents, recorder.left_out) == (1, 5)


def test_a_recording_that_was_cut_is_read_up_to_there(recorded, caplog):
    run = RawRun([1, 2])
    (path,) = recorded(run.documents)
    path.write_bytes(path.read_bytes()[:-5])
    with caplog.at_level("WARNING"):
        script = read_recording(path)
        names = [each.name for each in script.documents]
    assert names == ["start", "descriptor", "event", "event"]
    assert script.count == 4
    assert "its recorder was killed" in caplog.text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no recording"),
        (b"PK\x03\x04", "is no recording"),
        (b"dvfb recording 1\n{}", "ends in its first lines"),
        (b"dvfb recording 1\n{}\n" + struct.pack(">dI", 1.0, 2**31), "is damaged"),
        (b"dvfb recording 1\n{}\n" + struct.pack(">dI", 1.0, 3) + b"abc", "document 0 of .* is none"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, complaint):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=complaint):
        list(read_recording(path).documents)


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="nothing can be recorded in"):
        Recorder(tmp_path / "file" / "below")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_every_plain_document_comes_back_over_the_wire(doc):
    assert decode(encode("start", doc)) == ("start", doc)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">u2").reshape(2, 3),
        np.arange(24.0).reshape(2, 3, 4)[:, ::2],
        np.zeros((2, 0), np.int8),
        np.array(["a", "bcd"]),
        np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
        np.array(True),
    ],
)
def test_every_array_comes_back_over_the_wire_and_as_msgpack_numpy_writes_it(array):
    msgpack_numpy = pytest.importorskip("msgpack_numpy")
    ours = encode("event", {"data": {"image": array}})
    np.testing.assert_array_equal(decode(ours)[1]["data"]["image"], array)
    assert decode(ours)[1]["data"]["image"].dtype == array.dtype
    theirs = msgpack_numpy.packb(("event", {"data": {"image": array}}))
    np.testing.assert_array_equal(decode(theirs)[1]["data"]["image"], array)


def test_what_is_no_value_of_a_document_is_refused():
    with pytest.raises(RefusedDocumentError, match="a start document cannot be published"):
        encode("start", {"a": object()})
    with pytest.raises(RefusedDocumentError, match="array of objects"):
        encode("event", {"a": np.array([object()])})
