"""Altered frames show the same pattern: each pixel's counts, mask and place about the beam are where they must be."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.invalid_pixels import invalid_pixels
from dvfb_stream.training.real_frames import alterations

ROWS, COLUMNS = 40, 61
X, Y = 25.5, 17.0


def frame_of(pixels, mask=None, x=X, y=Y):
    return Frame(pixels, Geometry(shape=pixels.shape, center_x=x, center_y=y, mask=mask))


def places(frame, value):
    """Offsets (x, y) from the beam of the pixels with a value."""
    rows, columns = np.nonzero(frame.pixels == value)
    return {
        (float(x - frame.geometry.center_x), float(y - frame.geometry.center_y))
        for x, y in zip(columns, rows, strict=True)
    }


@pytest.fixture
def marked():
    """A frame with one bright pixel, 5.5 right of and 3 below the beam, and one masked, 4.5 left of it."""
    pixels = np.zeros((ROWS, COLUMNS), np.int32)
    pixels[20, 31] = 9
    mask = np.ones_like(pixels, bool)
    mask[17, 21] = False
    return frame_of(pixels, mask)


def test_what_is_invalid_by_its_value_is_masked():
    counts = np.array([[3, -1, 2**16 - 1, 60_000]])
    mask = np.array([[False, True, True, True]])
    for dtype, valid in ((np.int32, [0, 0, 0, 1]), (np.int64, [0, 0, 0, 1])):  # of 16 bits, in a wider type
        settled = alterations.settle(frame_of(counts.astype(dtype), mask)).frame
        np.testing.assert_array_equal(settled.geometry.mask, [valid])
        np.testing.assert_array_equal(settled.pixels, [[0, 0, 0, 60_000]])
    settled = alterations.settle(frame_of(counts.clip(0).astype(np.uint16))).frame
    np.testing.assert_array_equal(settled.geometry.mask, [[True, True, False, True]])
    settled = alterations.settle(frame_of(np.array([[np.nan, np.inf, 0.5, -0.5]], np.float32))).frame
    np.testing.assert_array_equal(settled.geometry.mask, [[False, False, True, True]])


def test_no_value_of_an_altered_frame_is_taken_for_a_mark():
    counts = np.full((40, 40), 85)
    counts[3, 4] = 63
    binned = alterations.binned(alterations.settle(frame_of(np.where(counts == 85, 64, counts))).frame)
    assert binned.pixels.max() == 256
    assert binned.pixels.min() == 255
    assert invalid_pixels(binned.pixels.dtype, binned.geometry.invalid_values).reconsidered(0, 255) is None


def test_eight_exact_symmetries_move_pixels_mask_and_centre_together(marked):
    found = set()
    for mirrored in (False, True):
        for quarters in range(4):
            turned = alterations.turned(marked, quarters, mirrored=mirrored)
            (bright,) = places(turned, 9)
            masked = frame_of(
                turned.geometry.mask.astype(int), x=turned.geometry.center_x, y=turned.geometry.center_y
            )
            (dark,) = places(masked, 0)
            # Dot and cross product of (5.5, 3) and (-4.5, 0): the latter changes its sign in a mirror.
            assert bright[0] * dark[0] + bright[1] * dark[1] == 5.5 * -4.5
            assert bright[0] * dark[1] - bright[1] * dark[0] == (-1 if mirrored else 1) * 3 * 4.5
            found.add(bright)
    assert found == {(s * a, t * b) for a, b in ((5.5, 3.0), (3.0, 5.5)) for s in (1, -1) for t in (1, -1)}


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 200])
def test_a_rotated_frame_is_whole_and_turned_about_the_beam(degrees):
    pixels = np.zeros((ROWS, COLUMNS), np.int32)
    pixels[28:33, 44:49] = 9  # 20.5 right of the beam, 13 below
    rotated = alterations.rotated(frame_of(pixels), degrees)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = np.mean(list(places(rotated, 9)), axis=0)
    assert (x, y) == (
        pytest.approx(20.5 * cos - 13 * sin, abs=0.3),
        pytest.approx(20.5 * sin + 13 * cos, abs=0.3),
    )
    assert rotated.geometry.mask.sum() == pytest.approx(ROWS * COLUMNS, rel=0.02)
    assert (rotated.pixels[~rotated.geometry.mask] == 0).all()


def test_a_rotation_keeps_counting_noise():
    counts = np.random.default_rng(0).poisson(30, (200, 200))
    rotated = alterations.rotated(frame_of(counts), 33)
    valid = rotated.pixels[rotated.geometry.mask]
    assert valid.var() / valid.mean() == pytest.approx(1, abs=0.05)


def test_the_stated_centre_moves_alone(marked):
    moved = alterations.with_centre_off(marked, 3, -2)
    assert (moved.geometry.center_x, moved.geometry.center_y) == (X + 3, Y - 2)
    assert moved.pixels is marked.pixels


def test_a_shorter_exposure_has_the_counting_noise_of_fewer_counts():
    random = np.random.default_rng(1)
    counts = random.poisson(50, (300, 300)).astype(np.int64)
    shorter = alterations.exposed(frame_of(counts), 0.1, random).pixels
    assert shorter.mean() == pytest.approx(5, rel=0.01)
    assert shorter.var() == pytest.approx(5, rel=0.05)  # multiplied, it would be 0.5
    assert (shorter <= counts).all()


def test_a_longer_exposure_is_multiplied():
    random = np.random.default_rng(1)
    for counts in ([[0, 7]], [[0.0, 7.5]]):
        longer = alterations.exposed(frame_of(np.array(counts)), 10, random)
        np.testing.assert_allclose(longer.pixels, 10 * np.array(counts))
        assert longer.geometry.counts_per_unit == 1


def test_photons_of_numbers_that_are_no_counts_are_thinned():
    random = np.random.default_rng(1)
    worth = 0.37
    corrected = random.poisson(60, (300, 300)) * worth
    corrected[0, 0] = -0.5  # something was subtracted
    shorter = alterations.exposed(frame_of(corrected), 0.1, random).pixels
    assert shorter.mean() == pytest.approx(6 * worth, rel=0.01)
    assert shorter.var() == pytest.approx(6 * worth**2, rel=0.08)  # multiplied, a tenth of it
    assert shorter[0, 0] == pytest.approx(-0.05)
    even = np.full((20, 20), 2.5)  # without noise no photon is known
    np.testing.assert_allclose(alterations.exposed(frame_of(even), 0.1, random).pixels, 0.25)


def test_scaled_frames_do_not_say_what_a_count_is():
    scaled = alterations.scaled(frame_of(np.array([[0, 7]])), 0.1)
    np.testing.assert_allclose(scaled.pixels, [[0, 0.7]])
    assert scaled.geometry.counts_per_unit is None


def test_binning_sums_counts_and_keeps_places():
    pixels = np.arange(5 * 6).reshape(5, 6)
    mask = np.ones((5, 6), bool)
    mask[2, 3] = False
    binned = alterations.binned(frame_of(pixels, mask, x=2.5, y=0.5))
    np.testing.assert_array_equal(
        binned.pixels,
        [[0 + 1 + 6 + 7, 2 + 3 + 8 + 9, 4 + 5 + 10 + 11], [12 + 13 + 18 + 19, 0, 16 + 17 + 22 + 23]],
    )
    np.testing.assert_array_equal(binned.geometry.mask, [[True] * 3, [True, False, True]])
    # Between the second and third block of the first row of blocks: blocks have their middles at 0.5, 2.5, 4.5.
    assert (binned.geometry.center_x, binned.geometry.center_y) == (1, 0)


def test_a_larger_detector_has_the_pattern_in_its_middle(marked):
    larger = alterations.on_larger_detector(marked, 1.5)
    assert larger.pixels.shape == (60, 92)
    assert places(larger, 9) == places(marked, 9)
    assert larger.geometry.mask.sum() == ROWS * COLUMNS - 1
    assert larger.geometry.mask[10:50, 15:76].mean() > 0.99


def ringed(counts=40.0, contrast=0.8, size=161):
    """Expected counts with a two-fold ring around the middle."""
    y, x = np.indices((size, size)) - size // 2
    radius, azimuth = np.hypot(x, y), np.arctan2(y, x)
    return (
        counts * (1 + np.exp(-(((radius - 50) / 8) ** 2)) * (1 + contrast * np.cos(2 * azimuth))),
        azimuth,
        radius,
    )


def test_an_isotropic_twin_has_the_same_means_counting_noise_and_no_fold():
    expected, azimuth, radius = ringed()
    random = np.random.default_rng(2)
    mask = np.abs(np.indices(expected.shape)[0] - 30) > 3
    frame = frame_of(random.poisson(expected), mask, x=80, y=80)
    twin = alterations.isotropic_twin(frame, random)
    np.testing.assert_array_equal(twin.geometry.mask, mask)
    assert (twin.pixels[~mask] == 0).all()
    ring = (np.abs(radius - 50) < 6) & mask
    n = ring.sum()
    assert twin.pixels[ring].mean() == pytest.approx(frame.pixels[ring].mean(), rel=0.02)
    second = np.cos(2 * azimuth[ring])
    second -= second.mean()
    spread = np.sqrt(expected[ring].mean() / (2 * n))  # of a mean of n counts times a cosine
    assert abs(np.mean(frame.pixels[ring] * second)) > 20 * spread
    assert abs(np.mean(twin.pixels[ring] * second)) < 4 * spread
    flat = (radius > 70) & (radius < 80) & mask
    assert twin.pixels[flat].var() / twin.pixels[flat].mean() == pytest.approx(1, abs=0.1)


def test_the_noise_of_numbers_that_are_no_counts_is_that_of_neighbours():
    random = np.random.default_rng(3)
    frame = frame_of(random.poisson(30, (161, 161)) * 0.37, x=80, y=80)
    twin = alterations.isotropic_twin(frame, random)
    assert twin.pixels.var() / twin.pixels.mean() == pytest.approx(0.37, rel=0.08)
