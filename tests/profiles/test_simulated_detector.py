"""The simulated detector is to a RunEngine what a real one is."""

from __future__ import annotations

import event_model
import numpy as np
import pytest
from bluesky import plans as bp
from bluesky.utils import FailedStatus
from ophyd.sim import SynAxis

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.profiles.exposures import Exposure, SimulatedExposures
from dvfb_stream.profiles.simulated_detector import SimulatedDetector


class Numbered:
    """The n-th exposure is full of n; the one after `last` fails."""

    dtype = np.dtype(np.uint16)

    def __init__(self, last: int = 1_000, center_x: float = 1.5) -> None:
        self.geometry = Geometry(shape=(3, 4), center_x=center_x, center_y=1.0)
        self._last = last
        self._number = 0

    def expose(self) -> Exposure:
        self._number += 1
        if self._number > self._last:
            raise FrameError("the disk has gone")
        return Exposure(np.full((3, 4), self._number, self.dtype))


def documents_of(run_engine, plan):
    documents = []
    run_engine(plan, lambda name, doc: documents.append((name, doc)))
    return documents


def test_a_scan_of_the_stage_carries_frames_truth_and_beam_centre(run_engine):
    detector, reference = SimulatedDetector(SimulatedExposures(5), name="det"), SimulatedExposures(5)
    documents = documents_of(run_engine, bp.scan([detector], SynAxis(name="x"), 0, 2, 3))
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
    (descriptor,) = (doc for name, doc in documents if name == "descriptor")
    key = descriptor["data_keys"][detector.image.name]
    assert (key["dtype"], key["shape"], np.dtype(key["dtype_numpy"])) == ("array", [256, 256], np.int32)
    configuration = descriptor["configuration"]["det"]["data"]
    assert configuration["det_center_x"] == reference.geometry.center_x
    assert configuration["det_center_y"] == reference.geometry.center_y
    events = [doc["data"] for name, doc in documents if name == "event"]
    assert [event["x"] for event in events] == [0, 1, 2]
    for event in events:
        exposure = reference.expose()
        np.testing.assert_array_equal(event["det_image"], exposure.pixels)
        assert event["det_truth"] == ",".join(exposure.truth)
        assert set(filter(None, event["det_truth"].split(","))) <= set(LABELS)


def test_a_frame_stays_what_it_was_after_the_next_exposure(run_engine):
    documents = documents_of(run_engine, bp.count([SimulatedDetector(Numbered(), name="det")], 3))
    events = [doc["data"] for name, doc in documents if name == "event"]
    assert [event["det_image"][0, 0] for event in events] == [1, 2, 3]
    assert [event["det_truth"] for event in events] == ["unknown"] * 3


def test_an_exposure_that_fails_fails_the_plan_and_says_why(run_engine):
    with pytest.raises(FailedStatus) as failed:
        run_engine(bp.count([SimulatedDetector(Numbered(last=2), name="det")], 3))
    assert isinstance(failed.value.__cause__, FrameError)


def test_another_sample_may_be_mounted_but_not_another_geometry():
    detector = SimulatedDetector(Numbered(), name="det")
    detector.mount(Numbered())
    with pytest.raises(SettingsError, match="another geometry"):
        detector.mount(Numbered(center_x=2.5))
