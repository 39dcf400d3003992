"""Centres of beamlines as their documents have them, and the grid of those that move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.moving_centre import GRID_STEPS, MovingGeometry, number_in, on_grid
from dvfb_stream.files.run_detector import RunDetector
from dvfb_stream.frames import Geometry
from dvfb_stream.shown_part import without_margins
from dvfb_stream.view import VIEW_SIZE


def found(places, start, descriptor, **description):
    described = DetectorDescription(
        from_run=dict(zip(("center_x", "center_y"), places, strict=True)), **description
    )
    return RunDetector(described.from_run, described.load()).geometry_in(start, descriptor, "image")


def test_cms_says_it_in_the_start_document():
    start = {"uid": "r", "detector_SAXS_x0_pix": 379.0, "detector_SAXS_y0_pix": [580.5]}
    geometry = found(
        ("start.detector_SAXS_x0_pix", "start.detector_SAXS_y0_pix"), start,
        {"data_keys": {"image": {"shape": [1, 619, 487]}}},
    )  # fmt: skip
    assert (geometry.shape, geometry.center_x, geometry.center_y) == ((619, 487), 379.0, 580.5)


def test_chx_says_it_in_the_configuration_of_the_eiger():
    name = "eiger4m_single"
    data = {f"{name}_beam_center_x": np.array(1020.5), f"{name}_beam_center_y": np.float32(1080.25)}
    descriptor = {
        "data_keys": {"image": {"shape": [2070, 2167, 0]}},  # columns, rows: old ophyd's
        "configuration": {name: {"data": data}},
    }
    places = [f"configuration.{name}.{name}_beam_center_{axis}" for axis in "xy"]
    geometry = found(places, {"uid": "r"}, descriptor)
    assert (geometry.shape, geometry.center_x, geometry.center_y) == ((2167, 2070), 1020.5, 1080.25)


def test_smi_says_it_in_events_and_what_is_wrong_before_them_is_told_at_once(tmp_path):
    keys = {"pil2M_x": {}, "pil2M_y": {}}
    places = ["event.pil2M_x", "event.pil2M_y"]
    descriptor = {"data_keys": {"image": {"shape": [1, 1679, 1475]}} | keys}
    moving = found(places, {"uid": "r"}, descriptor, detector="Pilatus2M")
    assert isinstance(moving, MovingGeometry)
    assert moving.centre_in({"pil2M_x": 700.3, "pil2M_y": 1200.7}) == (700.3, 1200.7)
    near = moving.near((700.3, 1200.7))
    assert near is moving.near((700.31, 1200.69))
    assert near.mask is not None
    with pytest.raises(GeometryError, match="the detector's shape is not known"):
        found(places, {"uid": "r"}, {"data_keys": {"image": {}} | keys})


def test_a_mask_of_the_frames_shape_wins_over_a_descriptor_of_another(tmp_path):
    mask = np.zeros((10, 12), np.uint8)
    mask[0, 0] = 1
    np.save(tmp_path / "mask.npy", mask)
    descriptor = {"data_keys": {"image": {"shape": [1, 20, 24]}}}
    geometry = found(
        ("start.x", "start.y"), {"uid": "r", "x": 3.0, "y": 4.0}, descriptor, mask=str(tmp_path / "mask.npy")
    )
    assert geometry.shape == (10, 12)


def test_a_step_of_the_grid_is_a_sixteenth_of_a_pixel_of_the_view():
    assert GRID_STEPS == 16 * VIEW_SIZE


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
def test_no_centre_is_farther_than_half_a_step_from_its_point_of_the_grid(x, y, shape):
    part = without_margins(Geometry(shape=shape, center_x=0, center_y=0))
    near = on_grid((x, y), part)
    half = max(shape) / GRID_STEPS / 2
    assert np.abs(np.subtract(near, (x, y))).max() <= half * (1 + 1e-6) + 1e-9
    np.testing.assert_allclose(on_grid(near, part), near, rtol=0, atol=1e-9 * max(1, abs(x), abs(y)))


@pytest.mark.parametrize(
    "value", [2.5, "2.5", [2.5], (2.5,), [[2.5]], np.float64(2.5), np.array(2.5), np.array([[2.5]])]
)
def test_one_number_however_it_is_wrapped(value):
    assert number_in(value) == 2.5


@pytest.mark.parametrize(
    "value", [None, "x", [], [1, 2], np.array([1, 2]), {}, float("inf"), 10**400, object()]
)
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"no number|not finite"):
        number_in(value)
