from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky import preprocessors as bpp
from bluesky.utils import RunEngineInterrupted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ophyd import Component, Device, Signal, Staged
from ophyd.status import DeviceStatus

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.worker import Worker

SHAPE = (4, 6)
PATIENCE = 10.0


class Camera(Device):
    """An ophyd detector with inline 2-D data, which overwrites its one buffer with every exposure.

    The n-th exposure of a camera, from 0, has the brightness ``first + n``.
    """

    image = Component(Signal, value=np.zeros(SHAPE), kind="hinted")

    def __init__(self, *args, first: float = 0, shape=SHAPE, **kwargs):
        super().__init__(*args, **kwargs)
        self._buffer = np.zeros(shape)
        self._next = first

    def trigger(self):
        self._buffer[...] = self._next
        self._next += 1
        self.image._readback = self._buffer
        self.image._metadata["timestamp"] = time.time()
        status = DeviceStatus(self)
        status.set_finished()
        return status

    def stage(self):
        self._staged = Staged.no
        return super().stage()


@pytest.fixture
def run_engine():
    engine = RunEngine({}, call_returns_result=False)
    yield engine
    if engine.state != "idle":
        engine.halt()
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(PATIENCE)
    engine.loop.close()


@pytest.fixture
def live(annotator, recorder, geometry):
    with LiveAnnotator(annotator, sinks=[recorder], detectors={"cam_image": geometry}) as live:
        yield live


def test_a_scan_is_annotated_frame_by_frame(run_engine, live, recorder):
    run_engine.subscribe(live)
    (uid,) = run_engine(bp.count([Camera(name="cam")], num=80), sample_name="lamella")
    assert live.wait(PATIENCE)
    assert [row["rings"] for row in recorder.rows("cam_image")] == pytest.approx([n / 100 for n in range(80)])
    (start,) = recorder.of("start")
    assert start["analysis"]["parent"] == uid
    assert start["analysis"]["raw"] == {"scan_id": 1, "sample_name": "lamella"}
    assert recorder.of("stop")[0]["summary"]["rings"]["count"] == 29  # brightness 51 to 79
    for name, doc in recorder.documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)


def test_two_detectors_of_different_shape_have_an_analysis_run_each(run_engine, annotator, recorder):
    detectors = {
        "saxs_image": Geometry(shape=(4, 6), center_x=0, center_y=0),
        "waxs_image": Geometry(shape=(6, 4), center_x=0, center_y=0),
    }
    with LiveAnnotator(annotator, sinks=[recorder], detectors=detectors) as live:
        run_engine.subscribe(live)
        run_engine(
            bp.count([Camera(name="saxs", first=10), Camera(name="waxs", first=60, shape=(6, 4))], num=5)
        )
    assert [row["labels"] for row in recorder.rows("saxs_image")] == [""] * 5
    assert [row["labels"] for row in recorder.rows("waxs_image")] == ["rings"] * 5
    assert len(recorder.of("stop")) == 2


def test_interleaved_runs_are_kept_apart(run_engine, live, recorder):
    one, two = Camera(name="cam", first=10), Camera(name="cam", first=60)

    def exposures(camera, key):
        @bpp.set_run_key_decorator(key)
        @bpp.run_decorator(md={"sample_name": key})
        def plan(inside):
            yield from bps.trigger_and_read([camera])
            yield from inside()
            yield from bps.trigger_and_read([camera])

        return plan

    def nothing():
        yield from bps.null()

    run_engine.subscribe(live)
    run_engine(exposures(one, "outer")(lambda: exposures(two, "inner")(nothing)))
    assert live.wait(PATIENCE)
    scores = {}
    for start in recorder.of("start"):
        (descriptor,) = (doc for doc in recorder.of("descriptor") if doc["run_start"] == start["uid"])
        events = (doc for doc in recorder.of("event") if doc["descriptor"] == descriptor["uid"])
        scores[start["analysis"]["raw"]["sample_name"]] = [round(doc["data"]["rings"], 2) for doc in events]
    assert scores == {"outer": [0.10, 0.11], "inner": [0.60, 0.61]}


def test_a_plan_that_is_aborted_has_the_rows_of_its_frames(run_engine, live, recorder):
    camera = Camera(name="cam")

    @bpp.run_decorator()
    def plan():
        for _ in range(3):
            yield from bps.trigger_and_read([camera])
        yield from bps.pause()

    run_engine.subscribe(live)
    with pytest.raises(RunEngineInterrupted):
        run_engine(plan())
    run_engine.abort("enough")
    assert live.wait(PATIENCE)
    assert len(recorder.rows("cam_image")) == 3
    assert recorder.of("stop")[0]["summary"]["frames"] == 3


def test_a_plan_that_fails_fails_as_without_us(run_engine, live, recorder):
    camera = Camera(name="cam")

    @bpp.run_decorator()
    def plan():
        yield from bps.trigger_and_read([camera])
        raise RuntimeError("shutter stuck")

    run_engine.subscribe(live)
    with pytest.raises(RuntimeError, match="shutter stuck"):
        run_engine(plan())
    assert live.wait(PATIENCE)
    assert recorder.of("stop")[0]["summary"]["frames"] == 1


def test_points_taken_again_after_a_pause_are_frames_of_their_own(run_engine, live, recorder):
    camera = Camera(name="cam")
    paused = threading.Event()

    @bpp.run_decorator()
    def plan():
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([camera])
        if not paused.is_set():
            paused.set()
            yield from bps.pause()
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([camera])

    run_engine.subscribe(live)
    with pytest.raises(RunEngineInterrupted):
        run_engine(plan())
    run_engine.resume()
    assert live.wait(PATIENCE)
    assert [row["frame"] for row in recorder.rows("cam_image")] == [0, 1, 2]
    assert [row["rings"] for row in recorder.rows("cam_image")] == pytest.approx([0.0, 0.01, 0.02])


@pytest.mark.parametrize("fault", ["annotator", "sink"])
def test_whatever_breaks_here_the_plan_succeeds(run_engine, annotator, recorder, geometry, fault):
    def broken(*args):
        raise RuntimeError("broken")

    if fault == "annotator":
        annotator.annotate = broken
    sinks = [broken, recorder] if fault == "sink" else [recorder]
    with LiveAnnotator(annotator, sinks=sinks, detectors={"cam_image": geometry}) as live:
        run_engine.subscribe(live)
        (uid,) = run_engine(bp.count([Camera(name="cam")], num=3))
    assert uid
    statuses = {row["status"] for row in recorder.rows("cam_image")}
    assert statuses == {"failed" if fault == "annotator" else "ok"}


def test_a_scan_does_not_wait_for_a_slow_annotator(run_engine, annotator, recorder, geometry):
    gate = threading.Event()
    annotate = annotator.annotate
    annotator.annotate = lambda frames: annotate(frames) if gate.wait(PATIENCE) else []
    live = LiveAnnotator(annotator, sinks=[recorder], detectors={"cam_image": geometry}, max_frames=4)
    run_engine.subscribe(live)
    run_engine(bp.count([Camera(name="cam")], num=20))  # ends while the gate is shut
    gate.set()
    live.close(PATIENCE)
    assert len(recorder.rows("cam_image")) == 20
    assert recorder.of("stop")[0]["summary"]["dropped"] == 16
    assert live.stats().worker.dropped == 16


def test_documents_after_the_end_are_left_out(live, recorder, raw_documents):
    live.close()
    for name, doc in raw_documents().whole(10):
        live(name, doc)
    assert recorder.documents == []


def test_a_process_that_ends_without_closing_still_has_its_last_rows():
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import SHAPE, BrightnessAnnotator, RawDocuments
from dvfb_stream.callbacks import AnnotationTable, LiveAnnotator
from dvfb_stream.frames import Geometry

detectors = {{"image": Geometry(shape=SHAPE, center_x=0, center_y=0)}}
live = LiveAnnotator(BrightnessAnnotator(), sinks=[AnnotationTable()], detectors=detectors, max_wait=60)
for name, doc in RawDocuments().whole(10, 90):
    live(name, doc)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "2 frames: rings 1" in ended.stdout
    assert ended.stderr == ""


def test_it_can_be_subscribed_because_it_is_hashable(live):
    assert live in {live}


def test_a_policy_or_model_that_does_not_exist_is_an_error_at_once(annotator):
    with pytest.raises(SettingsError, match="drop-oldest"):
        LiveAnnotator(annotator, policy="drop-oldest")
    with pytest.raises(BundleError, match="no-such-model"):
        LiveAnnotator("no-such-model")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"detectors": ["cam_image"]}, r"detectors must say .* not \['cam_image'\]"),
        ({"detectors": "cam_image"}, "detectors must say"),
        ({"max_bytes": float("nan")}, "max_bytes must be a number of at least 1, not nan"),
        ({"max_frames": 0}, "max_frames must be a number of at least 1, not 0"),
        ({"batch_size": "16"}, "batch_size must be .* not '16'"),
        ({"patience": -1.0}, "patience must be .* not -1"),
        ({"max_wait": float("nan")}, "max_wait must be .* not nan"),
        ({"sinks": print}, "sinks must be a list"),
        ({"arrays": "features"}, r"arrays must be a list of names, such as \['features'\]"),
        ({"arrays": ["feature"]}, "unknown array 'feature'; there are coefficients, features"),
        ({"annotate_in": "cloud"}, "annotate_in must be 'process' or 'thread', not 'cloud'"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once_with_its_value(annotator, settings, complaint):
    with pytest.raises(SettingsError, match=complaint):
        LiveAnnotator(annotator, **settings)


def test_it_is_short_to_read(live, raw_documents):
    assert repr(live) == "<LiveAnnotator brightness 1 (000000000000): 0 frames seen, 0 rows written>"


def test_a_scan_goes_on_before_work_on_its_frame_begins(annotator, geometry, raw_documents, monkeypatch):
    """For longer than the 2 to 4 ms that a RunEngine works after a document, and for no longer than need be."""
    submitted = []
    submit = Worker.submit

    def spy(worker, frame, deliver, **settings):
        submitted.append(settings["head_start"])
        return submit(worker, frame, deliver, **settings)

    monkeypatch.setattr(Worker, "submit", spy)
    with LiveAnnotator(annotator, detectors={"image": geometry}) as live:
        for name, doc in raw_documents().whole(1, 2):
            live(name, doc)
    assert len(submitted) == 2
    assert 0.004 < min(submitted) <= max(submitted) < 0.01


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | hnp.arrays(st.sampled_from(["u2", "f8", "O", "U3", ">i4"]), hnp.array_shapes(max_dims=4, max_side=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
others = ["start", "descriptor", "event_page", "stream_resource", "stream_datum", "stop", "datum"]
names = st.sampled_from([*["event"] * len(others), *others])


@st.composite
def documents(draw):
    """Documents of a few runs that mention one another; now and then a field is anything, or missing."""
    uid = st.sampled_from(["a", "a", "a", "b"])
    doc = {
        "uid": draw(uid),
        "run_start": draw(uid),
        "descriptor": draw(uid),
        "stream_resource": draw(uid),
        "data_key": "cam_image",
        "name": "primary",
        "time": draw(st.floats()),
        "data_keys": {"cam_image": {"dtype": "array", "shape": list(SHAPE), "source": "x"}},
        "data": {
            "cam_image": draw(st.sampled_from([np.ones(SHAPE), np.ones((2, *SHAPE)), np.ones(3), "datum/1"]))
        },
        "filled": draw(st.sampled_from([{}, {"cam_image": False}])),
        "indices": {"start": draw(st.integers(0, 3)), "stop": draw(st.integers(0, 9))},
    }
    harm = draw(st.sampled_from([*["none"] * 6, "replaced", "missing", "replaced whole"]))
    if harm == "replaced whole":
        return draw(json_like)
    field = draw(st.sampled_from(sorted(doc)))
    if harm == "replaced":
        doc[field] = draw(json_like)
    if harm == "missing":
        del doc[field]
    return doc


# The annotator has no state that one example could leave to the next.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(st.tuples(names, documents()), min_size=8, max_size=12), known=st.booleans())
def test_no_sequence_of_documents_makes_it_raise_or_lose_a_frame(annotator, sequence, known):
    opening = {"uid": "a", "run_start": "a", "time": 0.0, "data_keys": {}}
    sequence = [("start", opening), ("descriptor", opening), *sequence]
    given_to_sink = []
    detectors = {"cam_image": Geometry(shape=SHAPE, center_x=0, center_y=0)} if known else None
    logging.disable(logging.CRITICAL)
    try:
        with LiveAnnotator(
            annotator,
            sinks=[lambda *document: given_to_sink.append(document)],
            detectors=detectors,
            patience=0.01,
        ) as live:
            for name, doc in sequence:
                live(name, doc)
            assert live.wait(PATIENCE)
            stats = live.stats()
    finally:
        logging.disable(logging.NOTSET)
    assert stats.documents == len(sequence)
    assert stats.worker.queued_frames == stats.writer.pending_rows == stats.writer.lost_rows == 0
    # A run that is delivered again gives frames again, but no rows.
    n_restarts = sum(1 for name, _ in sequence if name == "start") - 1
    n_events = sum(1 for name, _ in given_to_sink if name == "event")
    assert n_events == stats.writer.rows
    assert n_events == stats.frames or (n_restarts and n_events < stats.frames)
    ended = {doc["run_start"] for name, doc in given_to_sink if name == "stop"}
    assert ended <= {doc["uid"] for name, doc in given_to_sink if name == "start"}
