from __future__ import annotations

import logging
import math
import threading

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation
from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.worker import FullQueuePolicy

PATIENCE = 10.0


def send(pipeline, documents):
    for name, doc in documents:
        pipeline(name, doc)


@pytest.fixture
def gate(annotator):
    """Hold the annotator back until the gate is set."""
    gate = threading.Event()
    annotate = annotator.annotate

    def held_back(frames):
        assert gate.wait(PATIENCE)
        return annotate(frames)

    annotator.annotate = held_back
    yield gate
    gate.set()


def test_rows_come_while_the_raw_run_goes_on(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    send(pipeline, raw.whole(10, 20)[:-1])
    assert pipeline.wait(PATIENCE)
    assert [row["frame"] for row in recorder.rows()] == [0, 1]
    assert recorder.of("stop") == []
    assert pipeline.stats().open_runs == 1


@pytest.mark.parametrize("exit_status", ["abort", "fail"])
def test_a_raw_run_that_aborts_has_a_finished_analysis_of_its_frames(
    make_pipeline, recorder, raw_documents, exit_status
):
    raw, pipeline = raw_documents(), make_pipeline()
    send(pipeline, [*raw.whole(10, 20)[:-1], raw.stop(exit_status)])
    assert pipeline.wait(PATIENCE)
    assert recorder.of("stop")[0]["summary"]["frames"] == 2


def test_a_raw_run_without_frames_has_no_analysis_but_is_stored(make_pipeline, recorder, raw_documents):
    stored = []
    raw, pipeline = raw_documents(), make_pipeline(on_run_stored=stored.append)
    send(pipeline, [raw.start(), raw.descriptor("motor"), raw.event(motor=1.0), raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert recorder.documents == []
    assert stored == [raw.uid]


def test_each_detector_and_stream_has_its_analysis_run(make_pipeline, recorder, raw_documents, geometry):
    raw = raw_documents()
    stored = []
    pipeline = make_pipeline(detectors={"saxs": geometry, "waxs": geometry}, on_run_stored=stored.append)
    send(pipeline, [raw.start(), raw.descriptor("saxs", "waxs"), raw.descriptor("saxs", stream="dark")])
    for value in (10, 20):
        send(pipeline, [raw.event(saxs=np.full((4, 6), value), waxs=np.full((2, 4, 6), value + 5))])
    send(pipeline, [raw.frame(90, key="saxs", stream="dark"), raw.stop()])
    assert pipeline.wait(PATIENCE)
    sizes = {
        (start["analysis"]["stream"], start["analysis"]["data_key"]): stop["num_events"]["annotations"]
        for start in recorder.of("start")
        for stop in recorder.of("stop")
        if stop["run_start"] == start["uid"]
    }
    assert sizes == {("primary", "saxs"): 2, ("primary", "waxs"): 4, ("dark", "saxs"): 1}
    assert [round(row["rings"], 2) for row in recorder.rows("waxs")] == [0.15, 0.15, 0.25, 0.25]
    assert stored == [raw.uid]


def test_interleaved_runs_are_kept_apart(make_pipeline, recorder, raw_documents):
    raws = [raw_documents() for _ in range(20)]
    stored = []
    pipeline = make_pipeline(on_run_stored=stored.append)
    for step in zip(*(raw.whole(n, n + 1, n + 2) for n, raw in enumerate(raws)), strict=True):
        send(pipeline, step)
    assert pipeline.wait(PATIENCE)
    run_of = {start["uid"]: start["analysis"]["parent"] for start in recorder.of("start")}
    descriptor_of = {doc["uid"]: run_of[doc["run_start"]] for doc in recorder.of("descriptor")}
    for n, raw in enumerate(raws):
        rows = [doc["data"] for doc in recorder.of("event") if descriptor_of[doc["descriptor"]] == raw.uid]
        assert [row["rings"] for row in rows] == pytest.approx([n / 100, (n + 1) / 100, (n + 2) / 100])
    assert sorted(stored) == sorted(raw.uid for raw in raws)


def test_rows_are_in_frame_order_whatever_overtakes(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline(max_wait=PATIENCE)
    # What is no image has its row at once, while the frames around it still wait for their batch.
    send(
        pipeline,
        [raw.start(), raw.descriptor(), raw.frame(10), raw.event(image="?"), raw.frame(30), raw.stop()],
    )
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert [row["frame"] for row in recorder.rows()] == [0, 1, 2]


def test_one_bad_frame_costs_one_row(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    send(pipeline, raw.whole(10, math.nan, 90))
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]


def test_an_annotator_that_raises_costs_the_frames_it_raises_for(
    make_pipeline, recorder, raw_documents, annotator
):
    annotate = annotator.annotate

    def fussy(frames):
        if any(frame.pixels[0, 0] == 20 for frame in frames):
            raise RuntimeError("device on fire")
        return annotate(frames)

    annotator.annotate = fussy
    raw, pipeline = raw_documents(), make_pipeline(max_wait=PATIENCE)
    send(pipeline, raw.whole(10, 20, 30))
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert recorder.rows()[1]["reason"] == "RuntimeError: device on fire"


def test_a_frame_without_geometry_says_how_to_give_it(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline(detectors=None)
    send(pipeline, raw.whole(10))
    assert pipeline.wait(PATIENCE)
    (row,) = recorder.rows()
    assert row["status"] == "failed"
    assert "detectors={'image': Geometry(shape=(4, 6), center_x=..., center_y=...)}" in row["reason"]
    assert recorder.of("start")[0]["analysis"]["geometry"] is None
    assert pipeline.stats().unreadable == 1


def test_a_stream_whose_images_have_no_geometry_is_mentioned_once(
    make_pipeline, recorder, raw_documents, geometry, caplog
):
    pipeline = make_pipeline(detectors={"image": geometry})
    for keys in (("imgae", "motor"), ("imgae",), ("image", "webcam")):
        raw = raw_documents()
        send(pipeline, [raw.start(), raw.descriptor(*keys), raw.stop()])
    assert pipeline.wait(PATIENCE)
    (mention,) = [record.getMessage() for record in caplog.records if "not annotated" in record.getMessage()]
    assert mention.startswith("images under 'imgae', 'motor' are not annotated: only 'image' are described")
    assert recorder.documents == []


def test_frames_that_a_full_queue_drops_have_rows_and_are_counted(
    make_pipeline, recorder, raw_documents, gate
):
    raw = raw_documents()
    pipeline = make_pipeline(policy=FullQueuePolicy.DROP_NEWEST, max_frames=2)
    send(pipeline, raw.whole(*range(10)))  # returns though nothing is annotated
    gate.set()
    assert pipeline.wait(PATIENCE)
    assert [row["frame"] for row in recorder.rows()] == list(range(10))
    assert [row["status"] for row in recorder.rows()] == ["ok"] * 2 + ["dropped"] * 8
    assert "queue was full" in recorder.rows()[5]["reason"]
    summary = recorder.of("stop")[0]["summary"]
    assert (summary["frames"], summary["failed"], summary["dropped"]) == (10, 0, 8)
    assert pipeline.stats().worker.dropped == 8


def test_a_sink_that_raises_is_left_out_of_that_run_and_the_run_is_not_called_stored(
    make_pipeline, recorder, raw_documents
):
    taken, errors, stored = [], [], []

    def fragile(name, doc):
        taken.append(name)
        if name == "event" and doc["data"]["rings"] > 0.5:
            raise OSError("disk full")

    pipeline = make_pipeline(
        sinks=[fragile, recorder], on_sink_failure=errors.append, on_run_stored=stored.append
    )
    bad, good = raw_documents(), raw_documents()
    send(pipeline, bad.whole(10, 90, 20))
    assert pipeline.wait(PATIENCE)
    send(pipeline, good.whole(10))
    assert pipeline.wait(PATIENCE)
    assert taken == ["start", "descriptor", "event", "event", "start", "descriptor", "event", "stop"]
    assert [str(error) for error in errors] == ["disk full"]
    assert len(recorder.rows()) == 4
    assert stored == [good.uid]
    assert pipeline.stats().writer.sink_failures == 1


def test_sinks_cannot_spoil_each_other_s_documents(make_pipeline, recorder, raw_documents):
    def vandal(name, doc):
        doc.pop("data", None)
        doc.get("analysis", {}).clear()

    pipeline = make_pipeline(sinks=[vandal, recorder])
    send(pipeline, raw_documents().whole(10))
    assert pipeline.wait(PATIENCE)
    assert len(recorder.rows()) == 1


def test_callbacks_that_raise_do_not_stop_the_rows(make_pipeline, recorder, raw_documents):
    def indignant(news):
        raise RuntimeError(str(news))

    pipeline = make_pipeline(on_run_stored=indignant)
    send(pipeline, raw_documents().whole(10))
    send(pipeline, raw_documents().whole(20))
    assert pipeline.wait(PATIENCE)
    assert len(recorder.rows()) == 2
    assert pipeline.stats().callback_failures == 2


def test_an_annotation_that_cannot_be_written_down_is_the_row_of_a_failed_frame(
    make_pipeline, recorder, raw_documents, annotator
):
    annotator.annotate = lambda frames: [
        Annotation(status="ok", model=annotator.identity, scores={"rings": "plenty"}) for _ in frames
    ]
    stored = []
    pipeline = make_pipeline(on_run_stored=stored.append)
    raw = raw_documents()
    send(pipeline, raw.whole(10, 20))
    assert pipeline.wait(PATIENCE)
    assert [row["status"] for row in recorder.rows()] == ["failed", "failed"]
    assert "rings = 'plenty'" in recorder.rows()[0]["reason"]
    assert recorder.of("stop")[0]["summary"]["failed"] == 2
    assert stored == [raw.uid]


def test_a_stuck_sink_holds_up_the_worker_and_not_the_scan(make_pipeline, raw_documents, caplog):
    stuck, reached, rows = threading.Event(), threading.Event(), []

    def slow(name, doc):
        reached.set()
        assert stuck.wait(PATIENCE)
        rows.append(name)

    pipeline = make_pipeline(sinks=[slow], policy=FullQueuePolicy.DROP_NEWEST, max_frames=2, max_rows=3)
    raw = raw_documents()
    with caplog.at_level(logging.ERROR):
        documents = raw.whole(*range(100))
        send(pipeline, documents[:3])
        assert reached.wait(PATIENCE)  # the first row is with the sink, and as many wait as may
        for document in documents[3:6]:
            send(pipeline, [document])
            assert pipeline._worker.drain(PATIENCE)
        send(pipeline, documents[6:])
        assert pipeline.stats().writer.pending_rows <= 31  # 10 times the bound, and the one in work
    assert "sinks are stuck" in caplog.text
    stuck.set()
    assert not pipeline.wait(PATIENCE)  # all was offered but what is lost
    stats = pipeline.stats()
    assert stats.writer.lost_rows > 0
    assert "stop" not in rows
    assert stats.open_runs == stats.stored_runs == 0


def test_frames_that_cannot_be_kept_hold_up_no_scan_though_sinks_are_stuck(make_pipeline, raw_documents):
    class NoMemory(FrameMemory):
        def copy(self, image):
            raise MemoryError("none is left")

    stuck = threading.Event()
    pipeline = make_pipeline(
        sinks=[lambda name, doc: stuck.wait(PATIENCE)],
        policy=FullQueuePolicy.DROP_NEWEST,
        max_rows=3,
        memory=NoMemory(1 << 20),
    )
    scan = threading.Thread(target=send, args=(pipeline, raw_documents().whole(*range(10))))
    scan.start()
    scan.join(PATIENCE / 4)
    held_up = scan.is_alive()
    stuck.set()
    scan.join(PATIENCE)
    assert not held_up
    assert pipeline.wait(PATIENCE)
    assert pipeline.stats().writer.rows == 10


def test_rows_that_wait_for_a_stuck_frame_do_not_fill_the_memory(
    make_pipeline, recorder, raw_documents, gate, caplog
):
    pipeline = make_pipeline(policy=FullQueuePolicy.DROP_NEWEST, max_frames=1, max_rows=2)
    with caplog.at_level(logging.ERROR):
        for name, doc in raw_documents().whole(*range(60)):
            pipeline(name, doc)
            pipeline._writer.wait(PATIENCE)  # the backlog is empty: what is kept waits for the first frame
    assert "frame 0 of the analysis run" in caplog.text
    gate.set()
    assert not pipeline.wait(PATIENCE)  # all was offered but what is lost
    stats = pipeline.stats()
    assert stats.writer.lost_rows > 0
    assert recorder.documents == []
    assert stats.open_runs == stats.stored_runs == 0


def test_a_run_delivered_again_while_open_is_not_written_twice(make_pipeline, recorder, raw_documents):
    raw = raw_documents()
    documents = raw.whole(10, 20, 30)
    stored = []
    pipeline = make_pipeline(on_run_stored=stored.append)
    send(pipeline, documents[:4])
    send(pipeline, documents)
    assert pipeline.wait(PATIENCE)
    assert [row["rings"] for row in recorder.rows()] == pytest.approx([0.1, 0.2, 0.3])
    assert recorder.of("stop")[0]["summary"]["frames"] == 3
    assert stored == [raw.uid]


def test_a_run_delivered_again_between_its_stop_and_its_last_row_is_not_written_twice(
    make_pipeline, recorder, raw_documents, gate
):
    raw = raw_documents()
    documents = raw.whole(10, 20)
    pipeline = make_pipeline()
    send(pipeline, documents)
    send(pipeline, documents)
    gate.set()
    assert pipeline.wait(PATIENCE)
    assert [name for name, _ in recorder.documents] == ["start", "descriptor", "event", "event", "stop"]


def test_closing_before_the_raw_stop_leaves_the_analysis_without_one(make_pipeline, recorder, raw_documents):
    raw = raw_documents()
    documents = raw.whole(10, 20)
    pipeline = make_pipeline()
    send(pipeline, documents[:-1])
    pipeline.close(PATIENCE)
    send(pipeline, documents[-1:])
    assert len(recorder.rows()) == 2
    assert recorder.of("stop") == []


def test_closing_in_no_time_stores_no_row_that_a_replay_would_have_to_correct(
    make_pipeline, recorder, raw_documents, gate
):
    pipeline = make_pipeline()
    send(pipeline, raw_documents().whole(10, 20))
    pipeline.close(timeout=0)
    gate.set()
    assert recorder.rows() == []


def test_runs_that_never_stop_do_not_fill_the_memory(make_pipeline, recorder, raw_documents):
    pipeline = make_pipeline(max_open_runs=3)
    raws = [raw_documents() for _ in range(10)]
    for raw in raws:
        send(pipeline, raw.whole(10)[:-1])
    send(pipeline, [raw.stop() for raw in raws])
    assert pipeline.wait(PATIENCE)
    stats = pipeline.stats()
    assert (stats.open_runs, stats.abandoned_runs, stats.stored_runs) == (0, 7, 3)
    assert len(recorder.rows()) == 10


def test_documents_that_cannot_be_placed_are_counted_and_logged_a_hundred_times(
    make_pipeline, recorder, raw_documents, caplog
):
    raw, pipeline = raw_documents(), make_pipeline()
    with caplog.at_level(logging.WARNING):
        send(pipeline, [("event", {"data": {}})] * 200)
    assert pipeline.stats().rejected_documents == 200
    assert sum("left out" in record.message for record in caplog.records) == 101
    send(pipeline, raw.whole(10))
    assert pipeline.wait(PATIENCE)
    assert len(recorder.rows()) == 1


def test_bounds_out_of_range_are_refused(make_pipeline):
    for name in ("batch_size", "max_rows", "max_open_runs"):
        with pytest.raises(SettingsError, match=name):
            make_pipeline(**{name: 0})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sinks": print}, "sinks must be a list"),
        ({"sinks": ["a"]}, "sinks must be a list"),
        (
            {"detectors": {"image": (4, 6)}},
            r"detectors\['image'\] must be a Geometry, or find one, not \(4, 6\)",
        ),
    ],
)
def test_what_can_be_no_sink_or_geometry_is_refused_at_once(annotator, settings, complaint):
    with pytest.raises(SettingsError, match=complaint):
        AnnotationPipeline(annotator, **{"sinks": [], **settings})


def test_geometries_of_two_detectors_do_not_mix(make_pipeline, recorder, raw_documents):
    wide = Geometry(shape=(4, 6), center_x=0, center_y=0)
    tall = Geometry(shape=(6, 4), center_x=0, center_y=0)
    raw = raw_documents()
    pipeline = make_pipeline(detectors={"wide": wide, "tall": tall})
    send(pipeline, [raw.start(), raw.descriptor("wide", "tall")])
    for n in range(5):
        send(pipeline, [raw.event(wide=np.full((4, 6), n), tall=np.full((6, 4), 10 + n))])
    send(pipeline, [raw.stop()])
    assert pipeline.wait(PATIENCE)
    assert [row["halo"] for row in recorder.rows("wide")] == pytest.approx([n / 100 for n in range(5)])
    assert [row["halo"] for row in recorder.rows("tall")] == pytest.approx([(10 + n) / 100 for n in range(5)])
    shapes = {s["analysis"]["data_key"]: s["analysis"]["geometry"]["shape"] for s in recorder.of("start")}
    assert shapes == {"wide": [4, 6], "tall": [6, 4]}
