"""Set-ups lie where pyFAI says, and images follow the tables."""

import math

import numpy as np
import pytest

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `evaluate` brings it")
pytest.importorskip("sasmodels", reason="sasmodels is not installed; the extra `evaluate` brings it")
from pyFAI.calibrant import get_calibrant
from pyFAI.detectors import Detector
from pyFAI.geometry import Geometry

from dvfb_stream.reproduction.independent_sets import experiments
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, AZIMUTHS, textured
from dvfb_stream.reproduction.independent_sets.samples.ordered import CALIBRANTS, calibrant_q
from dvfb_stream.reproduction.independent_sets.setup import LONGEST_SIDE, Pose, binned_shape, build

WIDE = Pose(detector="perkin", center=(0.45, 0.6), distance=0.35, wavelength=0.5)
TILTED = Pose(detector="perkin", center=(0.45, 0.6), distance=0.35, wavelength=0.5, rot1=0.2, rot2=-0.15)


def ring_table(setup, places, fwhm):
    peaks = np.exp(-4.0 * math.log(2.0) * ((setup.q - places[:, None]) / fwhm) ** 2).sum(axis=0)
    return np.tile(peaks, (AZIMUTHS, 1))


def pyfai_angles(setup):
    """Return pyFAI's 2θ of each pixel, told where the detector is by Fit2D's numbers."""
    pose, (rows, columns) = setup.pose, setup.geometry.shape
    pixel = 2048 // columns * 200e-6
    detector = Detector(pixel1=pixel, pixel2=pixel, max_shape=(rows, columns))
    tilted = Geometry(dist=1.0, rot1=pose.rot1, rot2=pose.rot2, detector=detector).getFit2D()
    geometry = Geometry(detector=detector)
    geometry.setFit2D(
        1e3 * pose.distance,
        setup.geometry.center_x + 0.5,  # Fit2D counts from the corner of the first pixel
        setup.geometry.center_y + 0.5,
        tilt=tilted["tilt"],
        tiltPlanRotation=tilted["tiltPlanRotation"],
        pixelX=1e6 * pixel,
        pixelY=1e6 * pixel,
    )
    return geometry.center_array((rows, columns), unit="2th_rad")


@pytest.mark.parametrize("pose", [WIDE, TILTED], ids=["straight", "tilted"])
def test_the_rings_of_a_calibrant_lie_at_pyfais_two_theta(pose):
    setup = build(pose)
    calibrant = get_calibrant("LaB6")
    calibrant.wavelength = pose.wavelength * 1e-10
    # Six rings, at least 4 % apart from one another.
    image = setup.image(ring_table(setup, calibrant_q("LaB6")[:6], 0.01 * setup.far))
    angles = pyfai_angles(setup)
    for expected in calibrant.get_2th()[:6]:
        near = np.abs(angles - expected) < 0.02 * expected
        # A pixel is 0.8 mm at 350 mm, and the mean of thousands is a fraction of one.
        assert (angles * image)[near].sum() / image[near].sum() == pytest.approx(expected, rel=1e-3)


def test_a_straight_detectors_angles_are_an_arctangent():
    setup = build(WIDE)
    y, x = np.indices(setup.geometry.shape)
    away = np.hypot(x - setup.geometry.center_x, y - setup.geometry.center_y) * 0.8e-3
    np.testing.assert_allclose(pyfai_angles(setup), np.arctan(away / WIDE.distance), atol=1e-6)


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_a_texture_repeats_as_often_as_its_order_says(order):
    setup = build(Pose(detector="perkin", center=(0.5, 0.5), distance=2.0, wavelength=1.0))
    table = ring_table(setup, np.array([0.5 * setup.far]), 0.1 * setup.far)
    table *= textured(order, AZIMUTH, strength=1.5, phase=0.3)[:, None]
    image = setup.image(table) / np.maximum(setup.received, 1e-9)
    y, x = np.indices(image.shape)
    x, y = x - setup.geometry.center_x, y - setup.geometry.center_y
    azimuth = np.arctan2(y, x)
    strengths = {
        k: abs((image * np.exp(1j * k * azimuth)).sum()) / image.sum() for k in (1, 2, 3, 4, 6, 8, 12)
    }
    # The first harmonic of a von Mises distribution is I1(κ)/I0(κ) = 0.596 for κ = 1.5.
    assert strengths[order] == pytest.approx(0.596, abs=0.01)
    assert all(strengths[k] < 0.02 for k in strengths if k % order)
    phase = np.angle((image * np.exp(1j * order * azimuth)).sum()) / order
    assert (phase - 0.3 + math.pi / order) % (2.0 * math.pi / order) == pytest.approx(
        math.pi / order, abs=0.01
    )


def test_a_setup_keeps_back_what_mask_and_beamstop_do():
    shape = binned_shape("perkin")
    transmission, mask = np.ones(shape), np.ones(shape, dtype=bool)
    transmission[:50], mask[:, :40] = 0.0, False
    setup = build(WIDE, transmission, mask=mask)
    image = setup.image(np.ones((AZIMUTHS, len(setup.q))))
    assert not image[:50].any()
    assert not image[:, :40].any()
    assert (image[50:, 40:] > 0).all()
    np.testing.assert_array_equal(setup.geometry.mask, mask)
    assert setup.pixels.sum() == (shape[0] - 50) * (shape[1] - 40)


@pytest.mark.parametrize("detector", experiments.SMALL_ANGLE + experiments.WIDE_ANGLE)
def test_every_detector_is_known_and_binned(detector):
    shape = binned_shape(detector)
    assert LONGEST_SIDE / 2 < max(shape) <= LONGEST_SIDE or detector == "maxipix5x1"
    assert min(shape) >= 64


def test_every_calibrant_has_rings_in_order():
    for name in CALIBRANTS:
        q = calibrant_q(name)
        assert len(q) > 3
        assert (np.diff(q) >= 0).all()
