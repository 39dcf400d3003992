"""Geometry and frames: frozen, hashable by content, and picky about masks."""

from dataclasses import replace

import numpy as np
import pytest

from dvfb_stream import Frame, Geometry, InvalidValues, Origin
from dvfb_stream.errors import FrameError, GeometryError, SettingsError, check_at_least
from dvfb_stream.frames import listed, pixels_of
from dvfb_stream.invalid_pixels import invalid_pixels


def test_equal_content_is_one_geometry():
    mask = np.ones((4, 6), dtype=bool)
    mask[1, 2] = False
    first = Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=mask)
    second = Geometry(shape=(4, 6), center_x=2.5, center_y=1.0, mask=mask.copy())
    assert first == second
    assert len({first, second}) == 1
    assert first != Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=None)
    assert first != Geometry(shape=(4, 6), center_x=2.6, center_y=1, mask=mask)


def test_what_pixels_mean_is_part_of_a_geometry_and_where_it_was_read_is_not():
    plain = {"shape": (4, 6), "center_x": 2.5, "center_y": 1}
    told = [
        Geometry(**plain),
        Geometry(**plain, pixel_aspect=2),
        Geometry(**plain, counts_per_unit=1),
        Geometry(**plain, counts_per_unit=1000),
        Geometry(**plain, invalid_values=InvalidValues(values=(-1,))),
        Geometry(**plain, invalid_values=InvalidValues(values=(-1,), delta=0.5)),
        Geometry(**plain, invalid_values=InvalidValues(above=1000)),
    ]
    assert len(set(told)) == len(told)
    assert Geometry(**plain, source="agbh.poni") == told[0]
    assert "agbh.poni" in repr(Geometry(**plain, source="agbh.poni"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": ("dead",)},
        {"values": (1,), "delta": -1},
        {"values": (1,), "delta": float("nan")},
        {"above": float("nan")},
        {"above": "full"},
    ],
)
def test_values_that_mark_invalid_pixels_are_numbers(wrong):
    with pytest.raises(GeometryError, match="must be"):
        InvalidValues(**wrong)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint32, np.int32])
def test_a_mask_may_be_given_as_mask_files_have_it(dtype):
    masked = np.zeros((4, 6), dtype)
    masked[1, 2:4] = 1 if dtype is bool else 2
    geometry = Geometry(shape=(4, 6), center_x=2.5, center_y=1, masked=masked)
    np.testing.assert_array_equal(geometry.mask, masked == 0)
    assert geometry == Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=masked == 0)
    assert replace(geometry, center_x=3.0).mask.sum() == 22


def test_what_a_masked_array_masks_is_masked_whichever_way_the_mask_is_given():
    hidden = np.eye(4, 6, dtype=bool)
    expected = Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=~hidden)
    valid = np.ma.MaskedArray(np.ones((4, 6), dtype=bool), mask=hidden)
    assert Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=valid) == expected
    masked = np.ma.MaskedArray(np.zeros((4, 6), dtype=np.int32), mask=hidden)
    assert Geometry(shape=(4, 6), center_x=2.5, center_y=1, masked=masked) == expected


def test_the_mask_cannot_be_changed_afterwards():
    mask = np.ones((4, 6), dtype=bool)
    geometry = Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=mask)
    mask[:] = False
    assert geometry.mask.all()
    with pytest.raises(ValueError, match="read-only"):
        geometry.mask[0, 0] = False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 5)}, "two positive integers"),
        ({"shape": (5,)}, "two positive integers"),
        ({"shape": 5}, "two positive integers"),
        ({"shape": (4.5, 6)}, "two positive integers"),
        ({"center_y": None}, "two numbers"),
        ({"pixel_aspect": 0}, "positive number, not 0"),
        ({"pixel_aspect": "square"}, "positive number, not 'square'"),
        ({"counts_per_unit": -1}, "counts_per_unit must be a positive number, not -1"),
        ({"invalid_values": -1}, "InvalidValues"),
        ({"center_x": "left"}, "two numbers"),
        ({"center_x": float("nan")}, "finite"),
        ({"mask": np.ones((4, 6), dtype=int)}, "boolean with True = valid.*as masked"),
        ({"mask": np.ones((6, 4), dtype=bool)}, r"\(6, 4\), but frames have shape \(4, 6\)"),
        ({"mask": np.zeros((4, 6), dtype=bool)}, "no valid pixel; in Geometry\\(mask=\\) True means valid"),
        ({"masked": np.ones((4, 6), dtype=bool)}, "no valid pixel; in Geometry\\(mask=\\) True means valid"),
        ({"masked": np.ones((4, 6))}, "integers or booleans, 0 = valid and 1 = masked, not of float64"),
        ({"mask": np.ones((4, 6), bool), "masked": np.zeros((4, 6), bool)}, "give the mask once"),
    ],
)
def test_what_no_frame_can_have_is_refused(arguments, message):
    with pytest.raises(GeometryError, match=message):
        Geometry(**{"shape": (4, 6), "center_x": 1, "center_y": 1, **arguments})


def test_what_is_seen_of_a_frame_is_short():
    mask = np.ones((1043, 981), dtype=bool)
    mask[0, :5] = False
    geometry = Geometry(shape=(1043, 981), center_x=302.7, center_y=530.9, mask=mask)
    assert repr(geometry) == (
        "Geometry(shape=(1043, 981), center_x=302.7, center_y=530.9, mask=<1023178 of 1023183 pixels valid>)"
    )
    small = Geometry(shape=(4, 6), center_x=2.5, center_y=1)
    assert repr(small) == "Geometry(shape=(4, 6), center_x=2.5, center_y=1)"
    assert repr(Frame(np.zeros((4, 6), np.int32), small)) == f"Frame(<int32 (4, 6)>, {small!r})"
    origin = Origin(run_uid="r", stream="primary", data_key="image", index=3)
    assert repr(Frame([[1]], small, origin)).startswith("Frame(<list ")


GEOMETRY = Geometry(shape=(4, 6), center_x=2.5, center_y=1)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("a.tif", r"must be a Frame\(pixels, geometry\), not str 'a.tif'"),
        (np.zeros((4, 6)), r"must be a Frame\(pixels, geometry\), not ndarray of shape \(4, 6\)"),
        (None, "not NoneType None"),
        (Frame(np.zeros((4, 6)), None), r"must be a Geometry\(shape=.*, not NoneType None"),
        (Frame([[1], [1, 2]], GEOMETRY), "must be an array of numbers, not list"),
    ],
)
def test_what_is_no_frame_is_refused_with_what_it_is_and_the_cure(frame, complaint):
    with pytest.raises(FrameError, match=complaint):
        pixels_of(frame)


def test_pixels_of_a_frame_are_not_copied():
    pixels = np.zeros((4, 6))
    assert pixels_of(Frame(pixels, GEOMETRY)) is pixels


@pytest.mark.parametrize("frames", [Frame(np.zeros((4, 6)), GEOMETRY), np.zeros((4, 6)), "a.tif", None, 5])
def test_what_is_no_list_of_frames_is_refused_with_the_cure(frames):
    with pytest.raises(
        FrameError, match=r"give a list of frames, as in annotate\(\[Frame\(pixels, geometry\)\]\)"
    ):
        listed(frames)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_bound_that_is_none_is_named_with_its_value(value):
    check_at_least(1, fine=1, large=1 << 40)
    with pytest.raises(SettingsError, match="max_bytes must be a number of at least 1, not"):
        check_at_least(1, max_bytes=value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_what_a_masked_array_masks_is_no_count(dtype):
    pixels = np.ma.MaskedArray(np.arange(24, dtype=dtype).reshape(4, 6), mask=np.eye(4, 6, dtype=bool))
    array = pixels_of(Frame(pixels, GEOMETRY))
    assert type(array) is np.ndarray
    assert array.dtype == dtype
    valid = invalid_pixels(array.dtype).valid(array)
    np.testing.assert_array_equal(valid, ~np.eye(4, 6, dtype=bool))
    np.testing.assert_array_equal(array[valid], pixels.compressed())
