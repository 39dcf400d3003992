from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plans as bp
from ophyd import Component, Device, Signal
from ophyd.status import DeviceStatus

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import AnnotationPipeline, LiveAnnotator
from dvfb_stream.catalog import TiledSink, find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS

SHAPE = (4, 6)
DETECTORS = {"cam_image": Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)}
PATIENCE = 30.0


class Camera(Device):
    """The n-th exposure, from 0, has the brightness n."""

    image = Component(Signal, value=np.zeros(SHAPE), kind="hinted")

    def trigger(self) -> DeviceStatus:
        self.image.put(self.image.get() + 1)
        status = DeviceStatus(self)
        status.set_finished()
        return status


class BrightnessAnnotator:
    """The brighter, the more four-fold."""

    identity = ModelIdentity(name="brightness", version="1", sha256="0" * 64)

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        annotations = []
        for frame in frames:
            score = float(np.mean(frame.pixels)) / 100
            labels = ("four_fold",) if score > 0.5 else ()
            annotations.append(
                Annotation(
                    status="ok", model=self.identity, scores=dict.fromkeys(LABELS, score), labels=labels
                )
            )
        return annotations


@pytest.fixture
def run_engine():
    engine = RunEngine({}, call_returns_result=False)
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(PATIENCE)
    engine.loop.close()


def test_a_scan_is_found_by_what_its_frames_show(run_engine, client):
    with LiveAnnotator(BrightnessAnnotator(), sinks=[TiledSink(client)], detectors=DETECTORS) as live:
        run_engine.subscribe(live)
        (dull,) = run_engine(bp.count([Camera(name="cam")], num=5))
        (bright,) = run_engine(bp.count([Camera(name="cam")], num=60))
        assert live.wait(PATIENCE)
        assert find_runs(client, "four_fold") == [bright]
        assert find_runs(client, "four_fold", min_frames=11) == []
    rows = read_annotations(client, bright)
    assert [row["four_fold"] for row in rows] == pytest.approx([(n + 1) / 100 for n in range(60)])
    assert sum(row["labels"] == "four_fold" for row in rows) == 10
    assert len(read_annotations(client, dull)) == 5


def test_a_process_killed_in_the_middle_and_started_again_ends_with_the_same_rows(run_engine, client):
    documents = []
    (uid,) = run_engine(bp.count([Camera(name="cam")], num=60), lambda *document: documents.append(document))

    def annotate(some, stored=None):
        pipeline = AnnotationPipeline(
            BrightnessAnnotator(),
            sinks=[TiledSink(client, batch_size=8)],
            detectors=DETECTORS,
            on_run_stored=stored,
        )
        for name, doc in some:
            pipeline(name, doc)
        assert pipeline.wait(PATIENCE)
        pipeline.close()

    annotate(documents[:32])
    assert len(read_annotations(client, uid)) == 30  # a row waits for others half a second at most
    stored = []
    annotate(documents, stored.append)
    annotate(documents, stored.append)
    assert stored == [uid, uid]
    assert len(client) == 0
    (run,) = find_place(client).values()
    assert list(run["annotations"].base["internal"].read()["frame"]) == list(range(60))
    assert run.metadata["stop"]["summary"]["four_fold"]["count"] == 10
