"""What one count is: known here, since the frames are counts that were scaled, corrected or subtracted from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream import Frame, Geometry, InvalidValues
from dvfb_stream.view import FULL_SCALE, make_view
from dvfb_stream.view.count_scale import ScaleSource

SHAPE = (300, 280)


def pattern(level, seed=0):
    """Counts of a falling background and a ring, some of `level` in a pixel of the ring."""
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - 140, columns - 150)
    mean = level * (np.exp(-radius / 60) + np.exp(-(((radius - 90) / 8) ** 2) / 2) + 0.1)
    return np.random.default_rng(seed).poisson(mean)


def seen(pixels, **known):
    return make_view(Frame(pixels, Geometry(shape=pixels.shape, center_x=150, center_y=140, **known)))


@settings(max_examples=40, deadline=None)
@given(
    level=st.sampled_from([0.02, 1, 30, 5000]),
    exponent=st.floats(-12, 9),
    kind=st.sampled_from([np.float32, np.float64, ">f4"]),
    offset=st.sampled_from([0, -3, 7]),
)
def test_multiples_of_one_number_are_counts_times_that(level, exponent, kind, offset):
    counts, unit = pattern(level), 10.0**exponent
    view = seen(((counts + offset) * unit).astype(kind), invalid_values=InvalidValues(below=-9e9))
    plain = seen((counts + offset).astype(float), invalid_values=InvalidValues(below=-9e9))
    assert view.scale.unit == pytest.approx(unit, rel=1e-4)
    np.testing.assert_allclose(view.image, plain.image, atol=0.02)
    np.testing.assert_array_equal(view.mask, plain.mask)


@pytest.mark.parametrize("level", [0.02, 1, 30, 5000])
@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.int64, "float32", "float64"])
def test_counts_are_left_as_they_are(kind, level):
    view = seen(pattern(level).astype(kind))
    assert (view.scale.unit, view.scale.source, view.scale.remark) == (1, ScaleSource.COUNTS, "")


@pytest.mark.parametrize("factor", [2, 3, 1000])
@pytest.mark.parametrize("level", [0.02, 1, 5000])
def test_integers_with_a_common_divisor_are_scaled_counts(factor, level):
    counts = pattern(level)
    view = seen((counts * factor).astype(np.uint32))
    assert view.scale.unit == factor
    np.testing.assert_allclose(view.image, seen(counts.astype(np.uint32)).image, atol=1e-3)
    assert f"multiples of {factor}" in view.scale.remark


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_an_image_of_two_values_has_no_steps(kind):
    pixels = np.zeros(SHAPE, kind)
    pixels[100:150, 100:150] = 200
    assert seen(pixels).scale.unit == seen(np.full(SHAPE, 200, kind)).scale.unit == 1


def test_a_few_even_numbers_say_nothing():
    pixels = np.zeros(SHAPE, np.int32)
    pixels[3, 5:25] = 4
    assert seen(pixels).scale.source is ScaleSource.COUNTS
    assert seen(pixels / 4).scale.source is ScaleSource.COUNTS


@pytest.mark.parametrize("level", [1, 30, 5000])
@pytest.mark.parametrize("unit", [1e-7, 1e-3, 1e4])
def test_noise_tells_what_a_count_is_where_each_pixel_was_corrected(level, unit):
    """By the solid angle, a smooth factor, which divides no two values by the same number."""
    rows, columns = np.indices(SHAPE)
    corrected = pattern(level) * unit * (1 + np.hypot(rows, columns) / 3000)
    view = seen(corrected)
    assert view.scale.source is ScaleSource.NOISE
    assert view.scale.unit == pytest.approx(unit, rel=0.5)
    assert "By its noise" in view.scale.remark
    close = seen(corrected / unit)  # in counts, but for the correction: no remark, no scale
    assert (close.scale.unit, close.scale.remark) == (1, "")


@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_steps_of_a_number_format_are_no_counts(unit):
    """Four decimals, as in a text file: a count has thousands of such steps."""
    rows, columns = np.indices(SHAPE)
    corrected = pattern(30) * (1 + np.hypot(rows, columns) / 3000)
    view = seen(np.round(corrected, 4) * unit)
    assert view.scale.unit == pytest.approx(unit, rel=0.5)


def test_noise_tells_it_of_frames_that_something_was_subtracted_from():
    """An average dark frame, which is no integer, and its photons' noise stay behind."""
    rng = np.random.default_rng(1)
    dark = rng.uniform(10, 12, SHAPE)
    subtracted = (pattern(1000) + rng.poisson(dark) - dark - 150) * 1e-5
    assert (subtracted < 0).any()
    assert seen(subtracted).scale.unit == pytest.approx(1e-5, rel=0.5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_frame_without_noise_is_taken_as_it_is_with_a_remark(kind):
    rows, columns = np.indices(SHAPE)
    smooth = 1e-3 * np.exp(-np.hypot(rows - 140, columns - 150) / 60).astype(kind)
    view = seen(smooth)
    assert (view.scale.unit, view.scale.source) == (1, ScaleSource.UNKNOWN)
    assert "State it by counts_per_unit" in view.scale.remark


def test_what_is_stated_is_believed():
    counts = pattern(30)
    view = seen(counts * 1e-6, counts_per_unit=1e6)
    np.testing.assert_allclose(view.image, seen(counts).image, atol=1e-3)
    assert view.scale.remark == ""
    doubled = seen(counts, counts_per_unit=2)
    mean = np.expm1(doubled.image[doubled.mask] * FULL_SCALE / 255).mean()
    assert mean == pytest.approx(2 * counts.mean(), rel=0.02)


@pytest.mark.parametrize("unit", [1e-3, 1e4])
def test_marks_of_pilatus_that_were_scaled_with_the_counts_stay_marks(unit):
    counts = pattern(30).astype(float)
    counts[100:110], counts[50, 60] = -1, -2
    view, plain = seen(counts * unit), seen(counts.astype(np.int32))
    np.testing.assert_array_equal(view.mask, plain.mask)
    assert view.masked_pixels == plain.masked_pixels == 10 * SHAPE[1] + 1


def test_a_background_of_mean_zero_reads_nothing():
    """Negative and positive pixels cancel before the logarithm; by themselves the positive read 0.8 sigma."""
    rng = np.random.default_rng(2)
    subtracted = (rng.poisson(20, (1024, 1024)) - 20).astype(np.float32)
    image = seen(subtracted).image
    counts = np.expm1(image * FULL_SCALE / 255)
    # 16 pixels of variance 20 under a view pixel: sigma 1.1, of whose positive half the mean is 0.4 sigma.
    assert counts.mean() == pytest.approx(0.4 * np.sqrt(20 / 16), rel=0.05)
