"""One pass over the pixels gives what the definition gives, whatever the frame's type, layout, marks and history."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream import Geometry
from dvfb_stream.view import ViewResampler
from tests.view.exact import exact_view

TYPES = ["u1", "<u2", ">u2", "i2", "<i4", ">i4", "u4", "i8", "u8", "f2", "<f4", ">f4", "f8", ">f8", "f16"]
LAYOUTS = {
    "contiguous": lambda pixels: pixels,
    "by columns": np.asfortranarray,
    "every second of a larger frame": lambda pixels: np.repeat(np.repeat(pixels, 2, 0), 3, 1)[::2, ::3],
    "upside down": lambda pixels: pixels[::-1].copy()[::-1],
}


def assert_is_exact(view, pixels, geometry, valid):
    image, mask, share = exact_view(pixels, geometry, valid)
    decided = ~(np.abs(share - 0.25) < 1e-4)  # a quarter, but for rounding, may be called either
    np.testing.assert_array_equal(view.mask[decided], mask[decided])
    both = view.mask & mask
    np.testing.assert_allclose(view.image[both], image[both], rtol=2e-5, atol=2e-4)
    assert not view.image[~view.mask].any()
    assert view.masked_pixels == valid.size - valid.sum()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TYPES)
def test_any_type_and_layout(kind, layout):
    rng = np.random.default_rng(0)
    shape = (619, 487)
    mask = rng.random(shape) > 0.02
    mask[195:212] = False
    mask[:, 200:207] = False
    pixels = rng.poisson(20, shape).astype(kind)
    pixels[~mask] = 99
    geometry = Geometry(shape=shape, center_x=3, center_y=4, mask=mask)
    laid_out = LAYOUTS[layout](pixels)
    np.testing.assert_array_equal(laid_out, pixels)
    assert_is_exact(ViewResampler(geometry).view(laid_out), pixels, geometry, mask)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    aspect=st.sampled_from([1.0, 0.5, 2.0, 1.3, 40.0]),
    masked=st.sampled_from([0.0, 0.1, 0.7]),
    seed=st.integers(0, 99),
)
def test_any_shape_aspect_and_mask(shape, aspect, masked, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) >= masked
    mask[: shape[0] // 3 + 1, : shape[1] // 3 + 1] = True
    # Whatever is masked around that: of less than a 64th of the view the margins are shown.
    mask[-1, -1] = True
    pixels = rng.poisson(rng.choice([0.1, 3, 3000]), shape).astype(np.uint16)
    geometry = Geometry(shape=shape, center_x=3, center_y=4, mask=mask, pixel_aspect=aspect)
    assert_is_exact(ViewResampler(geometry).view(pixels), pixels, geometry, mask)


def marked_frames(kind, shape, rng):
    """Frames that lack gaps, other gaps, some pixels each time, many or none; with their valid pixels."""
    marks = [np.zeros(shape, dtype=bool) for _ in range(40)]
    for number, marked in enumerate(marks):
        if number < 30:
            marked[100:117] = marked[:, 200:207] = True
        if 10 <= number < 20:
            marked[300:310] = True
            marked[105] = False
        if number >= 5:
            marked[rng.integers(0, shape[0], 20), rng.integers(0, shape[1], 20)] = True
        if number == 25:
            marked[:] = rng.random(shape) < 0.4
    for marked in marks:
        pixels = rng.poisson(5, shape).astype(kind)
        pixels[marked] = np.nan if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max - rng.integers(2)
        yield pixels, ~marked


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("kind", ["i4", "u2", "f4", ">u4"])
def test_what_earlier_frames_lacked_does_not_matter(kind, with_mask):
    rng = np.random.default_rng(1)
    shape = (517, 431)
    mask = np.ones(shape, dtype=bool)
    if with_mask:
        mask[100:110, 50:] = mask[400:] = False
    geometry = Geometry(shape=shape, center_x=3, center_y=4, mask=mask if with_mask else None)
    resampler = ViewResampler(geometry)
    for pixels, valid in marked_frames(kind, shape, rng):
        assert_is_exact(resampler.view(pixels), pixels, geometry, valid & mask)


def test_frames_may_be_added_up_side_by_side():
    rng = np.random.default_rng(2)
    shape = (517, 431)
    geometry = Geometry(shape=shape, center_x=3, center_y=4)
    frames = list(marked_frames("i4", shape, rng))
    alone = [ViewResampler(geometry).view(pixels).image for pixels, _ in frames]
    resampler = ViewResampler(geometry)
    start = threading.Barrier(4)

    def all_of_them(_):
        start.wait(30)
        return [resampler.view(pixels).image for pixels, _ in frames]

    with ThreadPoolExecutor(4) as threads:
        for images in threads.map(all_of_them, range(4)):
            np.testing.assert_allclose(images, alone, rtol=1e-5, atol=1e-4)
    assert len(resampler._sums._spare) <= 4
