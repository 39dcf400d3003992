"""Which values of a frame are no counts, declared or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvfb_stream import Frame, Geometry, InvalidValues
from dvfb_stream.frames import marker
from dvfb_stream.invalid_pixels import InvalidPixels, invalid_pixels
from dvfb_stream.view import make_view

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def valid_in(pixels: np.ndarray, declared: InvalidValues | None = None) -> np.ndarray:
    """Which pixels count, the rules for whole frames included."""
    rules = invalid_pixels(pixels.dtype, declared)
    valid = rules.valid(pixels)
    if valid.any():
        again = rules.reconsidered(pixels[valid].min(), pixels[valid].max())
        valid = valid if again is None else again.valid(pixels)
    return valid


def test_a_dectris_frame_loses_what_pyfai_masks_in_it() -> None:
    detectors = pytest.importorskip(
        "pyFAI.detectors", reason="pyFAI is not installed; the extra `files` brings it"
    )
    for name, dtype in [("eiger1m", "u4"), ("eiger1m", "u2"), ("pilatus1m", "i4")]:
        detector = detectors.detector_factory(name)
        detector.mask = np.zeros(detector.shape, np.int8)  # of this frame, not the modules' gaps
        pixels = np.random.default_rng(0).poisson(30, detector.shape).astype(dtype)
        last = 0 if dtype == "i4" else 2 ** (8 * pixels.itemsize)
        pixels[3, 5:9] = last - 1
        pixels[7, 8:11] = last - 2
        masked = detector.dynamic_mask(pixels)
        assert masked.sum() == 7
        np.testing.assert_array_equal(~valid_in(pixels), masked.astype(bool))


@pytest.mark.parametrize(
    ("bits", "kept"),
    [
        (8, "u1"), (8, "u2"), (8, "i4"), (8, "f4"),
        (16, "u2"), (16, "u4"), (16, "i4"), (16, "i8"), (16, "f4"), (16, "f8"),
        (32, "u4"), (32, "u8"), (32, "i8"), (32, "f4"), (32, "f8"),
    ],
)  # fmt: skip
def test_gaps_and_dead_pixels_stay_so_in_a_wider_type(bits: int, kept: str) -> None:
    pixels = np.random.default_rng(1).poisson(20, (50, 60)).astype(f"u{bits // 8}")
    pixels[10:13] = 2**bits - 1
    pixels[20, 30] = 2**bits - 2
    expected = np.ones(pixels.shape, bool)
    expected[10:13] = False
    expected[20, 30] = False
    np.testing.assert_array_equal(valid_in(pixels.astype(kept)), expected)


def test_counts_of_a_wide_type_may_be_a_narrow_types_greatest() -> None:
    """A sum of frames holds 65535 somewhere, and greater counts elsewhere."""
    pixels = np.arange(65500, 65600, dtype=np.uint32).reshape(10, 10)
    assert valid_in(pixels).all()


@pytest.mark.parametrize("dtype", ["i2", "i4", "i8"])
def test_negative_integers_are_no_counts_unless_it_is_declared(dtype: str) -> None:
    pixels = np.array([[-7, -2, -1, 0, 5]], dtype)
    assert valid_in(pixels).tolist() == [[False, False, False, True, True]]
    assert valid_in(pixels, InvalidValues(values=(-7,))).tolist() == [[False, False, False, True, True]]
    assert valid_in(pixels, InvalidValues(values=(5,))).tolist() == [[True, True, True, True, False]]
    assert valid_in(pixels, InvalidValues(below=-3)).tolist() == [[False, False, False, True, True]]


def test_negative_reals_are_counts_from_which_something_was_subtracted() -> None:
    dark_subtracted = np.array([[-7.25, -2.5, -1.0, -0.5, 0, 12.0]], np.float32)
    assert valid_in(dark_subtracted).tolist() == [[True, True, False, True, True, True]]
    whole_numbers = np.array([[-7, -2, -1, 0, 12]], np.float32)
    assert valid_in(whole_numbers).all()
    pilatus = np.array([[-2, -1, 0, 3.5, 12]], np.float32)
    assert valid_in(pilatus).tolist() == [[False, False, True, True, True]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_what_is_not_finite_is_no_count(dtype: str) -> None:
    pixels = np.array([[math.nan, math.inf, -math.inf, 1]], dtype)
    assert valid_in(pixels).tolist() == [[False, False, False, True]]


def test_declared_values_have_pyfais_tolerance() -> None:
    pixels = np.array([[-10.04, -10, -9.9, 3, 4]], np.float32)
    declared = InvalidValues(values=(-10,), delta=0.05)
    assert valid_in(pixels, declared).tolist() == [[False, False, True, True, True]]
    assert valid_in(np.array([[2, 3, 4]], np.uint8), InvalidValues(values=(3.4,), delta=0.5)).tolist() == [
        [True, False, True]
    ]


@pytest.mark.parametrize("dtype", ["u2", "i4", "u8", "f4", "f8"])
def test_saturation_and_underload_are_valid_themselves(dtype: str) -> None:
    """NXdetector: valid pixels are less than or equal to saturation_value, greater or equal to underload_value."""
    pixels = np.array([[3, 4, 999, 1000, 1001, 60000]], dtype)
    declared = InvalidValues(above=1000, below=4)
    assert valid_in(pixels, declared).tolist() == [[False, True, True, True, False, False]]


def test_where_saturation_is_declared_no_bit_depth_is_guessed() -> None:
    pixels = np.array([[3, 65534, 65535]], np.uint32)
    assert not valid_in(pixels)[0, 1:].any()
    assert valid_in(pixels, InvalidValues(above=1e6)).all()


@given(
    dtype=st.sampled_from(TYPES),
    values=st.lists(
        st.one_of(st.floats(), st.integers(-300, 300), st.sampled_from([2**64, 2**63, -(2**63)])), max_size=4
    ),
    delta=st.sampled_from([0, 0.5, 3]),
    above=st.one_of(st.none(), st.floats(allow_nan=False)),
    below=st.one_of(st.none(), st.floats(allow_nan=False)),
)
def test_intervals_are_apart_and_fit_the_type(
    dtype: str, values: list[float], delta: float, above: float | None, below: float | None
) -> None:
    declared = InvalidValues(values=tuple(values), delta=delta, above=above, below=below)
    rules = invalid_pixels(np.dtype(dtype), declared)
    bounds = rules.bounds
    assert bounds.dtype == dtype
    assert (bounds[:, 0] <= bounds[:, 1]).all()
    assert (bounds[1:, 0] > bounds[:-1, 1]).all()


@given(
    st.sampled_from(TYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    )
)
def test_no_frame_has_an_invalid_pixel_where_none_may_be(pixels: np.ndarray) -> None:
    rules = invalid_pixels(pixels.dtype)
    with np.errstate(over="ignore"):
        single = pixels.astype(np.float32)
    if not rules.may_hold(single.min(), single.max()):
        assert rules.valid(pixels).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_a_marker_is_invalid_whatever_is_declared(dtype: str) -> None:
    one = np.array([[marker(np.dtype(dtype)), 1]], dtype)
    assert valid_in(one, InvalidValues(values=(7,), above=1e300, below=-1e300)).tolist() == [[False, True]]


def test_bytes_in_the_other_order_are_compared_as_numbers() -> None:
    assert invalid_pixels(np.dtype(">u2")) == invalid_pixels(np.dtype("<u2"))
    assert isinstance(invalid_pixels(np.dtype(">u2")), InvalidPixels)


def test_a_view_leaves_out_what_the_rules_mark_and_counts_it() -> None:
    geometry = Geometry(shape=(512, 512), center_x=255.5, center_y=255.5)
    clean = np.random.default_rng(2).poisson(50, geometry.shape).astype(np.uint32)
    pixels = clean.copy()
    dead = np.random.default_rng(3).choice(pixels.size, 20, replace=False)
    pixels.flat[dead] = 2**32 - 2
    mask = np.ones(pixels.shape, bool)
    mask.flat[dead] = False
    masked = Geometry(shape=(512, 512), center_x=255.5, center_y=255.5, mask=mask)
    view, expected = make_view(Frame(pixels, geometry)), make_view(Frame(clean, masked))
    np.testing.assert_array_equal(view.image, expected.image)
    np.testing.assert_array_equal(view.mask, expected.mask)
    assert view.masked_pixels == expected.masked_pixels == 20
