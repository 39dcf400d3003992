"""Which measure a view gets, and what takes the place of pixels that one frame alone has lost."""

import numpy as np
import pytest

from dvfb_stream import Geometry
from dvfb_stream.azimuthal_cache import AzimuthalCache
from dvfb_stream.view import ViewResamplers

GEOMETRY = Geometry(shape=(256, 256), center_x=120.0, center_y=130.0, counts_per_unit=1.0)


@pytest.fixture
def caches():
    resamplers = ViewResamplers()
    return AzimuthalCache(resamplers), resamplers


def pixels(seed=0):
    return np.random.default_rng(seed).poisson(40, GEOMETRY.shape).astype(np.int32)


def test_views_of_one_geometry_share_a_measure(caches):
    cache, resamplers = caches
    views = [resamplers.get(GEOMETRY).view(pixels(seed)) for seed in range(3)]
    orders, counts = cache.get(views[:2], GEOMETRY)
    again, _ = cache.get(views[2:], GEOMETRY)
    assert again is orders
    np.testing.assert_array_equal(counts[0], pixels(0))


def test_another_centre_has_its_own(caches):
    cache, resamplers = caches
    other = Geometry(shape=(256, 256), center_x=99.0, center_y=130.0, counts_per_unit=1.0)
    first, second = (
        cache.get([resamplers.get(geometry).view(pixels())], geometry)[0] for geometry in (GEOMETRY, other)
    )
    assert first is not second


def test_a_lost_block_is_as_if_it_were_masked(caches):
    """Filled, its edges would be a square around the beam, which repeats four times."""
    cache, resamplers = caches
    y, x = np.indices(GEOMETRY.shape)
    radius = np.hypot(x - GEOMETRY.center_x, y - GEOMETRY.center_y)
    counts = np.random.default_rng(0).poisson(500 * np.exp(-radius / 30) + 2).astype(np.int32)
    cache.get([resamplers.get(GEOMETRY).view(counts)], GEOMETRY)
    block = (np.abs(x - GEOMETRY.center_x) < 24) & (np.abs(y - GEOMETRY.center_y) < 24)
    lost = counts.copy()
    lost[block] = -1
    masked = Geometry(shape=GEOMETRY.shape, center_x=120.0, center_y=130.0, masked=block, counts_per_unit=1.0)
    found = []
    for pixels_of_frame, geometry in ((lost, GEOMETRY), (counts, masked)):
        orders, some = cache.get([resamplers.get(geometry).view(pixels_of_frame)], geometry)
        found.append(orders.measure(some)[0].verified.labels)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert max(found[0].values()) < 0.3


def test_lost_pixels_get_the_mean_of_their_valid_neighbours(caches):
    cache, resamplers = caches
    cache.get([resamplers.get(GEOMETRY).view(pixels())], GEOMETRY)
    spoilt = pixels(5)
    spoilt[60, 70] = spoilt[60, 71] = -1
    view = resamplers.get(GEOMETRY).view(spoilt)
    assert not view.fine.mask[60, 70]
    orders, counts = cache.get([view], GEOMETRY)
    assert orders is cache.get([resamplers.get(GEOMETRY).view(pixels())], GEOMETRY)[0]
    near = spoilt[58:63, 68:73]
    assert counts[0][60, 70] == pytest.approx(near[near >= 0].mean(), rel=1e-3)
    assert counts[0][60, 71] == pytest.approx(
        spoilt[58:63, 69:74][spoilt[58:63, 69:74] >= 0].mean(), rel=1e-3
    )
    assert counts[0][10, 10] == pytest.approx(spoilt[10, 10], rel=1e-3)
