"""Beyond the edge of a detector rings go on as rings, streaks as streaks, with counting noise."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.training.real_frames.continuation import continued

ROWS, COLUMNS = 160, 200
X, Y = 105.0, 71.0


def polar(rows, columns, x, y):
    down, across = np.indices((rows, columns), sparse=True)
    return np.hypot(across - x, down - y), np.arctan2(down - y, across - x)


def frame_of(pattern, mask=None):
    counts = np.random.default_rng(1).poisson(pattern(*polar(ROWS, COLUMNS, X, Y)))
    return Frame(counts, Geometry(shape=counts.shape, center_x=X, center_y=Y, mask=mask))


def larger_of(pattern, mask=None):
    """The frame continued, its radius and azimuth, and which pixels are new."""
    frame = frame_of(pattern, mask)
    larger = continued(frame, 1.5, np.random.default_rng(2))
    assert larger.pixels.shape == (240, 300)
    assert larger.pixels.dtype == frame.pixels.dtype
    new = np.ones(larger.pixels.shape, bool)
    new[40:200, 50:250] = False
    np.testing.assert_array_equal(larger.pixels[~new].reshape(ROWS, COLUMNS), frame.pixels)
    assert (larger.geometry.center_x, larger.geometry.center_y) == (X + 50, Y + 40)
    assert larger.geometry.mask[new].all()
    return larger, *polar(240, 300, X + 50, Y + 40), new


def decay(radius, azimuth):
    return 4e5 / (radius + 20) ** 2 + 0 * azimuth


def test_an_isotropic_decay_goes_on_as_it_is():
    larger, radius, azimuth, new = larger_of(decay)
    expected = decay(radius, azimuth)
    for low, high in ((90, 120), (120, 150), (150, 190)):
        there = new & (radius > low) & (radius < high)
        # The power law of the outer part is that of 1 / (r + 20)^2 within a tenth.
        assert larger.pixels[there].mean() == pytest.approx(expected[there].mean(), rel=0.12)
    near = new & (radius > 100) & (radius < 104)
    assert larger.pixels[near].var() / larger.pixels[near].mean() == pytest.approx(1, abs=0.25)


def test_a_ring_that_leaves_the_detector_is_whole():
    def ring(radius, azimuth):
        return 20 + 300 * np.exp(-(((radius - 95) / 4) ** 2)) + 0 * azimuth

    larger, radius, azimuth, new = larger_of(ring)
    for towards in np.arange(-3, 3.1, 0.5):
        there = new & (np.abs(radius - 95) < 1.5) & (np.abs(azimuth - towards) < 0.25)
        if there.sum() > 10:
            assert larger.pixels[there].mean() == pytest.approx(315, rel=0.1)
    assert larger.pixels[new & (radius > 115) & (radius < 140)].mean() == pytest.approx(20, rel=0.2)


def test_a_streak_goes_on_in_its_direction():
    def streak(radius, azimuth):
        across = np.abs(radius * np.sin(azimuth))
        return decay(radius, azimuth) * (1 + 9 * np.exp(-((across / 6) ** 2)))

    larger, radius, azimuth, new = larger_of(streak)
    for side in (1, -1):
        right = (radius * np.cos(azimuth) * side > 0) & new & (np.abs(np.sin(azimuth)) < 0.03)
        outward = right & (radius > 105) & (radius < 140)
        assert larger.pixels[outward].mean() > 4 * decay(radius, azimuth)[outward].mean()
    up = new & (np.abs(np.cos(azimuth)) < 0.3)
    assert larger.pixels[up].mean() < 1.5 * decay(radius, azimuth)[up].mean()


def test_a_shadow_at_the_edge_goes_on():
    def window(radius, azimuth):
        return decay(radius, azimuth) * (np.sin(azimuth) < 0.5)

    larger, _, azimuth, new = larger_of(window)
    assert larger.pixels[new & (np.sin(azimuth) > 0.75)].mean() < 0.5
    assert larger.pixels[new & (np.sin(azimuth) < 0.2)].mean() > 5


def test_a_masked_edge_is_carried_on_to_but_gaps_and_what_hides_the_beam_stay():
    radius, _ = polar(ROWS, COLUMNS, X, Y)
    mask = radius < 110  # round: the corners are masked
    mask[30:34], mask[:, 60] = False, False  # gaps
    mask[70:, 104:107] = False  # a beamstop's holder, to the edge
    frame = frame_of(decay, mask)
    larger = continued(frame, 1.5, np.random.default_rng(2))
    radius, azimuth = polar(240, 300, X + 50, Y + 40)
    corner = np.zeros((240, 300), bool)
    corner[40:200, 50:250] = polar(ROWS, COLUMNS, X, Y)[0] >= 110
    corner[:, 50 + 60] = corner[40 + 30 : 40 + 34] = False
    assert corner.sum() > 500
    assert larger.geometry.mask[corner].all()
    assert larger.pixels[corner].mean() == pytest.approx(decay(radius, azimuth)[corner].mean(), rel=0.1)
    inside = larger.geometry.mask[40:200, 50:250]
    assert not inside[30:34].any()
    assert not inside[:, 60].any()
    assert not inside[72:150, 104:107].any()


def test_from_a_beam_off_the_detector_nothing_goes_on():
    frame = Frame(np.ones((20, 20), int), Geometry(shape=(20, 20), center_x=-1, center_y=10))
    assert continued(frame, 1.5, np.random.default_rng(0)) is None
