"""Rings are circles in the view of a tilted detector."""

from __future__ import annotations

import numpy as np
import pytest
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from dvfb_stream import Geometry
from dvfb_stream.errors import FrameError
from dvfb_stream.tilt import Tilt
from dvfb_stream.view import VIEW_SIZE, ViewResampler

SHAPE = (512, 640)
PIXEL = 1e-4


def setup(**angles: float) -> AzimuthalIntegrator:
    detector = Detector(PIXEL, PIXEL, max_shape=SHAPE)
    beam1, beam2, distance = 0.024, 0.035, 0.08
    rot1, rot2 = angles.get("rot1", 0.0), angles.get("rot2", 0.0)
    return AzimuthalIntegrator(
        dist=distance,
        poni1=beam1 - distance * np.tan(rot2) / np.cos(rot1),
        poni2=beam2 + distance * np.tan(rot1),
        **angles,
        detector=detector,
    )


def ring_radii(geometry: Geometry, pixels: np.ndarray) -> np.ndarray:
    """Return the distance from the centre of the brightest view pixels by direction, where all round is seen."""
    view = ViewResampler(geometry).view(pixels)
    rows, columns = np.indices(view.image.shape)
    x, y = columns - view.center_x, rows - view.center_y
    sector = ((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 36).astype(int) % 36
    weights = np.expm1(view.image / 23) * view.mask
    total = np.bincount(sector.ravel(), weights.ravel(), 36)
    return np.bincount(sector.ravel(), (weights * np.hypot(x, y)).ravel(), 36) / total


def fine_radii(geometry: Geometry, pixels: np.ndarray) -> np.ndarray:
    """Return the same, in view pixels, of the finer raster."""
    resampler = ViewResampler(geometry)
    fine, raster = resampler.view(pixels).fine, resampler.fine
    rows, columns = np.indices(fine.mask.shape)
    x, y = columns - raster.center_x, rows - raster.center_y
    sector = ((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 36).astype(int) % 36
    total = np.bincount(sector.ravel(), fine.counts.ravel(), 36)
    return (
        np.bincount(sector.ravel(), (fine.counts * np.hypot(x, y)).ravel(), 36)
        / total
        * VIEW_SIZE
        / len(fine.mask)
    )


def ring(source: AzimuthalIntegrator) -> np.ndarray:
    """Return a frame with one ring, at pyFAI's scattering angle of 0.2."""
    angles = source.center_array(SHAPE, unit="2th_rad")
    return 5000 * np.exp(-(((angles - 0.2) / 0.004) ** 2))


@pytest.mark.parametrize(
    "angles", [{"rot1": 0.15}, {"rot2": -0.2}, {"rot1": -0.1, "rot2": 0.15, "rot3": 0.7}]
)
def test_a_ring_of_a_tilted_detector_is_a_circle(angles: dict[str, float]) -> None:
    source = setup(**angles)
    geometry = Geometry.from_pyfai(source)
    straight = ring_radii(geometry, ring(source))
    as_it_is = Geometry(shape=SHAPE, center_x=geometry.center_x, center_y=geometry.center_y)
    crooked = ring_radii(as_it_is, ring(source))
    assert np.ptp(crooked) > 3
    assert np.ptp(straight) < 0.25
    assert fine_radii(geometry, ring(source)) == pytest.approx(straight, abs=0.25)
    assert geometry.tilt is not None
    scale = max(SHAPE) / VIEW_SIZE
    assert straight.mean() == pytest.approx(geometry.tilt.distance * np.tan(0.2) / scale, abs=0.1)


def test_a_negligible_tilt_leaves_the_view_as_it_is() -> None:
    source = setup(rot1=0.0005)
    geometry = Geometry.from_pyfai(source)
    assert geometry.tilt is not None
    plain = Geometry(shape=SHAPE, center_x=geometry.center_x, center_y=geometry.center_y)
    views = [ViewResampler(one).view(ring(source)) for one in (geometry, plain)]
    np.testing.assert_array_equal(views[0].image, views[1].image)


def test_masked_areas_stay_masked_and_keep_their_size() -> None:
    source = setup(rot1=0.15)
    mask = np.ones(SHAPE, bool)
    mask[200:260, 300:380] = False
    tilt = Geometry.from_pyfai(source).tilt
    geometry = Geometry(shape=SHAPE, center_x=349.5, center_y=239.5, mask=mask, tilt=tilt)
    resampler = ViewResampler(geometry)
    pixels = np.full(SHAPE, 7, np.int32)
    view = resampler.view(pixels)
    np.testing.assert_array_equal(view.mask, resampler.mask)
    plain = ViewResampler(Geometry(shape=SHAPE, center_x=349.5, center_y=239.5, mask=mask)).mask
    inside = np.s_[70:150, 80:180]
    assert (~view.mask[inside]).sum() == pytest.approx((~plain[inside]).sum(), rel=0.05)
    assert np.ptp(view.image[view.mask]) < 1e-4
    assert not view.image[~view.mask].any()
    assert view.masked_pixels == 60 * 80


def test_an_impossible_tilt_is_told() -> None:
    tilt = Tilt(distance=10.0, right=0.9, down=0.0)
    geometry = Geometry(shape=SHAPE, center_x=-900.0, center_y=250.0, tilt=tilt)
    with pytest.raises(FrameError, match=r"once its tilt, .*, is taken out"):
        ViewResampler(geometry).view(np.ones(SHAPE))
