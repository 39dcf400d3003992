"""The beam centre of a detector, found in the documents of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.run_detector import MOST_CENTRES, RunDetector
from dvfb_stream.frames import Geometry

PLACES = {"center_x": "start.beam.x", "center_y": "configuration.saxs.saxs_beam_center_y"}
START = {"uid": "r", "beam": {"x": 3.5}}


def descriptor(y=7.0, shape=(1, 10, 12)):
    data = {} if y is None else {"saxs_beam_center_y": y}
    return {"data_keys": {"image": {"shape": shape}}, "configuration": {"saxs": {"data": data}}}


def detector(**more) -> RunDetector:
    description = DetectorDescription(from_run=PLACES, **more)
    assert description.from_run is not None
    return RunDetector(description.from_run, description.load())


def test_the_documents_say_the_centre_and_the_shape() -> None:
    found = detector().geometry_in(START, descriptor(), "image")
    assert found == Geometry(shape=(10, 12), center_x=3.5, center_y=7.0)


def test_what_the_run_says_wins_over_what_the_description_says_else_that_counts() -> None:
    described = detector(center_x=1.0, center_y=2.0)
    assert described.geometry_in(START, descriptor(), "image").center_x == 3.5
    silent = described.geometry_in({"uid": "r"}, descriptor(y=None), "image")
    assert (silent.center_x, silent.center_y) == (1.0, 2.0)


def test_a_detector_that_was_moved_has_another_geometry_and_comes_back_to_the_same(tmp_path: Path) -> None:
    mask = np.zeros((10, 12), np.uint8)
    mask[0, 0] = 1
    np.save(tmp_path / "mask.npy", mask)
    moving = detector(mask=str(tmp_path / "mask.npy"))
    first = moving.geometry_in(START, descriptor(y=7.0), "image")
    assert moving.geometry_in(START, descriptor(y=8.0), "image") != first
    assert moving.geometry_in(START, descriptor(y=7.0), "image") is first
    for y in range(2 * MOST_CENTRES):
        moving.geometry_in(START, descriptor(y=100.0 + y), "image")
    assert len(moving._known) == MOST_CENTRES


@pytest.mark.parametrize(
    ("start", "doc", "message"),
    [
        ({"uid": "r"}, descriptor(y=None), "no start.beam.x; set it before the scan, or give center_x"),
        ({"uid": "r"}, descriptor(), "half a beam centre: its documents have no start.beam.x"),
        ({"uid": "r", "beam": 5}, descriptor(), "half a beam centre"),
        (
            {"uid": "r", "beam": {"x": "left"}},
            descriptor(),
            "start.beam.x must be a number, not 'left'",
        ),
        ({"uid": "r", "beam": {"x": float("inf")}}, descriptor(), "must be a number, not inf"),
        (START, descriptor(shape=[]), "the detector's shape is not known"),
    ],
)
def test_what_the_run_does_not_say_is_never_guessed(start, doc, message) -> None:
    with pytest.raises(GeometryError, match=message):
        detector().geometry_in(start, doc, "image")


@pytest.mark.parametrize("place", ["beam_x", "stop.x", "start.", "configuration.saxs"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(ValidationError, match="must "):
        DetectorDescription(from_run={"center_x": place, "center_y": "start.y"})


def test_half_a_centre_is_refused_beside_the_runs_own() -> None:
    with pytest.raises(ValidationError, match="center_y is missing"):
        DetectorDescription(from_run=PLACES, center_x=1.0)


def test_a_run_may_say_lengths() -> None:
    places = PLACES | {"unit": "mm"}
    description = DetectorDescription(from_run=places, pixel_mm=(0.5, 0.25))
    found = RunDetector(description.from_run, description.load()).geometry_in(START, descriptor(), "image")
    # 3.5 mm are 14 pixels of 0.25 mm, counted from the first one's corner; 7 mm are 14 of 0.5 mm.
    assert (found.center_x, found.center_y) == (13.5, 13.5)
    assert found.pixel_aspect == 2


def test_without_places_the_documents_say_the_shape_alone() -> None:
    detector = DetectorDescription(center_x=1.0, center_y=2.0).load()
    found = RunDetector(None, detector).geometry_in(START, descriptor(), "image")
    assert found == Geometry(shape=(10, 12), center_x=1.0, center_y=2.0)
