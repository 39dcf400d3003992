"""A beam centre that events say, frame by frame: in their own events, and where stream datums announce the frames."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest

from dvfb_stream.annotations import Annotation
from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.moving_centre import GRID_STEPS
from dvfb_stream.files.run_detector import RunDetector

SHAPE = (40, 64)
STEP = 64 / GRID_STEPS
PLACES = {"center_x": "event.saxs_beam_center_x_px", "center_y": "event.saxs_beam_center_y_px"}
X, Y = "saxs_beam_center_x_px", "saxs_beam_center_y_px"


class Geometries:
    """An annotator that keeps the geometry of each frame."""

    def __init__(self, brightness):
        self.identity = brightness.identity
        self.seen = {}

    def annotate(self, frames):
        for frame in frames:
            self.seen[frame.origin.index] = frame.geometry
        scores = dict.fromkeys(("rings",), 0.5)
        return [
            Annotation(status="ok", model=self.identity, origin=frame.origin, scores=scores)
            for frame in frames
        ]


@pytest.fixture
def geometries(annotator):
    return Geometries(annotator)


@pytest.fixture
def moving(make_pipeline, geometries):
    """Make a pipeline for a detector whose centre stands in events."""

    def make(places=PLACES, patience=0.5, **description):
        described = DetectorDescription(from_run=places, **description)
        detector = RunDetector(described.from_run, described.load())
        return make_pipeline(
            annotator=geometries, detectors={"image": detector}, files=FrameFiles(), patience=patience
        )

    return make


class Run:
    """A run whose events have a centre, and whose images lie in an HDF5 file, in events, or come in pages."""

    def __init__(self, raw, tmp_path, count=4):
        self.raw = raw
        self.path = tmp_path / "a.h5"
        with h5py.File(self.path, "w") as file:
            file["d"] = np.ones((count, *SHAPE), np.uint16)

    def opening(self, *, external, keys=(X, Y), image=(1, *SHAPE)):
        name, descriptor = self.raw.descriptor(
            shape=list(image), **({"external": external} if external else {})
        )
        for key in keys:
            descriptor["data_keys"][key] = {"source": "motor", "dtype": "number", "shape": []}
        self.descriptor = descriptor["uid"]
        return [self.raw.start(), (name, descriptor)]

    def resource(self):
        return "stream_resource", {
            "uid": "r", "run_start": self.raw.uid, "data_key": "image", "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{self.path}", "parameters": {"dataset": "d"},
        }  # fmt: skip

    def datum(self, start, stop, numbered=True):
        doc = {"uid": f"r/{start}", "stream_resource": "r", "descriptor": self.descriptor}
        doc["indices"] = {"start": start, "stop": stop}
        if numbered:
            doc["seq_nums"] = {"start": start + 1, "stop": stop + 1}
        return "stream_datum", doc

    def event(self, x, y, **more):
        return self.raw.event(**{X: x, Y: y}, **more)


CENTRES = [(20.3, 10.7), (20.302, 10.7), (25.0, 12.5), (-3.25, 80.0)]


def assert_rows_have(rows, geometries, centres):
    assert [row["reason"] for row in rows] == [""] * len(centres)
    assert [(row["center_x"], row["center_y"]) for row in rows] == centres
    assert {row["center_source"] for row in rows} == {f"event.{X}, event.{Y}"}
    for index, (x, y) in enumerate(centres):
        near = geometries.seen[index]
        assert near.shape == SHAPE
        assert abs(near.center_x - x) <= STEP / 2
        assert abs(near.center_y - y) <= STEP / 2
        assert math.isclose(near.center_x / STEP, round(near.center_x / STEP))


def test_each_event_with_an_image_has_its_centre(moving, recorder, geometries, raw_documents, tmp_path):
    pipeline, run = moving(), Run(raw_documents(), tmp_path)
    opening = run.opening(external=None)
    events = [run.event(x, y, image=np.ones(SHAPE)) for x, y in CENTRES]
    for name, doc in (*opening, *events, run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert_rows_have(recorder.rows(), geometries, CENTRES)
    # Centres on one point of the grid share a geometry, and so an estimator.
    assert geometries.seen[0] is geometries.seen[1]
    assert geometries.seen[0] != geometries.seen[2]
    (start,) = recorder.of("start")
    assert start["analysis"]["geometry"] is None


def test_event_pages_have_a_centre_a_row(moving, recorder, geometries, raw_documents, tmp_path):
    pipeline, run = moving(), Run(raw_documents(), tmp_path)
    opening = run.opening(external=None)
    page = {
        "descriptor": run.descriptor, "uid": list("abcd"), "seq_num": [1, 2, 3, 4], "time": [0.0] * 4, "filled": {},
        "data": {X: [x for x, _ in CENTRES], Y: [y for _, y in CENTRES], "image": [np.ones(SHAPE)] * 4},
    }  # fmt: skip
    for name, doc in (*opening, ("event_page", page), run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert_rows_have(recorder.rows(), geometries, CENTRES)


def test_datums_of_events_have_the_centre_of_their_event(
    moving, recorder, geometries, raw_documents, tmp_path
):
    pipeline, run = moving(), Run(raw_documents(), tmp_path)
    opening = run.opening(external="FILESTORE:")
    with h5py.File(run.path, "r+") as file:
        file["entry/data/data"] = file["d"]
    resource = {"uid": "r", "spec": "AD_HDF5", "resource_path": str(run.path)}
    documents = [("resource", resource)]
    for number, (x, y) in enumerate(CENTRES):
        kwargs = {"point_number": number}
        documents.append(("datum", {"datum_id": f"r/{number}", "resource": "r", "datum_kwargs": kwargs}))
        documents.append(run.event(x, y, image=f"r/{number}", filled={"image": False}))
    for name, doc in (*opening, *documents, run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert_rows_have(recorder.rows(), geometries, CENTRES)


@pytest.mark.parametrize("announced", [[(0, 4)], [(0, 1), (1, 2), (2, 3), (3, 4)]])
@pytest.mark.parametrize("before", [True, False])
def test_frames_of_stream_datums_wait_for_their_events(
    moving, recorder, geometries, raw_documents, tmp_path, announced, before
):
    pipeline, run = moving(patience=20), Run(raw_documents(), tmp_path)
    opening = run.opening(external="STREAM:")
    events = [run.event(x, y) for x, y in CENTRES]
    datums = [run.datum(*points) for points in announced]
    for name, doc in (*opening, run.resource(), *(events + datums if before else datums + events)):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert_rows_have(recorder.rows(), geometries, CENTRES)
    pipeline(*run.raw.stop())
    assert pipeline.wait(10)


def test_a_frame_whose_event_never_comes_fails_at_the_end_of_the_run(
    moving, recorder, raw_documents, tmp_path
):
    pipeline, run = moving(patience=600, center_x=3.0, center_y=4.0), Run(raw_documents(), tmp_path, 2)
    opening = run.opening(external="STREAM:")
    for name, doc in (*opening, run.resource(), run.datum(0, 2), run.event(5.0, 6.0), run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    first, second = recorder.rows()
    assert (first["status"], first["center_x"]) == ("ok", 5.0)
    assert second["status"] == "failed"
    assert "event 2 of the stream, which says the beam centre" in second["reason"]


def test_an_event_that_does_not_come_is_waited_for_as_a_file_is(moving, recorder, raw_documents, tmp_path):
    pipeline, run = moving(patience=0.2), Run(raw_documents(), tmp_path, 1)
    for name, doc in (*run.opening(external="STREAM:"), run.resource(), run.datum(0, 1)):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert "did not come within 0.2 s" in recorder.rows()[0]["reason"]


def test_a_stream_datum_that_does_not_say_its_events(moving, recorder, raw_documents, tmp_path):
    pipeline, run = moving(), Run(raw_documents(), tmp_path, 1)
    opening = run.opening(external="STREAM:")
    for name, doc in (*opening, run.resource(), run.event(1.0, 2.0), run.datum(0, 1, numbered=False)):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert "does not say which event has the beam centre" in recorder.rows()[0]["reason"]


@pytest.mark.parametrize(("fixed", "status"), [({"center_x": 3.0, "center_y": 4.0}, "ok"), ({}, "failed")])
def test_where_no_event_can_say_it_the_description_counts(
    moving, recorder, raw_documents, tmp_path, fixed, status
):
    """As in a fly scan: its descriptor has no such data key."""
    pipeline, run = moving(**fixed), Run(raw_documents(), tmp_path, 2)
    opening = run.opening(external="STREAM:", keys=())
    for name, doc in (*opening, run.resource(), run.datum(0, 2), run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    rows = recorder.rows()
    assert [row["status"] for row in rows] == [status] * 2
    if fixed:
        assert [(row["center_x"], row["center_y"]) for row in rows] == [(3.0, 4.0)] * 2
    else:
        assert "does not say the beam centre" in rows[0]["reason"]


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ("left", "event.saxs_beam_center_x_px must be a number, not 'left'"),
        (math.nan, "must be a number, not nan"),
        ([1.0, 2.0], r"must be a number, not [1.0, 2.0]"),
        (None, "half a beam centre: its documents have no event.saxs_beam_center_x_px"),
    ],
)
def test_an_event_without_a_number_costs_its_own_frames(moving, recorder, raw_documents, tmp_path, x, reason):
    pipeline, run = moving(), Run(raw_documents(), tmp_path)
    opening = run.opening(external=None)
    events = [run.event(*centre, image=np.ones(SHAPE)) for centre in ((1.0, 2.0), (x, 2.0), (3.0, 4.0))]
    for name, doc in (*opening, *events, run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert reason in recorder.rows()[1]["reason"]


@pytest.mark.parametrize(
    "wrapped", [lambda n: [n], lambda n: (n,), np.array, lambda n: np.array([n]), np.float32]
)
def test_a_list_or_an_array_of_one_number_is_a_number(moving, recorder, raw_documents, tmp_path, wrapped):
    pipeline, run = moving(), Run(raw_documents(), tmp_path)
    opening = run.opening(external=None)
    event = run.event(wrapped(1.5), wrapped(2.5), image=np.ones(SHAPE))
    for name, doc in (*opening, event, run.raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    (row,) = recorder.rows()
    assert (row["center_x"], row["center_y"]) == (1.5, 2.5)


def test_places_may_be_of_several_documents_and_lengths(moving, recorder, raw_documents, tmp_path):
    places = {"center_x": "start.beam.x", "center_y": f"event.{Y}", "unit": "mm"}
    pipeline = moving(places, pixel_mm=0.5)
    run = Run(raw_documents(beam={"x": [2.0]}), tmp_path)
    for name, doc in (
        *run.opening(external=None, keys=(Y,)),
        run.event(0.0, 4.0, image=np.ones(SHAPE)),
        run.raw.stop(),
    ):
        pipeline(name, doc)
    assert pipeline.wait(10)
    (row,) = recorder.rows()
    # 2 mm are 4 pixels from the outer corner of the first, 3.5 from its middle.
    assert (row["center_x"], row["center_y"]) == (3.5, 7.5)
