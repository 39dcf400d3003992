"""Local binary patterns and oriented gradients: of the view, and of nothing that is masked."""

import sys

import numpy as np
import pytest
from sklearn.base import clone

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.reproduction.descriptors import LbpHog

PATTERNS = 864
KINDS = 10
"""Uniform patterns of 8 points: arcs of 0 to 8 brighter ones, and all that is not one arc."""


@pytest.fixture(autouse=True)
def scikit_image():
    pytest.importorskip("skimage")


def enlarged(fields):
    return np.kron(fields, np.ones((1, 2, 2), dtype=fields.dtype))


@pytest.fixture
def masked():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128] - 60.3
    rings = 120 + 90 * np.cos(np.hypot(x, y) / 3) + rng.normal(0, 3, (2, 128, 128))
    masks = np.ones((2, 128, 128), dtype=bool)
    masks[:, 40:45] = False
    masks[1, 96:, 96:] = False
    return enlarged((rings * masks).clip(0, 255)), enlarged(masks)


def literal_patterns(image, known, grid):
    """Histograms at radius 1 by hand: eight points on a circle, between pixels by bilinear interpolation."""
    histograms = np.zeros((grid, grid, KINDS))
    for row in range(1, 127):
        for column in range(1, 127):
            if not known[row - 1 : row + 2, column - 1 : column + 2].all():
                continue
            brighter = []
            for angle in np.arange(8) * np.pi / 4:
                r, c = row - np.sin(angle), column + np.cos(angle)
                r0, c0 = min(int(np.floor(r + 1e-9)), 126), min(int(np.floor(c + 1e-9)), 126)
                dr, dc = r - r0, c - c0
                square = image[r0 : r0 + 2, c0 : c0 + 2]
                value = np.array([1 - dr, dr]) @ square @ np.array([1 - dc, dc])
                brighter.append(value >= image[row, column] - 1e-9)
            changes = sum(brighter[k] != brighter[k - 1] for k in range(8))
            kind = sum(brighter) if changes <= 2 else KINDS - 1
            histograms[row * grid // 128, column * grid // 128, kind] += 1
    return (histograms / np.maximum(histograms.sum(-1, keepdims=True), 1)).ravel()


def test_patterns_are_those_counted_by_hand(masked):
    views, masks = masked
    found = LbpHog(radii=(1,), grid=4, levels=1).fit_transform(views, masks=masks)
    for descriptor, view, mask in zip(found, views[:, ::2, ::2], masks[:, ::2, ::2], strict=True):
        expected = literal_patterns(np.rint(view), mask, 4)
        np.testing.assert_allclose(descriptor[: 16 * KINDS], expected, atol=2e-3)


def test_gradients_say_which_way_the_lines_run():
    y, x = np.mgrid[:128, :128].astype(float)
    for angle in (0, 40, 80, 120, 160):
        across = np.radians(angle + 10)
        waves = 120 + 100 * np.sin((x * np.cos(across) + y * np.sin(across)) / 3)
        gradients = LbpHog(levels=1).fit_transform(enlarged(waves[None]))[0, PATTERNS:]
        assert gradients.argmax() == angle // 20


def test_levels_of_the_pyramid_divide_the_view():
    y, x = np.mgrid[:128, :128].astype(float)
    halves = np.where(x < 64, np.sin(x / 3), np.sin(y / 3)) * 100 + 120
    gradients = LbpHog(levels=2).fit_transform(enlarged(halves[None]))[0, PATTERNS:].reshape(5, 9)
    assert [int(cell.argmax()) for cell in gradients[1:]] == [0, 4, 0, 4]
    np.testing.assert_allclose(gradients.sum(1), 1, atol=1e-3)


def test_default_length():
    assert LbpHog().features == 1629 == PATTERNS + 765
    assert LbpHog().fit_transform(np.zeros((0, 256, 256))).shape == (0, 1629)
    small = LbpHog(radii=(2,), grid=3, levels=2, orientations=6)
    assert small.fit_transform(np.zeros((2, 256, 256))).shape == (2, small.features) == (2, 9 * 18 + 6 * 5)


def test_descriptors_are_the_same_each_time_and_whatever_is_beside_them(masked):
    views, masks = masked
    together = LbpHog().fit_transform(views, masks=masks)
    assert (together == LbpHog().fit_transform(views, masks=masks)).all()
    assert (together[1:] == LbpHog().transform(views[1:], masks=masks[1:])).all()
    assert np.isfinite(together).all()


def test_what_lies_under_the_mask_changes_nothing(masked):
    views, masks = masked
    expected = LbpHog().fit_transform(views, masks=masks)
    assert (LbpHog().fit_transform(np.where(masks, views, 200.0), masks=masks) == expected).all()


def test_a_gap_in_even_ground_is_no_edge():
    masks = np.ones((1, 256, 256), dtype=bool)
    masks[:, 100:120] = False
    described = LbpHog().fit_transform(100.0 * masks, masks=masks)[0]
    assert not described[PATTERNS:].any()
    even = LbpHog().fit_transform(np.full((1, 256, 256), 100.0))[0]
    assert (described == even).all()


def test_a_cell_without_valid_pixels_counts_nothing(masked):
    views, masks = masked
    patterns = LbpHog(radii=(1,)).fit_transform(views, masks=masks)[:, : 16 * KINDS].reshape(2, 16, KINDS)
    assert not patterns[1, 15].any()
    np.testing.assert_allclose(patterns.sum(-1)[:, :15], 1, atol=1e-6)


def test_a_view_with_nothing_valid_is_described_by_zeros():
    nothing = np.zeros((1, 256, 256))
    assert not LbpHog().fit_transform(nothing, masks=nothing.astype(bool)).any()


def test_it_is_a_transformer():
    assert clone(LbpHog(grid=2)).get_params() == {
        "radii": (1, 2, 3),
        "grid": 2,
        "levels": 4,
        "orientations": 9,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radii": ()}, "at least one"),
        ({"radii": (0,)}, "radii must be 1 to 63"),
        ({"grid": 0}, "grid must be 1 to 128"),
        ({"levels": 7}, "levels must be 1 to 6, not 7"),
        ({"orientations": 0}, "orientations must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        LbpHog(**settings).fit()


def test_views_of_another_shape_are_refused():
    with pytest.raises(FrameError, match=r"not \(1, 128, 128\)"):
        LbpHog().fit_transform(np.zeros((1, 128, 128)))


def test_without_scikit_image_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(SettingsError, match=r"pip install 'dvfb-stream\[evaluate\]'"):
        LbpHog().fit()
    with pytest.raises(SettingsError, match=r"pip install 'dvfb-stream\[evaluate\]'"):
        LbpHog().transform(np.zeros((1, 256, 256)))
