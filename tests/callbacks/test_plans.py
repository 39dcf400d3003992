"""Plans that act on annotations, in a real RunEngine; and frames that lie in files, from document to row."""

from __future__ import annotations

import asyncio
import threading

import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky import preprocessors as bpp
from bluesky.utils import RunEngineInterrupted
from ophyd.sim import SynAxis, SynSignal

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.callbacks.plans import newest_annotation, scan_until
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry

GEOMETRY = Geometry(shape=(4, 6), center_x=2.5, center_y=1.5)


@pytest.fixture
def RE():
    return RunEngine({})


@pytest.fixture
def motor():
    return SynAxis(name="motor")


@pytest.fixture
def camera(motor):
    """As bright as the motor is far."""
    return SynSignal(func=lambda: np.full((4, 6), motor.position), name="camera")


@pytest.fixture
def live(RE, annotator):
    with LiveAnnotator(annotator, detectors={"camera": GEOMETRY}, max_wait=0.01) as callback:
        RE.subscribe(callback)
        yield callback


def test_a_scan_ends_where_the_label_appears(RE, live, camera, motor):
    result = []

    def plan():
        where = yield from scan_until(
            [camera], motor, 0, 100, 11, live=live, data_key="camera", label="rings", md={"sample": "film"}
        )
        result.append(where)

    (uid,) = RE(plan())
    # Rings are accepted above 50.
    assert result == [60.0]
    assert motor.position == 60.0
    assert live.latest("camera").labels == ("rings",)
    assert live.latest("camera").origin.run_uid == uid
    assert live.latest("camera").origin.index == 6


def test_a_scan_without_the_label_comes_to_its_end(RE, live, camera, motor):
    result = []

    def plan():
        result.append(
            (yield from scan_until([camera], motor, 0, 10, 3, live=live, data_key="camera", label="rings"))
        )

    RE(plan())
    assert result == [None]
    assert motor.position == 10.0


def test_an_annotation_that_does_not_come_is_given_up(RE, camera, annotator):
    late = threading.Event()

    class Slow:
        identity = annotator.identity

        def annotate(self, frames):
            assert late.wait(10)
            return annotator.annotate(frames)

    result = []
    with LiveAnnotator(Slow(), detectors={"camera": GEOMETRY}, max_wait=0.01) as live:
        RE.subscribe(live)

        @bpp.run_decorator()
        def plan():
            yield from bps.trigger_and_read([camera])
            result.append((yield from newest_annotation(live, "camera", timeout=0.05)))
            late.set()
            result.append((yield from newest_annotation(live, "camera", timeout=10.0)))

        RE(plan())
    assert result[0] is None
    assert result[1].ok


def test_what_cannot_be_waited_for_is_said_at_once(RE, live, camera, motor):
    with pytest.raises(SettingsError, match="there is no label 'rigns'"):
        RE(scan_until([camera], motor, 0, 1, 2, live=live, data_key="camera", label="rigns"))
    with pytest.raises(LookupError, match="no frame of 'other' was seen, only of 'camera'"):
        RE(scan_until([camera], motor, 0, 1, 2, live=live, data_key="other"))


@pytest.fixture
def scan(RE, live, motor):
    """Scan with a plan and return what it returned."""

    def scan(*detectors, start=0, stop=10, num=11, live=live, **settings):
        found = []

        def plan():
            found.append(
                (
                    yield from scan_until(
                        detectors,
                        motor,
                        start,
                        stop,
                        num,
                        live=live,
                        data_key="camera",
                        label="rings",
                        **settings,
                    )
                )
            )

        RE(plan())
        return found[0]

    return scan


def test_frames_of_an_earlier_run_are_never_judged(RE, scan, camera, motor, annotator):
    """None of these scans comes to where there are rings, and one before them did."""
    other = SynSignal(func=lambda: 1.0, name="other")
    with LiveAnnotator(annotator, detectors={"camera": GEOMETRY}, max_wait=0.01) as late:
        token = RE.subscribe(late)
        assert scan(camera, stop=100, live=late) == 60.0
        with pytest.raises(LookupError, match=r"no new frame of 'camera'.* the detector is among those"):
            scan(other, live=late)
        RE.unsubscribe(token)
        with pytest.raises(LookupError, match=r"no new frame of 'camera'.* is subscribed"):
            scan(camera, live=late)
        assert motor.position == 0.0
        RE.subscribe(late)
        late.close()
        with pytest.raises(LookupError, match=r"no new frame of 'camera'.* not closed"):
            scan(camera, live=late)
    assert scan(camera) is None
    assert motor.position == 10.0


def test_a_point_is_judged_by_all_its_frames(scan, motor, recorder):
    """Of three frames of a point the first alone gets bright."""
    images = SynSignal(
        func=lambda: np.stack([np.full((4, 6), value) for value in (motor.position, 10, 10)]), name="camera"
    )
    assert scan(images, stop=100) == 60.0


def test_a_doubtful_label_does_not_end_a_scan(RE, live, camera, motor):
    """A halo is doubtful above 50."""
    result = []

    def plan():
        result.append(
            (yield from scan_until([camera], motor, 0, 100, 11, live=live, data_key="camera", label="halo"))
        )

    RE(plan())
    assert result == [None]
    assert live.latest("camera").doubtful == ("halo",)


def test_a_label_that_the_model_does_not_know_ends_the_plan_at_its_first_point(RE, live, camera, motor):
    plan = scan_until([camera], motor, 0, 100, 11, live=live, data_key="camera", label="grazing")
    with pytest.raises(
        SettingsError, match=r"brightness 1 .* does not know 'grazing'; it knows diffuse_low_q,"
    ):
        RE(plan)
    assert motor.position == 0.0


def test_a_scan_that_is_paused_takes_one_point_again_at_most(RE, camera, motor, annotator):
    waits, go_on = threading.Event(), threading.Event()

    class Held:
        identity = annotator.identity

        def annotate(self, frames):
            if any(frame.origin.index == 3 for frame in frames):
                waits.set()
                assert go_on.wait(10)
            return annotator.annotate(frames)

    def pause():
        assert waits.wait(10)
        RE.request_pause()

    positions, found = [], []
    with LiveAnnotator(Held(), detectors={"camera": GEOMETRY}, max_wait=0.01) as live:
        RE.subscribe(live)
        RE.subscribe(lambda name, doc: positions.append(doc["data"]["motor"]), "event")

        def plan():
            found.append(
                (yield from scan_until([camera], motor, 0, 6, 7, live=live, data_key="camera", label="rings"))
            )

        thread = threading.Thread(target=pause)
        thread.start()
        with pytest.raises(RunEngineInterrupted):
            RE(plan())
        thread.join()
        go_on.set()
        RE.resume()
    assert found == [None]
    assert positions == [0, 1, 2, 3, 3, 4, 5, 6]


def test_a_mark_tells_old_frames_from_new_ones(RE, live, camera):
    marks = []

    @bpp.run_decorator()
    def plan():
        yield from bps.trigger_and_read([camera])
        marks.append(live.annotations.mark())
        with pytest.raises(LookupError, match="no new frame"):
            yield from newest_annotation(live, "camera", after=marks[0])
        yield from bps.trigger_and_read([camera])
        marks.append((yield from newest_annotation(live, "camera", after=marks[0])))

    RE(plan())
    assert marks[1].origin.index == 1


# -- frames in files, from document to row -----------------------------------------------------------------


@pytest.fixture
def saxs(RE, tmp_path):
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector

    with init_devices():
        return SimBlobDetector(
            StaticPathProvider(UUIDFilenameProvider(), tmp_path),
            PatternGenerator(sleep=lambda seconds: asyncio.sleep(0)),
            name="saxs",
        )


class Seen:
    """An annotator that keeps what it saw, in the words of another."""

    def __init__(self, annotator):
        self.identity, self._annotator, self.pixels = annotator.identity, annotator, {}

    def annotate(self, frames):
        for frame in frames:
            assert frame.origin.index not in self.pixels, "annotated twice"
            self.pixels[frame.origin.index] = np.array(frame.pixels)
        return self._annotator.annotate(frames)


def test_frames_of_ophyd_async_are_annotated_once_as_the_detector_wrote_them(
    RE, saxs, annotator, recorder, tmp_path
):
    seen = Seen(annotator)
    with LiveAnnotator(
        seen,
        sinks=[recorder],
        detectors={"saxs": Geometry(shape=(240, 320), center_x=160, center_y=120)},
    ) as live:
        RE.subscribe(live)
        RE(bp.count([saxs], 5))
        assert live.wait(20)
        stats = live.stats()
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda name, item: found.append(item[()]) if getattr(item, "ndim", 0) > 2 else None)
    frames = found[0].reshape(-1, *found[0].shape[-2:])
    assert (stats.frames, stats.worker.annotated, stats.reader.read) == (5, 5, 5)
    assert [row["frame"] for row in recorder.rows("saxs")] == list(range(5))
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(seen.pixels[index], frame)


def test_frames_whose_file_never_comes_have_rows_that_say_so(
    RE, raw_documents, annotator, recorder, tmp_path
):
    raw = raw_documents()
    with LiveAnnotator(annotator, sinks=[recorder], detectors={"image": GEOMETRY}, patience=0.05) as live:
        for name, doc in [
            raw.start(),
            raw.descriptor(external="FILESTORE:"),
            ("resource", {"uid": "r", "run_start": raw.uid, "spec": "NPY_SEQ", "root": str(tmp_path),
                          "resource_path": "a", "resource_kwargs": {}}),
            ("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"index": 0}}),
            raw.event(image="r/0", filled={"image": False}),
            raw.frame(20),
            raw.stop(),
        ]:  # fmt: skip
            live(name, doc)
        assert live.wait(10)
    lost, good = recorder.rows()
    assert (lost["status"], good["status"]) == ("failed", "ok")
    assert "a_0.npy is not there; it did not come within 0.05 s" in lost["reason"]
    (stop,) = recorder.of("stop")
    assert (stop["summary"]["frames"], stop["summary"]["failed"]) == (2, 1)


def test_a_hundred_interleaved_runs_each_get_their_rows(raw_documents, annotator, recorder):
    runs = [raw_documents() for _ in range(100)]
    with LiveAnnotator(annotator, sinks=[recorder], detectors={"image": GEOMETRY}, policy="block") as live:
        for run in runs:
            live(*run.start())
            live(*run.descriptor())
        for value in range(3):
            for number, run in enumerate(runs):
                live(*run.frame(value + number / 1000))
        for run in runs[:-1]:  # the last one never stops
            live(*run.stop())
        assert live.wait(20)
        assert live.stats().open_runs == 1
    parents = {doc["uid"]: doc["analysis"]["parent"] for doc in recorder.of("start")}
    run_of = {doc["uid"]: parents[doc["run_start"]] for doc in recorder.of("descriptor")}
    rows = {run.uid: [] for run in runs}
    for doc in recorder.of("event"):
        rows[run_of[doc["descriptor"]]].append((doc["data"]["frame"], doc["data"]["rings"]))
    for number, run in enumerate(runs):
        assert rows[run.uid] == [(v, pytest.approx((v + number / 1000) / 100)) for v in range(3)]
    assert {parents[doc["run_start"]] for doc in recorder.of("stop")} == {run.uid for run in runs[:-1]}
