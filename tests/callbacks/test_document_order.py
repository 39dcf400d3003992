"""Documents that overtake one another, come twice, late or never: each frame has one row, under its number."""

from __future__ import annotations

import itertools
import uuid

import h5py
import numpy as np
import pytest

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.callbacks.document_fields import MAX_FRAMES_IN_A_DOCUMENT
from dvfb_stream.callbacks.raw_run import NOT_ANNOUNCED

PATIENCE = 10.0
SHAPE = (4, 6)


class StreamDocuments:
    """Documents of one raw run whose frames lie in HDF5 files; frame n of a file has the value n."""

    def __init__(self, raw, folder, *, stream="primary", frames=12):
        self.raw, self.folder, self.stream, self.frames = raw, folder, stream, frames

    def descriptor(self, stream=None, **spec):
        return self.raw.descriptor("image", stream=stream or self.stream, external="STREAM:", **spec)

    def resource(self, **parameters):
        self.uid = str(uuid.uuid4())
        path = self.folder / f"{self.uid}.h5"
        with h5py.File(path, "w") as file:
            file["data"] = np.arange(self.frames)[:, None, None] * np.ones((1, *SHAPE))
        return "stream_resource", {
            "uid": self.uid,
            "run_start": self.raw.uid,
            "data_key": "image",
            "uri": f"file://localhost{path}",
            "mimetype": "application/x-hdf5",
            "parameters": {"dataset": "data", **parameters},
        }

    def datum(self, start, stop, *, stream=None, seq_num=None):
        first = start + 1 if seq_num is None else seq_num
        return "stream_datum", {
            "uid": f"{self.uid}/{start}",
            "stream_resource": self.uid,
            "descriptor": self.raw._descriptors[stream or self.stream],
            "indices": {"start": start, "stop": stop},
            "seq_nums": {"start": first, "stop": first + stop - start},
        }


@pytest.fixture
def streamed(raw_documents, tmp_path):
    return lambda **settings: StreamDocuments(raw_documents(), tmp_path, **settings)


def send(pipeline, documents):
    for name, doc in documents:
        pipeline(name, doc)


def values(rows):
    """The frame that each row is of, by what was read; None for a failed one."""
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    return [round(row["rings"] * 100) if row["status"] == "ok" else None for row in rows]


def test_frames_have_the_detector_s_numbers_whatever_the_order(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource()])
    send(pipeline, [docs.datum(4, 6), docs.datum(2, 4), docs.datum(0, 2), docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1, 2, 3, 4, 5]


def test_what_was_announced_before_is_announced_once(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource()])
    send(pipeline, [docs.datum(0, 3), docs.datum(0, 3), docs.datum(2, 5), docs.datum(1, 4), docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1, 2, 3, 4]
    assert pipeline.stats().repeated == 2
    assert recorder.of("stop")[0]["summary"]["rejected_documents"] == 0


def test_a_frame_that_no_document_announced_has_a_row_that_says_so_at_the_stop(
    make_pipeline, recorder, streamed
):
    docs, pipeline, stored = streamed(), None, []
    pipeline = make_pipeline(on_run_stored=stored.append)
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 1), docs.datum(4, 5)])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0]
    send(pipeline, [docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    rows = recorder.rows()
    assert values(rows) == [0, None, None, None, 4]
    assert {row["reason"] for row in rows[1:4]} == {NOT_ANNOUNCED}
    assert recorder.of("stop")[0]["summary"]["failed"] == 3
    assert pipeline.stats().frames == 5
    assert stored == [docs.raw.uid]


def test_a_long_run_does_not_wait_for_a_lost_document_until_its_end(
    make_pipeline, recorder, streamed, monkeypatch
):
    monkeypatch.setattr("dvfb_stream.callbacks.raw_run.ANNOUNCED_AHEAD", 5)
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 2)])
    send(pipeline, [docs.datum(4, 6), docs.datum(6, 8)])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1]
    send(pipeline, [docs.datum(8, 9)])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1, None, None, 4, 5, 6, 7, 8]
    send(pipeline, [docs.datum(2, 4), docs.raw.stop()])  # too late: they have their rows
    assert pipeline.wait(PATIENCE)
    assert (recorder.of("stop")[0]["summary"]["frames"], pipeline.stats().repeated) == (9, 1)


def test_a_lost_document_is_not_waited_for_longer_where_the_next_file_begins(
    make_pipeline, recorder, streamed, monkeypatch
):
    monkeypatch.setattr("dvfb_stream.callbacks.raw_run.ANNOUNCED_AHEAD", 5)
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 2), docs.datum(4, 6)])
    send(pipeline, [docs.resource(), docs.datum(0, 2)])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1]
    send(pipeline, [docs.datum(2, 3)])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1, None, None, 4, 5, 0, 1, 2]


def test_a_stream_datum_without_frames_fills_no_gap(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 2), docs.datum(6, 8)])
    send(pipeline, [docs.datum(4, 4), docs.datum(5, 3)])
    newest = pipeline.annotations.labels_of_newest("image")
    send(pipeline, [docs.datum(2, 6)])
    assert pipeline.wait(PATIENCE)
    assert newest.done()
    assert values(recorder.rows()) == list(range(8))


def test_a_gap_of_more_frames_than_a_document_may_announce_is_not_believed(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    far = MAX_FRAMES_IN_A_DOCUMENT + 2
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 1)])
    send(pipeline, [docs.datum(far, far + 1), docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0]
    assert recorder.of("stop")[0]["summary"]["rejected_documents"] == 1


def test_a_second_file_goes_on_with_the_numbers(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor()])
    send(pipeline, [docs.resource(), docs.datum(0, 2), docs.datum(2, 3)])
    send(pipeline, [docs.resource(), docs.datum(0, 1), docs.datum(2, 3), docs.datum(1, 2), docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [0, 1, 2, 0, 1, 2]


def test_two_streams_of_one_file_are_numbered_apart_and_have_no_holes(make_pipeline, recorder, streamed):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor("dark"), docs.descriptor("primary"), docs.resource()])
    for start, stream in enumerate(["dark", "dark", "primary", "primary", "dark", "primary"]):
        send(pipeline, [docs.datum(start, start + 1, stream=stream)])
    send(pipeline, [docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    streams = {start["uid"]: start["analysis"]["stream"] for start in recorder.of("start")}
    found = {"dark": [], "primary": []}
    for descriptor in recorder.of("descriptor"):
        rows = [doc["data"] for doc in recorder.of("event") if doc["descriptor"] == descriptor["uid"]]
        found[streams[descriptor["run_start"]]] = values(rows)
    assert found == {"dark": [0, 1, 4], "primary": [2, 3, 5]}


def test_a_document_waits_for_the_one_it_names(make_pipeline, recorder, streamed):
    orders = [order for order in itertools.permutations(range(4)) if order.index(0) < order.index(3)]
    for order in orders:  # of all in which the frames come after the start of their run
        docs = streamed()
        documents = [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 2)]
        pipeline = make_pipeline()
        send(pipeline, [documents[place] for place in order])
        assert pipeline.stats().waiting == 0
        send(pipeline, [docs.raw.stop()])
        assert pipeline.wait(PATIENCE)
        assert values(recorder.rows()) == [0, 1], order
        recorder.documents.clear()


def test_events_that_wait_keep_their_order_and_their_pixels(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    descriptor, buffer = raw.descriptor(), np.zeros(SHAPE)
    send(pipeline, [raw.start()])
    for value in (10, 20, 30):
        buffer[:] = value
        send(pipeline, [raw.event(image=buffer)])
    buffer[:] = 99
    assert pipeline.stats().waiting == 3
    send(pipeline, [descriptor, raw.frame(40), raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20, 30, 40]


@pytest.mark.parametrize("joined_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("saw_the_stop", [True, False])
@pytest.mark.parametrize("policy", ["block", "drop-newest"])
def test_a_run_that_was_joined_in_its_middle_and_then_delivered_whole_has_all_its_rows(
    annotator, recorder, raw_documents, geometry, joined_at, saw_the_stop, policy
):
    raw, stored = raw_documents(), []
    documents = raw.whole(10, 20, 30)
    settings = {"detectors": {"image": geometry}, "policy": policy, "on_run_stored": stored.append}
    with LiveAnnotator(annotator, sinks=[recorder], **settings) as live:
        send(live, documents[joined_at : None if saw_the_stop else -1])
        send(live, documents)
        assert live.wait(PATIENCE)
        assert values(recorder.rows()) == [10, 20, 30]
        summary = recorder.of("stop")[0]["summary"]
        assert (summary["frames"], summary["rejected_documents"]) == (3, 0)
        assert stored == [raw.uid]
        assert live.stats().waiting == 0


def test_a_descriptor_that_joins_a_run_in_its_middle_brings_no_frames_into_the_whole(
    make_pipeline, recorder, raw_documents
):
    raw, pipeline = raw_documents(), make_pipeline()
    start, first, *events = raw.whole(10, 20)[:-1]
    second = raw.descriptor()  # of the same stream: the detector was set up anew
    moved = [raw.frame(30), raw.frame(40)]
    send(pipeline, [second, moved[0], moved[1]])
    assert pipeline.stats().waiting == 3
    send(pipeline, [start, first, *events, second, *moved, raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20, 30, 40]


def test_a_stop_whose_start_did_not_come_waits_for_nothing_and_nothing_waits_for_it(
    make_pipeline, recorder, raw_documents
):
    raw, pipeline = raw_documents(), make_pipeline()
    start, *others = raw.whole(10, 20)
    send(pipeline, others)
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (0, len(others))
    send(pipeline, [raw.frame(30), raw.descriptor(stream="late")])
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (0, len(others) + 2)
    send(pipeline, [start, *others])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20]


def test_a_start_that_comes_twice_is_counted_once(make_pipeline, recorder, raw_documents):
    raw, pipeline, stored = raw_documents(), None, []
    pipeline = make_pipeline(on_run_stored=stored.append)
    start, descriptor, first, second, stop = raw.whole(10, 20)
    send(pipeline, [start, descriptor, first, start, second, stop])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20]
    assert pipeline.stats().repeated == 1
    assert stored == [raw.uid]


def test_what_waits_in_vain_is_left_out_at_the_stop_of_its_run_or_at_the_end(
    make_pipeline, recorder, streamed
):
    docs, pipeline = streamed(), make_pipeline()
    send(pipeline, [docs.raw.start(), docs.descriptor(), docs.resource(), docs.datum(0, 1)])
    docs.resource()  # which is lost
    send(pipeline, [docs.datum(0, 1), ("event", {"descriptor": "nobody's", "data": {}})])
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (2, 0)
    send(pipeline, [docs.raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert recorder.of("stop")[0]["summary"]["rejected_documents"] == 1
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (1, 1)
    pipeline.close(PATIENCE)
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (0, 2)


def test_what_comes_after_the_stop_is_left_out_at_once(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    late = raw.descriptor(stream="late")
    send(pipeline, raw.whole(10))
    assert pipeline.wait(PATIENCE)
    send(pipeline, [raw.frame(20, stream="late"), late, raw.frame(30), raw.frame(40, stream="late")])
    assert (pipeline.stats().waiting, pipeline.stats().rejected_documents) == (0, 4)


def test_an_event_that_comes_twice_counts_once_in_each_delivery(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    documents = raw.whole(10, 20)
    start, descriptor, first, second, stop = documents
    send(pipeline, [start, descriptor, first, second, first])
    assert pipeline.stats().repeated == 1
    send(pipeline, [start, descriptor, first, first, second, stop])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20]
    assert recorder.of("stop")[0]["summary"]["frames"] == 2


def test_a_run_that_comes_again_has_one_row_per_frame_though_its_events_are_forgotten(
    make_pipeline, recorder, raw_documents, monkeypatch
):
    monkeypatch.setattr("dvfb_stream.callbacks.raw_run.MOST_EVENTS", 2)
    raw, pipeline, stored = raw_documents(), None, []
    pipeline = make_pipeline(on_run_stored=stored.append)
    *begun, last, stop = raw.whole(10, 20, 30, 40, 50)
    send(pipeline, [*begun, *begun[:4], *begun, last, stop])
    assert pipeline.wait(PATIENCE)
    assert pipeline.stats().writer.repeated_rows > 0
    assert values(recorder.rows()) == [10, 20, 30, 40, 50]
    assert recorder.of("stop")[0]["summary"]["frames"] == 5
    assert stored == [raw.uid]


def test_a_run_that_comes_again_in_part_keeps_all_its_frames(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    *begun, stop = raw.whole(10, 20, 30)
    send(pipeline, [*begun, *begun[:3], stop])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20, 30]
    assert (pipeline.stats().frames, pipeline.stats().repeated) == (
        3,
        3,
    )  # what is remembered is not read again


def test_what_waited_for_a_first_delivery_comes_again_in_the_second(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    start, descriptor, first, second, stop = raw.whole(10, 20)
    send(pipeline, [start, second, start, descriptor, first, second, stop])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [10, 20]


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("rde")])
def test_old_documents_may_come_in_any_order(make_pipeline, recorder, raw_documents, tmp_path, order):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"] = np.arange(10)[:, None, None] * np.ones((10, *SHAPE))
    raw, pipeline = raw_documents(), make_pipeline()
    send(pipeline, [raw.start(), raw.descriptor(external="FILESTORE:")])
    resource = {
        "uid": f"r {raw.uid}",
        "spec": "AD_HDF5",
        "root": str(tmp_path),
        "resource_path": "a.h5",
        "resource_kwargs": {"frame_per_point": 1},
    }
    datum = {"datum_id": f"d {raw.uid}", "resource": resource["uid"], "datum_kwargs": {"point_number": 3}}
    documents = {
        "r": ("resource", resource),
        "d": ("datum", datum),
        "e": raw.event(image=datum["datum_id"], filled={"image": False}),
    }
    send(pipeline, [documents[letter] for letter in order])
    send(pipeline, [raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == [3]


def test_a_device_that_is_staged_once_serves_two_runs(make_pipeline, recorder, geometry, tmp_path):
    from bluesky import RunEngine
    from bluesky import plan_stubs as bps
    from ophyd.sim import SynSignalWithRegistry

    bright = itertools.count()
    camera = SynSignalWithRegistry(
        func=lambda: np.full(SHAPE, next(bright)),
        name="image",
        labels={"detectors"},
        save_path=str(tmp_path),
    )
    pipeline, RE = make_pipeline(), RunEngine()
    RE.subscribe(pipeline)

    def twice():
        yield from bps.stage(camera)
        for _ in range(2):
            yield from bps.open_run()
            yield from bps.trigger_and_read([camera])
            yield from bps.trigger_and_read([camera])
            yield from bps.close_run()
        yield from bps.unstage(camera)

    RE(twice())
    assert pipeline.wait(PATIENCE)
    rows = recorder.rows()
    assert [row["frame"] for row in rows] == [0, 1, 0, 1]
    found = [round(row["rings"] * 100) for row in rows]
    assert found == list(range(found[0], found[0] + 4))


@pytest.mark.parametrize("numbered", [True, False])
def test_a_stream_resource_of_an_earlier_run_serves_a_later_one(
    make_pipeline, recorder, raw_documents, tmp_path, numbered
):
    pipeline, first = make_pipeline(), StreamDocuments(raw_documents(), tmp_path)
    send(pipeline, [first.raw.start(), first.descriptor(), first.resource()])
    send(pipeline, [first.datum(0, 2), first.datum(2, 4), first.raw.stop()])
    assert pipeline.wait(PATIENCE)
    second = StreamDocuments(raw_documents(), tmp_path)
    second.uid = first.uid
    send(pipeline, [second.raw.start(), second.descriptor()])
    send(pipeline, [second.datum(start, start + 2, seq_num=start - 3 if numbered else 0) for start in (4, 6)])
    send(pipeline, [second.raw.stop()])
    assert pipeline.wait(PATIENCE)
    third = StreamDocuments(raw_documents(), tmp_path)
    third.uid = first.uid
    # Of the third run the first stream datum does not come: `seq_nums` of the next says so.
    datum = third.descriptor(), third.datum(10, 12, seq_num=3 if numbered else 0)
    send(pipeline, [third.raw.start(), *datum, third.raw.stop()])
    assert pipeline.wait(PATIENCE)
    rows = recorder.rows()
    assert values(rows[:4]) == [0, 1, 2, 3]
    assert values(rows[4:8]) == [4, 5, 6, 7]
    assert values(rows[8:]) == ([None, None, 10, 11] if numbered else [10, 11])
    assert len(recorder.of("stop")) == 3


@pytest.mark.parametrize(
    ("each", "described", "expected"), [(5, SHAPE, 10), (1, (5, *SHAPE), 2), (np.int64(5), (5, *SHAPE), 10)]
)
def test_an_area_detector_s_resource_knows_how_many_frames_a_point_has(
    make_pipeline, recorder, raw_documents, tmp_path, each, described, expected
):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"] = np.arange(10)[:, None, None] * np.ones((10, *SHAPE))
    raw, pipeline = raw_documents(), make_pipeline()
    send(pipeline, [raw.start(), raw.descriptor(external="FILESTORE:", shape=described)])
    resource = {
        "uid": raw.uid,
        "spec": "AD_HDF5",
        "root": str(tmp_path),
        "resource_path": "a.h5",
        "resource_kwargs": {"frame_per_point": each},
    }
    send(pipeline, [("resource", resource)])
    for point in range(2):
        kwargs = {"point_number": np.int64(point)}
        datum = {"datum_id": f"{raw.uid}/{point}", "resource": raw.uid, "datum_kwargs": kwargs}
        send(pipeline, [("datum", datum), raw.event(image=datum["datum_id"], filled={"image": False})])
    send(pipeline, [raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert values(recorder.rows()) == list(range(expected))


def test_nothing_that_comes_as_a_document_is_raised_at(make_pipeline):
    pipeline = make_pipeline()
    for name in ([], None, {}, np.zeros(2), "event"):
        pipeline(name, {"descriptor": 5})
        pipeline(name, [])
    pipeline("event", {"descriptor": 10**5000})
    assert pipeline.stats().rejected_documents == pipeline.stats().documents == 11
