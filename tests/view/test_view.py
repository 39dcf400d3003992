"""The view: area averages of valid pixels, whatever the detector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dvfb_stream import Frame, Geometry
from dvfb_stream.errors import FrameError
from dvfb_stream.view import FULL_SCALE, VIEW_SIZE, ViewResampler, ViewResamplers, make_view


def counts_of(view):
    """Mean counts back from the logarithm."""
    return np.expm1(view.image.astype(float) * FULL_SCALE / 255)


def test_integer_ratios_average_blocks():
    pixels = np.random.default_rng(0).poisson(20, (512, 512)).astype(np.uint16)
    view = make_view(Frame(pixels, Geometry(shape=(512, 512), center_x=100.5, center_y=200.5)))
    blocks = pixels.reshape(256, 2, 256, 2).mean((1, 3))
    np.testing.assert_allclose(counts_of(view), blocks, rtol=1e-5)
    assert view.mask.all()
    assert (view.center_x, view.center_y) == (50.0, 100.0)  # centre of the second pixel pair's edge


def test_a_frame_of_the_views_size_is_not_moved():
    pixels = np.random.default_rng(0).poisson(20, (256, 256)).astype(float)
    view = make_view(Frame(pixels, Geometry(shape=(256, 256), center_x=-7.25, center_y=300.0)))
    np.testing.assert_allclose(counts_of(view), pixels, rtol=1e-5)
    assert (view.center_x, view.center_y) == (-7.25, 300.0)


def test_the_centre_moves_with_the_pixels():
    """A narrow peak stays where the centre says, at any scale and shape."""
    for shape, x, y in [((1043, 981), 302.7, 530.9), ((195, 487), 243.0, 97.0), ((100, 80), 30.0, 60.0)]:
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        width = max(shape) / 60
        peak = 1000 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2 / width**2)
        view = make_view(Frame(peak, Geometry(shape=shape, center_x=x, center_y=y)))
        weights = counts_of(view)
        rows, columns = np.mgrid[:VIEW_SIZE, :VIEW_SIZE]
        assert (weights * columns).sum() / weights.sum() == pytest.approx(view.center_x, abs=0.02)
        assert (weights * rows).sum() / weights.sum() == pytest.approx(view.center_y, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    level=st.integers(0, 60000).filter(lambda level: level != 255),  # of 8 bits, no count in any type
    dtype=st.sampled_from([np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64, ">u2", ">f4"]),
    seed=st.integers(0, 99),
)
def test_a_flat_field_stays_flat_under_any_mask(shape, level, dtype, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > 0.4
    mask[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = True
    pixels = np.full(shape, level, dtype=dtype)
    pixels[~mask] = 7
    view = make_view(Frame(pixels, Geometry(shape=shape, center_x=3, center_y=4, mask=mask)))
    assert view.image.shape == view.mask.shape == (VIEW_SIZE, VIEW_SIZE)
    np.testing.assert_allclose(counts_of(view)[view.mask], level, rtol=1e-3, atol=1e-3)
    assert not view.image[~view.mask].any()


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 50)))
def test_counts_are_conserved(pixels):
    """The sum of mean counts times covered area is the sum of counts."""
    resampler = ViewResampler(Geometry(shape=pixels.shape, center_x=0, center_y=0, counts_per_unit=1))
    view = resampler.view(pixels)
    area = np.where(view.mask, resampler.covered_pixels, 0)
    np.testing.assert_allclose((counts_of(view) * area).sum(), pixels.sum(), rtol=1e-3, atol=1e-2)


def test_a_view_pixel_needs_a_quarter_of_its_area():
    pixels = np.full((512, 512), 9, dtype=np.int32)
    pixels[0, 0] = pixels[0, 1] = pixels[1, 0] = -1  # a quarter is left
    pixels[10:12, 10:12] = -1
    pixels[11, 11] = 9
    pixels[20:22, 20:22] = -1
    view = make_view(Frame(pixels, Geometry(shape=(512, 512), center_x=0, center_y=0)))
    assert view.mask[0, 0]
    assert view.mask[5, 5]
    assert not view.mask[10, 10]
    np.testing.assert_allclose(counts_of(view)[5, 5], 9, rtol=1e-5)


def test_a_narrow_gap_stays_visible():
    """Seven columns between the modules of a 1-megapixel detector, wherever they fall on the view's grid."""
    for first in range(480, 500):
        pixels = np.full((1043, 981), 3, dtype=np.int32)
        pixels[:, first : first + 7] = -1
        view = make_view(Frame(pixels, Geometry(shape=(1043, 981), center_x=3, center_y=4)))
        assert 1 <= (~view.mask[100, 10:240]).sum() <= 2


@pytest.mark.parametrize(
    ("dtype", "overflow"), [(np.uint16, 65535), (np.uint32, 2**32 - 1), (np.int32, 2**31 - 1)]
)
def test_negative_counts_and_overflow_are_invalid(dtype, overflow):
    pixels = np.full((256, 256), 5, dtype=dtype)
    pixels[10, 20] = overflow
    if np.issubdtype(dtype, np.signedinteger):
        pixels[30, 40] = -2
    view = make_view(Frame(pixels, Geometry(shape=(256, 256), center_x=3, center_y=4)))
    assert not view.mask[10, 20]
    assert view.mask[30, 40] == (pixels[30, 40] >= 0)
    assert view.mask.sum() == (pixels[30, 40] >= 0) + 256 * 256 - 2


def test_module_gaps_stay_masked():
    pixels = np.full((1043, 981), 3, dtype=np.int32)
    pixels[195:212] = -1
    view = make_view(Frame(pixels, Geometry(shape=(1043, 981), center_x=3, center_y=4)))
    scale = 1043 / 256
    first, last = int(np.ceil(195 / scale)), int(np.floor(212 / scale))
    assert not view.mask[first:last].any()
    assert view.mask[first - 2][10:240].all()
    assert not view.mask[:, :7].any()  # 981 columns fill 240.8 of 256: the rest lies left and right of them


def test_not_a_number_is_no_value():
    pixels = np.random.default_rng(0).poisson(20, (256, 256)).astype(np.float32)
    pixels[4:6, 5] = np.nan
    pixels[7, 8] = np.inf
    view = make_view(Frame(pixels, Geometry(shape=(256, 256), center_x=3, center_y=4)))
    np.testing.assert_array_equal(view.mask, np.isfinite(pixels))
    assert view.masked_pixels == 3
    np.testing.assert_allclose(counts_of(view)[view.mask], pixels[np.isfinite(pixels)], rtol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.ones((20, 31)), r"\(20, 31\), but its geometry says \(20, 30\)"),
        (np.ones((20, 30), dtype=complex), "complex128"),
        (np.full((20, 30), -1), "no valid pixel is left: 600 of 600"),
        (np.full((20, 30), np.nan), "no valid pixel is left: 600 of 600"),
        (np.full((20, 30), "a"), "integer or floating"),
        (np.full((20, 30), 1e39), r"pixels reach 1e\+39, too large"),
        ([[1], [1, 2]], r"an array of \(20, 30\)"),
    ],
)
def test_pixels_that_cannot_be_seen_are_refused(pixels, message):
    with pytest.raises(FrameError, match=message):
        make_view(Frame(pixels, Geometry(shape=(20, 30), center_x=3, center_y=4)))


def test_resamplers_are_kept_within_a_bound_of_bytes():
    """A mask takes a byte for each pixel of the detector, whatever the size of the view."""
    mask = np.ones((1000, 1000), dtype=bool)
    geometries = [Geometry(shape=(1000, 1000), center_x=x, center_y=0, mask=mask) for x in range(5)]
    assert ViewResampler(geometries[0]).nbytes > mask.nbytes
    resamplers = ViewResamplers(max_bytes=int(2.5 * ViewResampler(geometries[0]).nbytes))
    first = resamplers.get(geometries[0])
    for geometry in geometries[1:]:
        resamplers.get(geometry)
        assert resamplers._kept.n_bytes <= resamplers._kept.max_bytes
        assert resamplers.get(geometries[0]) is first
