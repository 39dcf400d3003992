"""The finer raster beneath a view: the same frame, twice as fine where the detector has as many pixels."""

import numpy as np
import pytest

from dvfb_stream import Geometry
from dvfb_stream.view import FINER, VIEW_SIZE, ViewResampler, counts_of


def geometry(rows: int, columns: int, **others) -> Geometry:
    return Geometry(
        shape=(rows, columns), center_x=columns / 3, center_y=rows / 2, counts_per_unit=1.0, **others
    )


@pytest.fixture
def frame() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    mask = rng.random((619, 487)) > 0.02
    mask[200:214] = False
    return rng.poisson(30, mask.shape).astype(np.int32), mask


def test_blocks_of_it_are_the_pixels_of_the_view(frame):
    pixels, mask = frame
    resampler = ViewResampler(geometry(*mask.shape, mask=mask))
    view = resampler.view(pixels)
    side = FINER * VIEW_SIZE
    assert view.fine.counts.shape == view.fine.mask.shape == (side, side)
    blocks = (VIEW_SIZE, FINER, VIEW_SIZE, FINER)
    area = np.where(view.fine.mask, resampler._sums.coverage.fine.area, 0)
    sums, areas = ((v.reshape(blocks).sum(axis=(1, 3))) for v in (view.fine.counts * area, area))
    whole = view.mask & (view.fine.mask.reshape(blocks).all(axis=(1, 3)))
    np.testing.assert_allclose(
        (sums / np.maximum(areas, 1e-9))[whole], counts_of(view.image)[whole], rtol=2e-5
    )
    assert whole.sum() > 0.7 * view.mask.sum()


def test_each_of_its_pixels_is_the_mean_of_those_under_it():
    rng = np.random.default_rng(3)
    pixels = rng.poisson(50, (1024, 1024)).astype(np.uint16)
    resampler = ViewResampler(geometry(1024, 1024))
    view = resampler.view(pixels)
    expected = pixels.reshape(512, 2, 512, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(view.fine.counts, expected, rtol=1e-6)
    raster = resampler.fine
    assert (raster.area, raster.step) == (4.0, 0.5)
    # The beam lies in the middle of the same pixel of the detector.
    assert raster.center_x == pytest.approx((1024 / 3 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(("side", "finer"), [(256, 1), (450, 1), (487, 2), (2048, 2)])
def test_it_is_finer_where_the_detector_has_as_many_pixels(side, finer):
    resampler = ViewResampler(geometry(side, side // 2))
    view = resampler.view(np.ones((side, side // 2), np.int32))
    assert len(view.fine.mask) == finer * VIEW_SIZE
    assert resampler.fine.step == pytest.approx(1 / finer)
    assert view.fine.counts[view.fine.mask] == pytest.approx(1.0)


def test_what_a_frame_alone_has_lost_is_lost_there_too(frame):
    pixels, mask = frame
    resampler = ViewResampler(geometry(*mask.shape, mask=mask))
    spoilt = pixels.copy()
    spoilt[300:310, 300:310] = -1
    lost = resampler.fine.mask & ~resampler.view(spoilt).fine.mask
    y, x = np.nonzero(lost)
    assert 40 < len(y) < 100
    assert abs(x.mean() - (305 * 512 / 619 + (512 - 487 * 512 / 619) / 2)) < 1.5
    assert abs(y.mean() - 305 * 512 / 619) < 1.5
    assert (resampler.view(pixels).fine.mask == resampler.fine.mask).all()
