from __future__ import annotations

import uuid

import event_model
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.callbacks.document_fields import DocumentError, RepeatedError
from dvfb_stream.callbacks.frame_sequence import FileFrames
from dvfb_stream.callbacks.raw_run import NOT_ANNOUNCED, RawRun
from dvfb_stream.errors import GeometryError
from dvfb_stream.frames import Geometry

GIVEN = object()


@pytest.fixture
def run(raw_documents, geometry):
    """Return a function that follows raw documents and returns their found."""

    def follow(documents, detectors=GIVEN):
        raw = RawRun(documents[0][1], {"image": geometry} if detectors is GIVEN else detectors)
        learn = {"descriptor": raw.add_descriptor, "stream_resource": raw.add_stream_resource}
        found = []
        for name, doc in documents[1:]:
            if name in learn:
                learn[name](doc)
            else:
                found.extend(raw.frames(name, doc))
        return found

    return follow


def indices(found, data_key="image", stream="primary"):
    return [
        e.origin_of(position).index
        for e in found
        for position in range(e.count)
        if (e.origin.data_key, e.origin.stream) == (data_key, stream)
    ]


def test_frames_know_the_event_that_they_came_with(run, raw_documents, geometry):
    raw = raw_documents()
    documents = [raw.start(), raw.descriptor("image"), raw.event(image=np.zeros((2, 4, 6))), raw.frame(1)]
    uids = [doc["uid"] for name, doc in documents if name == "event"]
    assert [(e.origin.event_uid, e.count) for e in run(documents)] == [(uids[0], 2), (uids[1], 1)]
    page = event_model.pack_event_page(*(doc for name, doc in documents if name == "event"))
    paged = run([*documents[:2], ("event_page", {**page, "data": {"image": [np.zeros((4, 6))] * 2}})])
    assert [e.origin.event_uid for e in paged] == uids


def test_frames_are_numbered_in_each_data_key_of_each_stream(run, raw_documents, geometry):
    raw = raw_documents()
    documents = [
        raw.start(),
        raw.descriptor("saxs", "waxs"),
        raw.descriptor("saxs", stream="dark"),
        raw.event(saxs=np.zeros((4, 6)), waxs=np.zeros((3, 4, 6))),
        raw.frame(1, key="saxs", stream="dark"),
        raw.event(saxs=np.zeros((1, 4, 6)), waxs=np.zeros((2, 4, 6))),
    ]
    found = run(documents, detectors=dict.fromkeys(("saxs", "waxs"), geometry))
    assert indices(found, "saxs") == [0, 1]
    assert indices(found, "waxs") == [0, 1, 2, 3, 4]
    assert indices(found, "saxs", "dark") == [0]
    assert all(image.shape == (4, 6) for frames in found for image in frames.pixels)
    assert all(frames.origin.run_uid == raw.uid for frames in found)


def test_an_event_page_is_as_its_events(run, raw_documents):
    raw = raw_documents()
    start, descriptor, *events = raw.whole(1, 2, 3)[:-1]
    docs = [doc for _, doc in events]
    page = {
        "descriptor": docs[0]["descriptor"],
        "uid": [doc["uid"] for doc in docs],
        "seq_num": [doc["seq_num"] for doc in docs],
        "time": [doc["time"] for doc in docs],
        "data": {"image": [doc["data"]["image"] for doc in docs]},
        "timestamps": {"image": [doc["time"] for doc in docs]},
        "filled": {"image": [True, True, True]},
    }
    from_events = run([start, descriptor, *events])
    from_page = run([start, descriptor, ("event_page", page)])
    stacked = run(
        [start, descriptor, ("event_page", page | {"data": {"image": np.stack(page["data"]["image"])}})]
    )
    for other in (from_page, stacked):
        assert [(e.origin, e.time) for e in other] == [(e.origin, e.time) for e in from_events]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(other, from_events, strict=True))


def test_only_the_data_keys_with_a_geometry_are_images(run, raw_documents):
    raw = raw_documents()
    documents = [
        raw.start(),
        raw.descriptor("image", "other"),
        raw.event(image=np.zeros((4, 6)), other=np.eye(2)),
    ]
    assert [frames.origin.data_key for frames in run(documents)] == ["image"]
    assert run(documents, detectors={}) == []


def test_without_geometries_what_looks_like_an_image_is_one(run, raw_documents):
    raw = raw_documents()
    descriptor = raw.descriptor("array", "nested", "spectrum", "number")
    specs = descriptor[1]["data_keys"]
    specs["spectrum"] |= {"shape": [5]}
    specs["number"] |= {"dtype": "number", "shape": []}
    event = raw.event(array=np.zeros((1, 4, 6)), nested=[[1, 2], [3, 4]], spectrum=np.zeros(5), number=1.0)
    found = run([raw.start(), descriptor, event], detectors=None)
    assert [frames.origin.data_key for frames in found] == ["array", "nested"]


def test_frames_in_files_are_referred_to_and_filled_ones_are_taken(run, raw_documents):
    raw = raw_documents()
    documents = [
        raw.start(),
        raw.descriptor(external="FILESTORE:"),
        raw.event(image="datum/0", filled={"image": False}),
        raw.event(image="datum/1"),
        raw.event(image=np.zeros((4, 6)), filled={"image": "datum/2"}),
    ]
    found = run(documents)
    assert [isinstance(frames.pixels, FileFrames) for frames in found] == [True, True, False]
    assert indices(found) == [0, 1, 2]
    assert not any(frames.reason for frames in found)


def test_a_stream_datum_announces_the_frames_of_each_point(run, raw_documents):
    raw = raw_documents()
    descriptor = raw.descriptor(external="STREAM:", shape=[2, 4, 6])
    resource = {
        "uid": str(uuid.uuid4()),
        "data_key": "image",
        "run_start": raw.uid,
        "uri": "file://localhost/a.h5",
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "d"},
    }
    datum = {
        "uid": str(uuid.uuid4()),
        "descriptor": descriptor[1]["uid"],
        "stream_resource": resource["uid"],
        "indices": {"start": 0, "stop": 3},
        "seq_nums": {"start": 1, "stop": 4},
    }
    documents = [raw.start(), descriptor, ("stream_resource", resource), ("stream_datum", datum)]
    (frames,) = run(documents)
    assert indices([frames]) == list(range(6))
    assert [reference.number for reference in frames.pixels] == list(range(6))
    with pytest.raises(DocumentError, match="not believed"):
        run([*documents[:-1], ("stream_datum", datum | {"indices": {"start": 0, "stop": 10**12}})])


class Moves:
    """Finds the centre in each descriptor, as a detector that is moved has it."""

    def __init__(self):
        self.asked = 0

    def geometry_in(self, start, descriptor, data_key):
        self.asked += 1
        if "centre" not in descriptor["configuration"]:
            raise GeometryError(f"nobody knows where {data_key} is")
        return Geometry(shape=(4, 6), center_x=descriptor["configuration"]["centre"], center_y=0)


def test_each_descriptor_has_its_geometry_asked_for_once(run, raw_documents):
    raw, finder = raw_documents(), Moves()
    documents = [raw.start()]
    for centre in (1.0, 2.0, None):
        name, descriptor = raw.descriptor()
        descriptor["configuration"] = {} if centre is None else {"centre": centre}
        documents += [(name, descriptor), raw.frame(1), raw.frame(1)]
    found = run(documents, detectors={"image": finder})
    assert [e.geometry and e.geometry.center_x for e in found] == [1.0, 1.0, 2.0, 2.0, None, None]
    assert found[-1].reason == "nobody knows where image is"
    assert finder.asked == 3


def test_a_value_that_is_no_image_is_one_failed_frame(run, raw_documents):
    raw = raw_documents()
    found = run([raw.start(), raw.descriptor(), raw.event(image=3.0), raw.frame(1)])
    assert [bool(frames.reason) for frames in found] == [True, False]
    assert indices(found) == [0, 1]


def test_documents_without_a_clock_take_the_time_before_them(run, raw_documents):
    raw = raw_documents()
    start, descriptor, event = raw.start(), raw.descriptor(), raw.frame(1)
    event[1]["time"] = "noon"
    assert run([start, descriptor, event])[0].time == descriptor[1]["time"]
    descriptor[1]["time"] = float("nan")
    assert run([start, descriptor, event])[0].time == start[1]["time"]


@given(
    announced=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12))),
    each=st.integers(1, 3),
    second=st.booleans(),
)
def test_points_are_announced_as_sets_whatever_the_order(announced, each, second):
    raw = RawRun({"uid": "run"}, None)
    image = {"dtype": "array", "shape": [each, 4, 6]}
    raw.add_descriptor({"uid": "d", "run_start": "run", "data_keys": {"image": image}})
    resource = {"data_key": "image", "uri": "file:///a.h5", "mimetype": "application/x-hdf5"}
    before = 0
    if second:  # a file before, whose frames have the first numbers
        raw.add_stream_resource({**resource, "uid": "first", "parameters": {"dataset": "d"}})
        datum = {"descriptor": "d", "stream_resource": "first", "indices": {"start": 0, "stop": 50}}
        before = sum(frames.count for frames in raw.frames("stream_datum", datum))
    raw.add_stream_resource({**resource, "uid": "r", "parameters": {"dataset": "d"}})
    known = set()
    for start, count in announced:
        datum = {
            "descriptor": "d",
            "stream_resource": "r",
            "indices": {"start": start, "stop": start + count},
            "seq_nums": {"start": start + 1, "stop": start + count + 1},
        }
        new = sorted(set(range(start, start + count)) - known)
        known |= set(new)
        if count and not new:
            with pytest.raises(RepeatedError):
                raw.frames("stream_datum", datum)
            continue
        found = raw.frames("stream_datum", datum)
        numbers = [point * each + frame for point in new for frame in range(each)]
        assert indices(found) == [before + number for number in numbers]
        assert [reference.number for frames in found for reference in frames.pixels] == numbers
        seq_nums = [frames.seq_num_of(position) for frames in found for position in range(frames.count)]
        assert seq_nums == [number // each + 1 for number in numbers]
    lost = set(range(max(known, default=-1) + 1)) - known
    assert sorted(indices(raw.lost_frames())) == [
        before + point * each + frame for point in sorted(lost) for frame in range(each)
    ]
    assert raw.lost_frames() == []


def test_points_that_another_stream_was_taken_to_have_are_taken_from_it(raw_documents):
    raw = RawRun({"uid": "run"}, None)
    image = {"dtype": "array", "shape": [4, 6]}
    for stream in ("dark", "primary"):
        raw.add_descriptor({"uid": stream, "run_start": "run", "name": stream, "data_keys": {"image": image}})
    known = {"uid": "r", "data_key": "image", "uri": "file:///a.h5", "mimetype": "application/x-hdf5"}
    raw.add_stream_resource({**known, "parameters": {"dataset": "d"}})

    def frames(stream, start, stop):
        indices = {"start": start, "stop": stop}
        return raw.frames("stream_datum", {"descriptor": stream, "stream_resource": "r", "indices": indices})

    assert indices(frames("dark", 0, 5), stream="dark") == [0, 1, 2, 3, 4]
    assert indices(frames("primary", 9, 11)) == [4, 5]
    found = frames("dark", 6, 8)
    assert indices(found, stream="dark") == [5, 6]
    assert [reference.number for reference in found[0].pixels] == [6, 7]
    assert indices(found) == [1, 2]
    assert found[1].reason == NOT_ANNOUNCED
    with pytest.raises(RepeatedError):
        frames("dark", 6, 8)
    assert indices(frames("primary", 5, 9)) == [0, 3]
    assert raw.lost_frames() == []
    assert raw.counts == {("dark", "image"): 7, ("primary", "image"): 6}
