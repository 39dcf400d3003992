"""Pixels that are not square: one pattern, calculated by pyFAI on either kind of detector, is seen alike."""

import numpy as np
import pytest

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.view import VIEW_SIZE, ViewResampler, make_view

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `files` brings it")

SIDE = 0.1024
"""Of the detector, in metres."""
PIXELS = {"square": (1e-4, 1e-4), "high": (2e-4, 1e-4), "wide": (1e-4, 4e-4)}
BEAM = (0.06, 0.055)
"""x and y of the beam on the detector, in metres."""
RINGS = (0.55, 0.95, 1.1)


def pattern(pixels: tuple[float, float]) -> Frame:
    """Rings and a falling background, by pyFAI's q of every pixel; the same counts per pixel everywhere."""
    from pyFAI.detectors import Detector
    from pyFAI.geometry import Geometry as PyFaiGeometry

    height, width = pixels
    shape = round(SIDE / height), round(SIDE / width)
    detector = Detector(pixel1=height, pixel2=width, max_shape=shape)
    # poni1 and poni2 count from the corner of the first pixel, in metres.
    calculated = PyFaiGeometry(dist=0.5, poni1=BEAM[1], poni2=BEAM[0], detector=detector, wavelength=1e-10)
    q = calculated.array_from_unit(shape, unit="q_A^-1")
    q = q / (2 * np.pi * SIDE / 2 / 0.5)  # 1 at the middle of a side
    rate = 200 * np.exp(-q / 0.2) + 4 + sum(60 * np.exp(-(((q - at) / 0.012) ** 2) / 2) for at in RINGS)
    counts = np.random.default_rng(0).poisson(rate).astype(np.int32)
    geometry = Geometry(
        shape=shape,
        center_x=BEAM[0] / width - 0.5,
        center_y=BEAM[1] / height - 0.5,
        pixel_aspect=height / width,
    )
    return Frame(counts, geometry)


@pytest.mark.parametrize("pixels", ["high", "wide"])
def test_the_view_is_that_of_square_pixels(pixels):
    square, other = make_view(pattern(PIXELS["square"])), make_view(pattern(PIXELS[pixels]))
    assert (other.center_x, other.center_y) == pytest.approx((square.center_x, square.center_y))
    assert other.mask.all()
    # What photons scatter by: 4 to 16 pixels of some counts each lie under a pixel of the view.
    assert np.abs(other.image - square.image).mean() < 4


def test_a_view_pixel_is_as_wide_as_it_is_high():
    resampler = ViewResampler(Geometry(shape=(100, 300), center_x=0, center_y=0, pixel_aspect=2))
    assert resampler.scale_x == pytest.approx(2 * resampler.scale_y)
    assert resampler.mask.sum() == pytest.approx(VIEW_SIZE * VIEW_SIZE * 200 / 300, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("pixels", ["high", "wide"])
def test_rings_are_no_two_fold_symmetry(pixels):
    annotator = Annotator.load("default", device="cpu")
    frame = pattern(PIXELS[pixels])
    undeclared = Geometry(
        shape=frame.geometry.shape, center_x=frame.geometry.center_x, center_y=frame.geometry.center_y
    )
    square, declared, wrong = annotator.annotate(
        [pattern(PIXELS["square"]), frame, Frame(frame.pixels, undeclared)]
    )
    assert "rings" in square.labels
    assert declared.labels == square.labels
    assert declared.scores == pytest.approx(square.scores, abs=0.1)
    assert "two_fold" not in square.labels
    assert "two_fold" in wrong.labels
