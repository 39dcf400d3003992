"""A view shows what a mask leaves: masked margins change nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream import Frame, Geometry
from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.files.moving_centre import GRID_STEPS, on_grid
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.shown_part import shown_part, span, without_margins
from dvfb_stream.tilt import Tilt
from dvfb_stream.view import ViewResampler, ViewResamplers

KNOWN = {
    "as it comes": {},
    "oblong pixels": {"pixel_aspect": 1.7},
    "tilted": {"tilt": Tilt(distance=300.0, right=0.3, down=-0.2)},
}


def framed(frame: Frame, margins: tuple[int, int, int, int]) -> Frame:
    """Return a frame on a detector with so many masked rows and columns more: above, below, left and right."""
    above, below, left, right = margins
    geometry, edges = frame.geometry, ((above, below), (left, right))
    mask = np.ones(geometry.shape, bool) if geometry.mask is None else geometry.mask
    pixels = np.pad(frame.pixels, edges, constant_values=77)
    return Frame(
        pixels,
        Geometry(
            shape=pixels.shape,
            center_x=geometry.center_x + left,
            center_y=geometry.center_y + above,
            mask=np.pad(mask, edges),
            pixel_aspect=geometry.pixel_aspect,
            tilt=geometry.tilt,
        ),
    )


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    margins=st.tuples(*[st.integers(0, 150)] * 4),
    masked=st.sampled_from([None, 0.0, 0.02, 0.5]),
    known=st.sampled_from(sorted(KNOWN)),
    kind=st.sampled_from(["u2", "<i4", ">f4"]),
    seed=st.integers(0, 99),
)
def test_masked_margins_change_nothing(shape, margins, masked, known, kind, seed):
    rng = np.random.default_rng(seed)
    mask = None
    if masked is not None:
        mask = rng.random(shape) >= masked
        mask[0, 0] = mask[-1, -1] = True
    x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
    pixels = rng.poisson(rng.choice([0.5, 30]), shape).astype(kind)
    alone = Frame(pixels, Geometry(shape=shape, center_x=x, center_y=y, mask=mask, **KNOWN[known]))
    within = framed(alone, margins)
    resamplers = ViewResampler(alone.geometry), ViewResampler(within.geometry)
    expected, view = (one.view(frame.pixels) for one, frame in zip(resamplers, (alone, within), strict=True))
    if alone.geometry.tilt is None:
        np.testing.assert_array_equal(view.image, expected.image)
        np.testing.assert_array_equal(view.mask, expected.mask)
    else:  # is interpolated from where the centre lies, which is rounded otherwise
        np.testing.assert_allclose(view.image[view.mask], expected.image[view.mask], rtol=1e-5, atol=1e-4)
        assert (view.mask ^ expected.mask).sum() <= 2
    np.testing.assert_array_equal(resamplers[1].covered_pixels, resamplers[0].covered_pixels)
    assert (view.center_x, view.center_y) == pytest.approx((expected.center_x, expected.center_y), abs=1e-9)
    assert (resamplers[1].scale_x, resamplers[1].scale_y) == (resamplers[0].scale_x, resamplers[0].scale_y)
    assert (view.counts, view.scale) == (expected.counts, expected.scale)
    assert view.masked_pixels == expected.masked_pixels + within.pixels.size - pixels.size


def test_what_is_shown_is_the_geometry_of_the_smaller_detector():
    mask = np.ones((40, 60), bool)
    mask[10, 12] = False
    for small in (Geometry(shape=(40, 60), center_x=3, center_y=50, mask=one) for one in (None, mask)):
        whole = framed(Frame(np.ones((40, 60)), small), (5, 6, 7, 8)).geometry
        part = shown_part(whole)
        assert part.geometry(whole) == small
        assert shown_part(small).geometry(small) is small


def test_what_is_too_little_for_a_label_is_not_magnified():
    for side, shown in ((62, 500), (63, 63)):  # a 64th is 62.5 x 62.5 pixels
        mask = np.zeros((500, 500), bool)
        mask[100 : 100 + side, 200 : 200 + side] = True
        part = shown_part(Geometry(shape=mask.shape, center_x=210, center_y=110, mask=mask))
        assert part.shape == (shown, shown)


def test_the_whole_is_shown_where_less_than_half_lies_within_reach_of_the_beam():
    """Of a window of 100 x 100 pixels, on the middle line of which the beam lies to the left."""
    mask = np.zeros((300, 600), bool)
    mask[100:200, 300:400] = True
    for distance in range(0, 100, 10):
        rows, columns = np.mgrid[100:200, 300:400]
        within = np.hypot(rows - 150, columns - (300 - distance)) <= 100
        part = shown_part(Geometry(shape=mask.shape, center_x=300 - distance, center_y=150, mask=mask))
        assert (part.shape == (100, 100)) == (within.mean() >= 0.5)
    assert part.shape == mask.shape


def test_a_window_far_from_the_beam_is_shown_so_that_the_basis_reaches_it():
    mask = np.zeros((500, 500), bool)
    mask[10:110, 20:120] = True
    window = Geometry(shape=mask.shape, center_x=300, center_y=300, mask=mask)
    alone = Geometry(shape=(100, 100), center_x=280, center_y=290)
    resamplers = ViewResamplers()
    estimators = FourierBesselCache(
        FourierBesselSettings(n_radial=4, orders=(0, 2)),
        resamplers,
        device=torch.device("cpu"),
        max_bytes=1 << 28,
    )
    pixels = np.random.default_rng(0).poisson(20, mask.shape)
    assert estimators.get(resamplers.get(window).view(pixels), window).fitted_pixels.any()
    # A detector of that size alone lies beyond the basis.
    with pytest.raises(GeometryError, match="no basis function reaches them"):
        estimators.get(resamplers.get(alone).view(pixels[10:110, 20:120]), alone)


def test_moving_centres_lie_on_the_grid_of_what_is_shown():
    small = Geometry(shape=(200, 300), center_x=0, center_y=0)
    whole = framed(Frame(np.ones((200, 300)), small), (100, 90, 50, 150)).geometry
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(-300, 600, (50, 2)):
        expected_x, expected_y = on_grid((x, y), without_margins(small))
        near = on_grid((x + 50, y + 100), without_margins(whole))
        assert near == pytest.approx((expected_x + 50, expected_y + 100), abs=1e-9)
        assert abs(expected_x - x) <= 300 / GRID_STEPS / 2 + 1e-9


def test_a_frame_that_is_marked_all_over_what_is_shown_fails_as_one_without_a_margin():
    mask = np.zeros((40, 50), bool)
    mask[5:35, 5:35] = True
    frame = Frame(np.full(mask.shape, -1), Geometry(shape=mask.shape, center_x=20, center_y=20, mask=mask))
    with pytest.raises(FrameError, match="no valid pixel is left: 2000 of 2000"):
        ViewResampler(frame.geometry).view(frame.pixels)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, 80.0])
def test_a_detector_has_the_same_span_however_it_is_turned(degrees):
    side, half_length, half_width = 700, 250.5, 90.5
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle = np.radians(degrees)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    mask = (np.abs(along) < half_length) & (np.abs(across) < half_width)
    assert span(mask.shape, 1.0, mask) == pytest.approx(2 * half_length, rel=5e-3)


def test_spans_of_rectangles_and_disks():
    assert span((300, 200), 1.0, None) == 300
    assert span((300, 200), 0.5, None) == 200
    assert span((300, 200), 0.5, np.ones((300, 200), bool)) == pytest.approx(200)
    y, x = np.mgrid[:400, :400] - 199.5
    disk = np.hypot(x, y) < 200
    assert span(disk.shape, 1.0, disk) == pytest.approx(400 * np.sqrt(3) / 2, rel=1e-3)
