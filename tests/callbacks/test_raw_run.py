from __future__ import annotations

import uuid

import event_model
import numpy as np
import pytest

from dvfb_stream.callbacks.documents import DocumentError
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.errors import GeometryError
from dvfb_stream.frames import Geometry

GIVEN = object()


@pytest.fixture
def run(raw_documents, geometry):
    """Return a function that follows raw documents and returns their exposures."""

    def follow(documents, detectors=GIVEN):
        take = {
            "event": RawRun.exposures_in_event,
            "event_page": RawRun.exposures_in_event_page,
            "stream_datum": RawRun.exposures_in_stream_datum,
        }
        raw = RawRun(documents[0][1], {"image": geometry} if detectors is GIVEN else detectors)
        learn = {"descriptor": raw.add_descriptor, "stream_resource": raw.assets.add_stream_resource}
        exposures = []
        for name, doc in documents[1:]:
            if name in take:
                exposures.extend(take[name](raw, doc))
            elif name in learn:
                learn[name](doc)
        return exposures

    return follow


def indices(exposures, data_key="image", stream="primary"):
    return [
        e.origin_of(position).index
        for e in exposures
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
    exposures = run(documents, detectors=dict.fromkeys(("saxs", "waxs"), geometry))
    assert indices(exposures, "saxs") == [0, 1]
    assert indices(exposures, "waxs") == [0, 1, 2, 3, 4]
    assert indices(exposures, "saxs", "dark") == [0]
    assert all(image.shape == (4, 6) for exposure in exposures for image in exposure.images)
    assert all(exposure.origin.run_uid == raw.uid for exposure in exposures)


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
        assert all(np.array_equal(a.images, b.images) for a, b in zip(other, from_events, strict=True))


def test_only_the_data_keys_with_a_geometry_are_images(run, raw_documents):
    raw = raw_documents()
    documents = [
        raw.start(),
        raw.descriptor("image", "other"),
        raw.event(image=np.zeros((4, 6)), other=np.eye(2)),
    ]
    assert [exposure.origin.data_key for exposure in run(documents)] == ["image"]
    assert run(documents, detectors={}) == []


def test_without_geometries_what_looks_like_an_image_is_one(run, raw_documents):
    raw = raw_documents()
    descriptor = raw.descriptor("array", "nested", "spectrum", "number")
    specs = descriptor[1]["data_keys"]
    specs["spectrum"] |= {"shape": [5]}
    specs["number"] |= {"dtype": "number", "shape": []}
    event = raw.event(array=np.zeros((1, 4, 6)), nested=[[1, 2], [3, 4]], spectrum=np.zeros(5), number=1.0)
    exposures = run([raw.start(), descriptor, event], detectors=None)
    assert [exposure.origin.data_key for exposure in exposures] == ["array", "nested"]


def test_frames_in_files_are_referred_to_and_filled_ones_are_taken(run, raw_documents):
    raw = raw_documents()
    documents = [
        raw.start(),
        raw.descriptor(external="FILESTORE:"),
        raw.event(image="datum/0", filled={"image": False}),
        raw.event(image="datum/1"),
        raw.event(image=np.zeros((4, 6)), filled={"image": "datum/2"}),
    ]
    exposures = run(documents)
    assert [exposure.references is not None for exposure in exposures] == [True, True, False]
    assert [exposure.images is not None for exposure in exposures] == [False, False, True]
    assert indices(exposures) == [0, 1, 2]
    assert not any(exposure.reason for exposure in exposures)


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
    (exposures,) = run(documents)
    assert indices([exposures]) == list(range(6))
    assert [reference.number for reference in exposures.references] == list(range(6))
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
    exposures = run(documents, detectors={"image": finder})
    assert [e.geometry and e.geometry.center_x for e in exposures] == [1.0, 1.0, 2.0, 2.0, None, None]
    assert exposures[-1].reason == "nobody knows where image is"
    assert finder.asked == 3


def test_a_value_that_is_no_image_is_one_failed_frame(run, raw_documents):
    raw = raw_documents()
    exposures = run([raw.start(), raw.descriptor(), raw.event(image=3.0), raw.frame(1)])
    assert [bool(exposure.reason) for exposure in exposures] == [True, False]
    assert indices(exposures) == [0, 1]


def test_documents_without_a_clock_take_the_time_before_them(run, raw_documents):
    raw = raw_documents()
    start, descriptor, event = raw.start(), raw.descriptor(), raw.frame(1)
    event[1]["time"] = "noon"
    assert run([start, descriptor, event])[0].time == descriptor[1]["time"]
    descriptor[1]["time"] = float("nan")
    assert run([start, descriptor, event])[0].time == start[1]["time"]
