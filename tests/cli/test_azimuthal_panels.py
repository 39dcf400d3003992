"""The azimuth-radius map shows each pixel where it lies, and contrasts are those of the waves that are there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dvfb_stream.cli.plot.azimuth import measure_azimuth
from dvfb_stream.cli.plot.azimuthal_panels import (
    FAINT,
    STYLES,
    draw_contrasts,
    draw_polar_map,
    order_in_words,
)
from dvfb_stream.cli.plot.panels import new_figure
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.view import FineView, View, make_view

GEOMETRY = Geometry(shape=(256, 256), center_x=120.0, center_y=131.0)
Y, X = np.indices(GEOMETRY.shape)
RADIUS = np.hypot(X - GEOMETRY.center_x, Y - GEOMETRY.center_y)
AZIMUTH = np.arctan2(Y - GEOMETRY.center_y, X - GEOMETRY.center_x)


def wave(order: int, amplitude: float) -> np.ndarray:
    """Return 400 counts times a wave along the azimuth, with counting noise."""
    mean = 400 * (1 + amplitude * np.cos(order * AZIMUTH - 0.4))
    return np.random.default_rng(order).poisson(mean).astype(np.int32)


def azimuth_of(pixels, geometry=GEOMETRY):
    return measure_azimuth(make_view(Frame(pixels, geometry)), geometry)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_contrast_is_the_standard_deviation_of_the_wave_over_its_mean(order):
    azimuth = azimuth_of(wave(order, 0.3))
    contrast, significant = azimuth.contrasts(order)
    far = azimuth.radii > 10
    np.testing.assert_allclose(np.median(contrast[far]), 0.3 / math.sqrt(2), rtol=0.02)
    assert significant[far & (azimuth.radii < 100)].all()
    others = [azimuth.contrasts(other)[1].mean() for other in (2, 4, 6) if other != order]
    assert max(others) < 0.05
    assert (azimuth.order, azimuth.verified) == (order, True)
    assert azimuth.contrast == pytest.approx(0.21, abs=0.03)


def test_what_noise_makes_is_faint_and_the_wave_is_not():
    axes = new_figure(4, 3).subplots()
    azimuth = azimuth_of(wave(4, 0.3))
    draw_contrasts(axes, azimuth)
    drawn = {
        (line.get_color(), line.get_alpha()): len(line.get_xdata())
        for line in axes.lines
        if line.get_alpha() is not None
    }
    assert len(drawn) == 6
    for order in (2, 4, 6):
        _, significant = azimuth.contrasts(order)
        colour = STYLES[order][0]
        assert (drawn[colour, 1.0], drawn[colour, FAINT]) == (significant.sum(), (~significant).sum())
    assert drawn[STYLES[4][0], 1.0] > 50


def test_the_map_has_each_pixel_at_its_azimuth_and_radius():
    mask = RADIUS > 5
    geometry = Geometry(shape=GEOMETRY.shape, center_x=120.0, center_y=131.0, mask=mask)
    image = (RADIUS + 100 * (AZIMUTH > 0)).astype(np.float32)
    azimuth = measure_azimuth(View(image, mask, 120.0, 131.0, FineView.of(image, mask)), geometry)
    down, up, right = 180 + 90, 180 - 90, 180  # rows run down: +90 degrees
    for row, extra in ((down, 100), (up, 0), (right, 0)):
        assert azimuth.map[row, 50] - extra == pytest.approx(50.5, abs=0.8)
    assert azimuth.masked[:, :4].all()
    assert not azimuth.seen[:, :4].any()
    # Off the view is neither; its edges lie 124.5 pixels below the centre and 131.5 above it.
    off = ~azimuth.seen & ~azimuth.masked
    assert [int(np.argmax(off[row])) for row in (down, up)] == pytest.approx([124.5, 131.5], abs=0.6)
    axes = new_figure(4, 3).subplots()
    draw_polar_map(axes, azimuth)
    values, masked = axes.images
    np.testing.assert_array_equal(np.ma.getmaskarray(values.get_array()), ~azimuth.seen)
    np.testing.assert_array_equal(np.ma.getmaskarray(masked.get_array()), ~azimuth.masked)
    corner = math.hypot(255.5 - 120, -0.5 - 131)
    assert axes.get_xlim() == (0, pytest.approx(corner, abs=2))


def test_where_one_side_is_seen_all_sectors_are_taken_and_that_is_said():
    mask = np.ones(GEOMETRY.shape, bool)
    mask[int(GEOMETRY.center_y) :] = False
    geometry = Geometry(shape=GEOMETRY.shape, center_x=120.0, center_y=131.0, mask=mask)
    azimuth = azimuth_of(wave(2, 0.3), geometry)
    assert not azimuth.verified
    assert azimuth.order == 2
    axes = new_figure(4, 3).subplots()
    draw_contrasts(axes, azimuth)
    assert [text.get_text() for text in axes.texts] == ["of all sectors, not verified"]


def test_a_beam_far_off_the_view_leaves_nothing_to_measure():
    geometry = Geometry(shape=GEOMETRY.shape, center_x=-600.0, center_y=131.0)
    azimuth = azimuth_of(wave(2, 0.3), geometry)
    assert len(azimuth.radii) == 0
    assert order_in_words(azimuth, 0, math.nan) == "no order could be measured"
    figure = new_figure(4, 3)
    polar, contrasts = figure.subplots(2)
    draw_polar_map(polar, azimuth)
    draw_contrasts(contrasts, azimuth)
    assert [text.get_text() for text in contrasts.texts] == ["too little is seen"]


def test_a_row_s_measured_order_is_said_before_the_figure_s_own():
    azimuth = azimuth_of(wave(4, 0.3))
    assert order_in_words(azimuth, 0, math.nan).startswith("measured order 4, contrast 0.2")
    assert order_in_words(azimuth, 2, 0.5) == "measured order 2, contrast 0.50"
    assert order_in_words(azimuth, 0, 0.01) == "no order stands out"
