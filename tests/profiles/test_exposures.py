"""Exposures are endless, of one geometry and type, and what their source says they are."""

from __future__ import annotations

import numpy as np
import pytest
from fabio.edfimage import EdfImage
from fabio.tifimage import TifImage
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.errors import FrameError, GeometryError, SettingsError
from dvfb_stream.files import DetectorDescription
from dvfb_stream.labels import LABELS
from dvfb_stream.profiles import exposures
from dvfb_stream.profiles.exposures import DETECTOR_SETTINGS, SAMPLES, RecordedExposures, SimulatedExposures
from dvfb_stream.simulation import Simulator

CENTRE = DetectorDescription(center_x=3.0, center_y=2.0).load()


@given(st.sets(st.sampled_from(LABELS)))
def test_no_frame_is_of_two_samples(labels):
    assert sum(sample.may_show(labels) for sample in SAMPLES) <= 1


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_exposes_its_own_frames_of_the_experiment_in_order(sample):
    supply = SimulatedExposures(3, sample=sample)
    simulator = Simulator(3, settings=DETECTOR_SETTINGS)
    expected = (simulator.frame(index) for index in range(1_000))
    for _ in range(2):
        frame = next(frame for frame in expected if sample.may_show(frame.labels))
        exposure = supply.expose()
        np.testing.assert_array_equal(exposure.pixels, frame.pixels)
        assert exposure.truth == frame.labels
        assert supply.geometry == frame.geometry
        assert exposure.pixels.dtype == supply.dtype == np.int32


def test_exposures_begin_again_after_the_last_frame_of_the_experiment(monkeypatch):
    monkeypatch.setattr(exposures, "FRAMES_PER_EXPERIMENT", 2)
    supply = SimulatedExposures()
    first, second, third = (supply.expose().pixels for _ in range(3))
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_a_sample_of_which_there_is_no_frame_is_an_error_not_an_endless_search(monkeypatch):
    monkeypatch.setattr(exposures, "FRAMES_PER_EXPERIMENT", 3)
    nothing = exposures.Sample(name="nothing", shows=frozenset({"rings"}), lacks=frozenset({"rings"}))
    with pytest.raises(SettingsError, match=r"none of 3 frames of seed 0 .* take another seed"):
        SimulatedExposures(sample=nothing).expose()


def test_recorded_frames_come_in_the_order_of_the_files_again_and_again(tmp_path):
    frames = [np.arange(30, dtype=np.int32).reshape(5, 6) + 100 * number for number in range(3)]
    TifImage(data=frames[0]).write(str(tmp_path / "a.tif"))
    edf = EdfImage(data=frames[1])
    edf.append_frame(data=frames[2])
    edf.write(str(tmp_path / "b.edf"))
    supply = RecordedExposures([str(tmp_path / "a.tif"), str(tmp_path / "b.edf")], CENTRE)
    assert len(supply) == 3
    assert supply.geometry.shape == (5, 6)
    for expected in [*frames, *frames]:
        exposure = supply.expose()
        np.testing.assert_array_equal(exposure.pixels, expected)
        assert exposure.truth is None


def test_frames_of_different_integer_types_come_in_one_that_holds_them_all(tmp_path):
    TifImage(data=np.full((5, 6), 60_000, np.uint16)).write(str(tmp_path / "a.tif"))
    TifImage(data=np.full((5, 6), -1, np.int16)).write(str(tmp_path / "b.tif"))
    supply = RecordedExposures([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")], CENTRE)
    assert [supply.expose().pixels[0, 0] for _ in range(2)] == [60_000, -1]


def test_frames_that_no_one_detector_can_have_are_refused_before_the_scan(tmp_path):
    TifImage(data=np.zeros((5, 6), np.uint16)).write(str(tmp_path / "a.tif"))
    TifImage(data=np.zeros((6, 5), np.uint16)).write(str(tmp_path / "b.tif"))
    with pytest.raises(FrameError, match=r"b\.tif has frames of shape \(6, 5\)"):
        RecordedExposures([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")], CENTRE)
    with pytest.raises(FrameError, match=r"c\.tif: no such file"):
        RecordedExposures([str(tmp_path / "a.tif"), str(tmp_path / "c.tif")], CENTRE)
    other = DetectorDescription(center_x=3.0, center_y=2.0, shape=(50, 60)).load()
    with pytest.raises(GeometryError, match=r"\(50, 60\)"):
        RecordedExposures([str(tmp_path / "a.tif")], other)
    with pytest.raises(FrameError, match="no frame"):
        RecordedExposures([], CENTRE)
