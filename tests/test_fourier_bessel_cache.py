"""Estimators are kept within a bound of bytes, found again, and shared by the frames of a geometry."""

import numpy as np
import pytest
import torch

from dvfb_stream.errors import GeometryError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.frames import Geometry
from dvfb_stream.view import FineView, View, ViewResampler, ViewResamplers

SIDE = 32
CPU = torch.device("cpu")


class Stream:
    """Views whose beam centre tells their geometries apart."""

    def __init__(self, max_bytes, side=SIDE):
        settings = FourierBesselSettings(
            view_shape=(side, side), radius=float(side), n_radial=5, downsample=1
        )
        self.cache = FourierBesselCache(settings, Resamplers(side), device=CPU, max_bytes=max_bytes)
        self.side = side

    def get(self, x, mask=None, *, geometry=None):
        mask = np.ones((self.side,) * 2, dtype=bool) if mask is None else mask
        geometry = geometry or Geometry(shape=mask.shape, center_x=x, center_y=16.0)
        image = np.zeros(mask.shape, np.float32)
        return self.cache.get(View(image, mask, x, 16.0, FineView.of(image, mask)), geometry)


class Resamplers(ViewResamplers):
    """Of views of another size than the default."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def get(self, geometry):
        return ViewResampler(geometry, self.side)


@pytest.fixture(scope="module")
def nbytes():
    return Stream(1).get(1.0).nbytes


def test_the_estimator_used_least_recently_goes_first(nbytes):
    stream = Stream(int(nbytes * 2.5))
    first = stream.get(1.0)
    stream.get(2.0)
    assert stream.get(1.0) is first
    stream.get(3.0)
    assert len(stream.cache) == 2
    assert stream.cache.nbytes <= stream.cache.max_bytes
    assert stream.get(1.0) is first


def test_one_estimator_is_kept_whatever_the_bound():
    stream = Stream(1)
    assert stream.get(1.0) is stream.get(1.0)
    other = stream.get(2.0)
    assert len(stream.cache) == 1
    assert stream.get(2.0) is other


def test_an_estimator_that_has_grown_is_counted_as_it_is(nbytes):
    stream = Stream(int(nbytes * 2.5))
    first = stream.get(1.0)
    first.estimate(np.ones((1, SIDE, SIDE)))  # its projection in float64, too
    assert first.nbytes > 1.5 * nbytes
    stream.get(1.0)
    stream.get(2.0)
    assert len(stream.cache) == 1


@pytest.mark.parametrize(("held", "geometries", "found"), [(10, 12, 0.6), (10, 20, 0.15)])
def test_going_round_more_geometries_than_fit_still_finds_some(nbytes, held, geometries, found):
    """The least recently used one of a loop is the next one needed: that rule alone would find none."""
    stream = Stream(int(nbytes * (held + 0.5)))
    seen, built = {}, 0
    rounds = 5
    for x in list(range(geometries)) * rounds:
        estimator = stream.get(float(x))
        built += seen.get(x) is not estimator
        seen[x] = estimator
        assert stream.cache.nbytes <= stream.cache.max_bytes
    # In the first round none can be found.
    assert 1 - (built - geometries) / (geometries * (rounds - 1)) > found


def test_a_build_that_fails_leaves_nothing_behind_and_speaks_of_detector_pixels():
    stream = Stream(1 << 20)
    with pytest.raises(GeometryError, match=r"x=70, y=9 lies so far.* 64 x 48 \(width x height\)"):
        stream.get(1e5, geometry=Geometry(shape=(48, 64), center_x=70.0, center_y=9.0))
    assert len(stream.cache) == 0


@pytest.mark.parametrize(("lost", "shared"), [(0.045, True), (0.055, False)])
def test_a_frame_that_lost_few_pixels_shares_its_geometrys_projection(lost, shared):
    stream = Stream(1 << 30)
    whole = stream.get(16.0)
    mask = np.ones((SIDE, SIDE), dtype=bool)
    mask.reshape(-1)[: int(lost * mask.size)] = False
    own = stream.get(16.0, mask)
    assert own.fitted_count < whole.fitted_count
    assert (own._basis._projections is whole._basis._projections) is shared


def test_masks_of_geometries_are_forgotten_one_by_one(nbytes, monkeypatch):
    monkeypatch.setattr("dvfb_stream.whole_masks.REMEMBERED_BYTES", 8 << 10)
    stream = Stream(int(nbytes * 1.5))
    for x in range(8 + 3):
        stream.get(float(x) / 16)
    assert len(stream.cache._whole_masks._known) == 8


def test_on_another_device_it_begins_empty(nbytes):
    stream = Stream(int(nbytes * 1.5))
    stream.get(1.0)
    other = stream.cache.on(CPU)
    assert (len(other), other.max_bytes) == (0, stream.cache.max_bytes)
