"""A detector description in a user's words becomes one geometry, or says which of its files do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pyFAI.detectors import detector_factory
from pyFAI.geometry import Geometry as PyFaiGeometry

from dvfb_stream import InvalidValues
from dvfb_stream.errors import GeometryError
from dvfb_stream.files import DetectorDescription, detector_mask
from dvfb_stream.frames import Geometry


def mask_file(path: Path, shape: tuple[int, int], *masked: tuple[int, int]) -> str:
    values = np.zeros(shape, np.uint8)
    for pixel in masked:
        values[pixel] = 1
    np.save(path, values)
    return str(path)


def test_centre_and_shape_are_enough() -> None:
    geometry = DetectorDescription(center_x=3.5, center_y=-2.0, shape=(10, 12)).geometry()
    assert geometry == Geometry(shape=(10, 12), center_x=3.5, center_y=-2.0)


def test_masks_and_gaps_combine(tmp_path: Path) -> None:
    shape = (1043, 981)
    files = [mask_file(tmp_path / "a.npy", shape, (0, 0)), mask_file(tmp_path / "b.npy", shape, (5, 6))]
    geometry = DetectorDescription(center_x=1, center_y=2, mask=files, detector="pilatus1m").geometry()
    expected = detector_mask("Pilatus1M")
    expected[0, 0] = expected[5, 6] = False
    assert geometry.shape == shape
    np.testing.assert_array_equal(geometry.mask, expected)


def test_a_poni_file_gives_centre_shape_and_gaps(tmp_path: Path) -> None:
    PyFaiGeometry(dist=1, poni1=0.0172, poni2=0.0344, detector=detector_factory("Pilatus1M")).save(
        str(tmp_path / "a.poni")
    )
    geometry = DetectorDescription(poni="a.poni").geometry(folder=tmp_path)
    assert (geometry.center_x, geometry.center_y) == pytest.approx((199.5, 99.5))
    assert geometry.shape == (1043, 981)
    np.testing.assert_array_equal(geometry.mask, detector_mask("Pilatus1M"))


def test_relative_paths_start_from_the_folder(tmp_path: Path) -> None:
    mask_file(tmp_path / "a.npy", (4, 5), (1, 1))
    description = DetectorDescription(center_x=0, center_y=0, mask="a.npy")
    assert description.geometry(folder=tmp_path).shape == (4, 5)
    with pytest.raises(GeometryError, match=r"a\.npy: no such file"):
        description.geometry()


def test_files_are_read_once_and_equal_shapes_share_a_geometry(tmp_path: Path) -> None:
    file = mask_file(tmp_path / "a.npy", (4, 5), (1, 1))
    detector = DetectorDescription(center_x=0, center_y=0, mask=file).load()
    Path(file).unlink()
    assert detector.geometry((4, 5)) is detector.geometry()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the beam centre is missing: give center_x and center_y in pixels, or a poni file"),
        ({"center_x": 1.0}, "center_y is missing"),
        ({"center_y": 1.0}, "center_x is missing"),
        ({"center_x": 1.0, "center_y": 1.0, "poni": "a.poni"}, "give the beam centre once"),
        ({"center_x": 1.0, "poni": "a.poni"}, "give the beam centre once"),
        ({"center_x": float("nan"), "center_y": 1.0}, "finite number"),
        ({"center_x": float("inf"), "center_y": 1.0}, "finite number"),
        ({"center_x": 1, "center_y": 1, "centre_z": 1}, "Extra inputs are not permitted"),
        ({"center_x": 1, "center_y": 1, "shape": (0, 5)}, "two positive integers"),
        ({"center_x": 1, "center_y": 1, "shape": (5,)}, "shape"),
    ],
)
def test_descriptions_that_do_not_describe(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DetectorDescription.model_validate(values)


def test_a_description_is_frozen() -> None:
    description = DetectorDescription(center_x=1, center_y=1)
    with pytest.raises(ValidationError, match="frozen"):
        description.center_x = 2.0  # type: ignore[misc]


def test_without_any_shape_it_says_what_would_tell() -> None:
    with pytest.raises(GeometryError, match="shape is not known; give shape"):
        DetectorDescription(center_x=1, center_y=1).geometry()


def test_disagreeing_shapes_are_both_named_with_the_cure(tmp_path: Path) -> None:
    file = mask_file(tmp_path / "a.npy", (4, 5), (1, 1))
    description = DetectorDescription(center_x=0, center_y=0, mask=file)
    with pytest.raises(
        GeometryError,
        match=r"the frame has shape \(7, 8\), but mask .*a.npy has shape \(4, 5\).*; use the mask",
    ):
        description.geometry((7, 8))
    with pytest.raises(
        GeometryError, match=r"\(4, 5\).*detector Pilatus1M has shape|detector Pilatus1M has shape .*\(4, 5\)"
    ):
        DetectorDescription(center_x=0, center_y=0, mask=file, detector="Pilatus1M").geometry()


def test_masks_that_together_leave_nothing(tmp_path: Path) -> None:
    files = [mask_file(tmp_path / "a.npy", (1, 2), (0, 0)), mask_file(tmp_path / "b.npy", (1, 2), (0, 1))]
    with pytest.raises(GeometryError, match=r"together mask .*a\.npy, mask .*b\.npy mask every pixel"):
        DetectorDescription(center_x=0, center_y=0, mask=files).geometry()


class TestUnits:
    @pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("m", 1e-3)])
    def test_a_length_counts_from_the_first_pixels_corner_as_pyfais_does(
        self, tmp_path: Path, unit: str, scale: float
    ) -> None:
        pilatus = detector_factory("Pilatus1M")
        PyFaiGeometry(dist=1, poni1=0.1234, poni2=0.0567, detector=pilatus).save(str(tmp_path / "a.poni"))
        expected = DetectorDescription(poni="a.poni").geometry(folder=tmp_path)
        told = DetectorDescription(
            center_x=56.7 * scale, center_y=123.4 * scale, unit=unit, detector="Pilatus1M"
        ).geometry()
        assert (told.center_x, told.center_y) == pytest.approx((expected.center_x, expected.center_y))

    def test_pixels_that_are_not_square_are_counted_by_their_own_sides(self) -> None:
        described = DetectorDescription(center_x=2, center_y=3, unit="mm", pixel_mm=(0.1, 0.2), shape=(9, 9))
        geometry = described.geometry()
        assert (geometry.center_x, geometry.center_y) == pytest.approx((9.5, 29.5))
        assert geometry.pixel_aspect == 0.5

    def test_the_declared_size_wins_over_the_detectors(self) -> None:
        described = DetectorDescription(center_x=1, center_y=1, detector="Pilatus1M", pixel_mm=(0.1, 0.05))
        assert described.geometry().pixel_aspect == 2

    def test_a_length_without_a_pixel_size_is_refused_with_the_cure(self) -> None:
        with pytest.raises(GeometryError, match=r"given in mm, but the size of a pixel .* give pixel_mm"):
            DetectorDescription(center_x=2, center_y=3, unit="mm", shape=(9, 9)).geometry()

    @pytest.mark.parametrize(
        "values", [{"unit": "inch"}, {"pixel_mm": 0}, {"pixel_mm": (0.1, -1)}, {"pixel_mm": float("nan")}]
    )
    def test_what_is_no_unit_or_size_is_refused(self, values: dict) -> None:
        with pytest.raises(ValidationError):
            DetectorDescription(center_x=1, center_y=1, **values)


@pytest.mark.parametrize(("rows", "told"), [(74, False), (76, True)])
def test_a_mask_that_hides_most_of_a_frame_is_logged_with_its_polarity(tmp_path, caplog, rows, told):
    masked = np.zeros((100, 20), np.uint8)
    masked[:rows] = 1
    np.save(tmp_path / "mask.npy", masked)
    DetectorDescription(center_x=1, center_y=2, mask="mask.npy").geometry(folder=tmp_path)
    assert ("in mask files 1 means masked" in caplog.text) == told


@pytest.mark.parametrize(
    "wrong",
    [
        {"dummy": True},
        {"dummy": [True, 5]},
        {"dummy": 5, "delta": True},
        {"center_x": True},
        {"pixel_mm": [1, True]},
        {"counts_per_unit": True},
        {"shape": [True, 5]},
    ],
)
def test_yes_is_not_the_number_1(wrong: dict[str, object]):
    with pytest.raises(ValidationError, match="must be numbers"):
        DetectorDescription(**{"center_x": 1, "center_y": 2, "shape": [4, 5]} | wrong)


def test_a_dummy_may_be_one_value_or_several():
    for dummy, values in ((-10, (-10,)), ([-1, 65535], (-1, 65535))):
        geometry = DetectorDescription(
            center_x=1, center_y=2, shape=(4, 5), dummy=dummy, delta=0.5
        ).geometry()
        assert geometry.invalid_values == InvalidValues(values=values, delta=0.5)
    assert DetectorDescription(center_x=1, center_y=2, shape=(4, 5)).geometry().invalid_values is None
    for wrong in ({"delta": 1}, {"dummy": "dead"}, {"dummy": 1, "delta": -1}):
        with pytest.raises(ValidationError):
            DetectorDescription(center_x=1, center_y=2, **wrong)
