"""Whatever becomes of a frame on its way, it has exactly one row, which says where it came from."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from dvfb_stream.callbacks.frames_to_rows import FramesToRows
from dvfb_stream.callbacks.pixel_reader import PixelReader
from dvfb_stream.callbacks.raw_run import _RUN_BYTES
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.frame_memory import FrameMemory

PATIENCE = 10.0
SHAPE = (4, 6)


def send(pipeline, documents):
    for name, doc in documents:
        pipeline(name, doc)


def announced(raw, start, stop):
    """Documents that announce frames in a file that is not there."""
    resource = {
        "uid": f"r {raw.uid}",
        "run_start": raw.uid,
        "data_key": "image",
        "uri": "file://localhost/nowhere/a.h5",
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "d"},
    }
    datum = {
        "uid": f"r {raw.uid}/{start}",
        "stream_resource": resource["uid"],
        "descriptor": raw._descriptors["primary"],
        "indices": {"start": start, "stop": stop},
        "seq_nums": {"start": start + 1, "stop": stop + 1},
    }
    return [("stream_resource", resource), ("stream_datum", datum)]


def test_pixels_that_cannot_be_kept_cost_one_row(make_pipeline, recorder, raw_documents, monkeypatch):
    take_over = FrameMemory.take_over

    def exhausted(memory, image):
        if image[0, 0] == 20:
            raise MemoryError("no 18 GB")
        return take_over(memory, image)

    monkeypatch.setattr(FrameMemory, "take_over", exhausted)
    pipeline, stored, raw = None, [], raw_documents()
    pipeline = make_pipeline(on_run_stored=stored.append)
    send(pipeline, raw.whole(10, 20, 30))
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert recorder.rows()[1]["reason"] == "the frame could not be kept: MemoryError: no 18 GB"
    assert stored == [raw.uid]


def test_a_frame_larger_than_its_geometry_is_not_even_copied(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    endless = np.broadcast_to(np.zeros((), np.uint16), (10**6, 10**6))
    send(pipeline, [raw.start(), raw.descriptor(), raw.event(image=endless), raw.frame(10), raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["failed", "ok"]
    assert recorder.rows()[0]["reason"].startswith("the frame has shape (1000000, 1000000), but its geometry")


class Fails:
    def geometry_in(self, start, descriptor, data_key):
        return start["nobody wrote this"]


class FindsNothing:
    def geometry_in(self, start, descriptor, data_key):
        return None


@pytest.mark.parametrize(
    ("finder", "reason"),
    [
        (Fails(), "looking for the geometry of 'other' raised KeyError: 'nobody wrote this'"),
        (FindsNothing(), "what was found as the geometry of 'other' is no Geometry, but NoneType"),
    ],
)
def test_a_geometry_that_cannot_be_found_costs_the_frames_of_its_data_key(
    make_pipeline, recorder, raw_documents, geometry, finder, reason
):
    raw, stored = raw_documents(), []
    pipeline = make_pipeline(detectors={"other": finder, "image": geometry}, on_run_stored=stored.append)
    event = raw.descriptor("other", "image"), raw.event(other=np.ones(SHAPE), image=np.full(SHAPE, 10))
    send(pipeline, [raw.start(), *event, raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert [row["reason"] for row in recorder.rows("other")] == [reason]
    assert [row["status"] for row in recorder.rows("image")] == ["ok"]
    assert stored == [raw.uid]


def test_an_annotator_that_knows_no_origins_gives_rows_with_theirs(
    make_pipeline, recorder, raw_documents, annotator
):
    annotate = annotator.annotate
    annotator.annotate = lambda frames: [replace(found, origin=None) for found in annotate(frames)]
    pipeline, documents = make_pipeline(), raw_documents().whole(10, 20)
    send(pipeline, documents)
    assert pipeline.wait(PATIENCE)
    uids = [doc["uid"] for name, doc in documents if name == "event"]
    assert [row["event_uid"] for row in recorder.rows()] == uids
    assert pipeline.annotations.latest("image").origin.index == 1


class Moves:
    def geometry_in(self, start, descriptor, data_key):
        return Geometry(shape=SHAPE, center_x=descriptor["configuration"]["x"], center_y=1.5)


def test_rows_of_a_detector_that_moves_say_with_which_centre(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline(detectors={"image": Moves()})
    send(pipeline, [raw.start()])
    for x in (1.0, 2.0, None):
        name, descriptor = raw.descriptor()
        descriptor["configuration"] = {} if x is None else {"x": x}
        send(pipeline, [(name, descriptor), raw.frame(10)])
    send(pipeline, [raw.stop()])
    assert pipeline.wait(PATIENCE)
    centres = [(row["center_x"], row["center_y"]) for row in recorder.rows()]
    assert centres[:2] == [(1.0, 1.5), (2.0, 1.5)]
    assert np.isnan(centres[2]).all()


def test_rows_have_the_number_of_their_event(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    descriptor = raw.descriptor()
    events = [
        raw.event(image=np.ones((2, *SHAPE))),
        raw.frame(10),
        raw.frame(20),
        raw.frame(30),
        raw.frame(40),
    ]
    # The largest after which there is room in 64 bits for those of a document's other frames.
    for (_, event), number in zip(events[2:], ["two", 2**62 - 1, 2**62], strict=True):
        event["seq_num"] = number
    send(pipeline, [raw.start(), descriptor, *events, raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert [row["event_seq_num"] for row in recorder.rows()] == [1, 1, 2, 0, 2**62 - 1, 0]


def test_rows_of_a_step_scan_of_ophyd_async_name_their_events(make_pipeline, recorder, tmp_path):
    from bluesky import RunEngine
    from bluesky import plans as bp
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector

    RE, events = RunEngine(), []
    RE.subscribe(lambda name, doc: events.append(doc) if name == "event" else None)
    provider = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    with init_devices():
        detector = SimBlobDetector(
            provider, PatternGenerator(sleep=lambda seconds: asyncio.sleep(0)), name="saxs"
        )
    geometry = Geometry(shape=(240, 320), center_x=1, center_y=1)
    pipeline = make_pipeline(detectors={"saxs": geometry}, max_wait=0.0)
    # Frames are read once all events have come: what fills a row in is a matter of time.
    go_on, read = threading.Event(), PixelReader._read_next
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PixelReader, "_read_next", lambda reader, source: go_on.wait(PATIENCE) and read(reader, source)
        )
        RE.subscribe(pipeline)
        RE(bp.count([detector], 3))
        go_on.set()
        assert pipeline.wait(PATIENCE)
    rows = recorder.rows("saxs")
    assert [row["event_seq_num"] for row in rows] == [1, 2, 3]
    assert [row["event_uid"] for row in rows] == [event["uid"] for event in events]
    assert [doc["time"] for doc in recorder.of("event")] == [event["time"] for event in events]


def test_a_document_that_announces_many_frames_leaves_one_object_on_the_way(
    make_pipeline, recorder, raw_documents
):
    raw, pipeline = raw_documents(), make_pipeline(patience=1000.0)
    send(pipeline, [raw.start(), raw.descriptor(external="STREAM:"), *announced(raw, 0, 100_000)])
    assert pipeline.stats().frames == pipeline.stats().reader.waiting == 100_000
    unread = pipeline.metrics.snapshot()["dvfb_unread_frames"]["values"]
    assert [entry["value"] for entry in unread] == [100_000]
    assert len(pipeline._reader._entries) == 1
    pipeline.close(timeout=0)


def test_many_frames_that_cannot_be_read_have_their_rows_from_another_thread(
    make_pipeline, recorder, raw_documents, monkeypatch
):
    threads = set()
    put = FramesToRows._put

    def watched(*arguments, **settings):
        threads.add(threading.current_thread().name)
        put(*arguments, **settings)

    monkeypatch.setattr(FramesToRows, "_put", watched)
    raw, pipeline = raw_documents(), make_pipeline(detectors=None)
    descriptor = raw.descriptor(external="STREAM:", dtype="array", shape=list(SHAPE))
    send(pipeline, [raw.start(), descriptor, *announced(raw, 0, 500), raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert len(recorder.rows()) == pipeline.stats().unreadable == 500
    assert threads == {"dvfb-reader"}


@pytest.mark.parametrize("kind", ["page", "stack", "datum", "columns"])
def test_a_document_that_is_left_out_is_counted_in_its_run(
    make_pipeline, recorder, raw_documents, monkeypatch, kind
):
    for name in ("raw_run", "frame_numbers", "frame_sequence", "document_fields"):
        monkeypatch.setattr(f"dvfb_stream.callbacks.{name}.MAX_FRAMES_IN_A_DOCUMENT", 3)
    raw, stored = raw_documents(), []
    pipeline = make_pipeline(on_run_stored=stored.append)
    send(pipeline, [raw.start(), raw.descriptor(), raw.frame(10)])
    uid = raw._descriptors["primary"]
    page = {"uid": ["a"] * 4, "descriptor": uid, "seq_num": [1] * 4, "time": [1.0] * 4}
    documents = {
        "page": [("event_page", {**page, "data": {"image": np.ones((4, *SHAPE))}})],
        "stack": [raw.event(image=np.ones((4, *SHAPE)))],
        "datum": announced(raw, 0, 4),
        "columns": [("event_page", {**page, "data": {"image": np.ones((2, *SHAPE))}})],
    }
    send(pipeline, [*documents[kind], raw.frame(20), raw.stop()])
    assert pipeline.wait(PATIENCE)
    # The event that follows was numbered after one that is left out.
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert recorder.of("stop")[0]["summary"]["rejected_documents"] == 1
    assert stored == [raw.uid]
    assert pipeline.stats().rejected_documents == 1


@pytest.mark.parametrize("time", [10**400, None, "noon", float("nan")])
def test_a_stop_without_a_clock_ends_the_run_at_the_time_of_its_start(
    make_pipeline, recorder, raw_documents, time
):
    raw, pipeline = raw_documents(), make_pipeline()
    documents = raw.whole(10)
    documents[-1][1]["time"] = time
    send(pipeline, documents)
    assert pipeline.wait(PATIENCE)
    assert [doc["time"] for doc in recorder.of("stop")] == [1000.0]
    assert pipeline.stats().open_runs == 0


def test_open_runs_keep_no_more_of_documents_than_they_need(make_pipeline, raw_documents, geometry):
    pipeline = make_pipeline()
    for _ in range(20):
        raw = raw_documents(notes="x" * 1_000_000)
        send(pipeline, [raw.start(), raw.descriptor(notes="y" * 1_000_000)])
    kept = sum(run.n_bytes - _RUN_BYTES for run in pipeline._tracker._runs.values())
    assert kept < 100_000


def test_documents_in_which_geometries_are_looked_for_are_bounded_in_bytes(make_pipeline, raw_documents):
    pipeline = make_pipeline(detectors={"image": Moves()})
    pipeline._tracker._max_bytes = 5_000_000
    for _ in range(20):
        send(pipeline, [raw_documents(notes="x" * 1_000_000).start()])
    assert (pipeline.stats().open_runs, pipeline.stats().abandoned_runs) == (4, 16)
