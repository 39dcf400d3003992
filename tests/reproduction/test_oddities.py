"""Images that are no scattering keep the frame's shape and mask, and nothing of its content that they should not."""

import sys

import numpy as np
import pytest

from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.reproduction.oddities import FULL, KINDS, PHOTOGRAPHS, oddity


@pytest.fixture(scope="module")
def source():
    """Return a frame of a ring, behind a mask."""
    shape = (150, 200)
    y, x = np.indices(shape)
    rate = 2.0 + 300.0 * np.exp(-(((np.hypot(x - 90.0, y - 70.0) - 50.0) / 4.0) ** 2))
    mask = np.ones(shape, dtype=bool)
    mask[60:64] = False
    pixels = np.where(mask, np.random.default_rng(5).poisson(rate), 0).astype(np.int32)
    return Frame(pixels, Geometry(shape=shape, center_x=90.0, center_y=70.0, mask=mask))


def needs(kind):
    if kind == "photograph":
        pytest.importorskip("skimage", reason="scikit-image is not installed; the extra `evaluate` brings it")


@pytest.mark.parametrize("kind", KINDS)
def test_an_oddity_has_the_frames_shape_and_counts_where_the_mask_says_valid(kind, source):
    needs(kind)
    for seed in range(6):
        pixels = oddity(kind, source, rng=np.random.default_rng(seed))
        assert pixels.shape == source.pixels.shape
        assert pixels.dtype == np.int32
        assert pixels.min() >= 0
        assert not pixels[~source.geometry.mask].any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_oddity_follows_from_the_generator_and_leaves_the_frame_alone(kind, source):
    needs(kind)
    before = source.pixels.copy()
    first, again = (oddity(kind, source, rng=np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(source.pixels, before)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_the_ring(kind, source):
    needs(kind)
    y, x = np.indices(source.pixels.shape)
    ring = (np.abs(np.hypot(x - 90.0, y - 70.0) - 50.0) < 3.0) & source.geometry.mask
    off = ~ring & source.geometry.mask
    ratios = []
    for seed in range(12):
        pixels = oddity(kind, source, rng=np.random.default_rng(seed)).astype(float)
        ratios.append((pixels[ring].mean() + 1e-9) / (pixels[off].mean() + 1e-9))
    assert source.pixels[ring].mean() > 5.0 * source.pixels[off].mean()
    # Photographs are brighter in some places, by chance there.
    assert 0.5 < np.median(ratios) < 1.6


def test_shuffled_counts_are_the_frames_own(source):
    mask = source.geometry.mask
    shuffled = oddity("shuffled", source, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(shuffled[mask]), np.sort(source.pixels[mask]))


def test_noise_is_photon_noise_of_one_mean(source):
    for seed in range(5):
        counts = oddity("noise", source, rng=np.random.default_rng(seed))[source.geometry.mask]
        # Variance and mean of Poisson counts are equal; of 29,000 pixels, to some per cent.
        assert counts.var() == pytest.approx(counts.mean(), rel=0.1, abs=0.002)


def test_most_of_a_saturated_frame_is_at_the_largest_count(source):
    for seed in range(5):
        counts = oddity("saturated", source, rng=np.random.default_rng(seed))[source.geometry.mask]
        assert counts.max() == FULL
        assert (counts == FULL).mean() > 0.45


def test_every_photograph_is_in_the_wheel():
    needs("photograph")
    from skimage import data

    for name in PHOTOGRAPHS:
        assert getattr(data, name)().shape[0] > 0


def test_photographs_without_scikit_image_name_the_extra(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image .*dvfb-stream\[evaluate\]"):
        oddity("photograph", source, rng=np.random.default_rng(0))


def test_a_frame_without_a_mask_is_valid_everywhere():
    source = Frame(np.full((20, 30), 7), Geometry(shape=(20, 30), center_x=15.0, center_y=10.0))
    for kind in KINDS:
        needs(kind)
        assert oddity(kind, source, rng=np.random.default_rng(1)).shape == (20, 30)


def test_an_unknown_kind_is_refused_with_those_there_are(source):
    with pytest.raises(SettingsError, match=r"no oddity 'cat'.*photograph"):
        oddity("cat", source, rng=np.random.default_rng(0))
