"""The geometry of a flat detector beside pyFAI's."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation.physics.geometry import DetectorPose, q_of, two_theta_of

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `files` brings it")
from pyFAI.calibrant import get_calibrant
from pyFAI.detectors import Detector
from pyFAI.geometry import Geometry

WAVELENGTH = 12.398419843 / 8.8984
SHAPE = (240, 300)
PIXEL = (0.9, 1.1)
"""Height and width, mm; not square, so that no axis can stand for the other."""

ROUNDING = 1e-7
"""Radians: pyFAI keeps the positions of pixels, here up to 0.33 m, in float32, which is 15 nm at 150 mm."""

TILTS = [(0.0, 0.0), (0.3, 0.0), (0.0, -0.25), (-0.2, 0.35)]


def pyfai_geometry(rot1, rot2, *, distance=0.15, beam=(0.07, 0.12)):
    """Return pyFAI's geometry and ours of the same detector; `beam` is poni1 and poni2, metres."""
    detector = Detector(pixel1=PIXEL[0] * 1e-3, pixel2=PIXEL[1] * 1e-3, max_shape=SHAPE)
    geometry = Geometry(
        dist=distance,
        poni1=beam[0],
        poni2=beam[1],
        rot1=rot1,
        rot2=rot2,
        detector=detector,
        wavelength=WAVELENGTH * 1e-10,
    )
    beam1 = beam[0] + distance * math.tan(rot2) / math.cos(rot1)
    beam2 = beam[1] - distance * math.tan(rot1)
    pose = DetectorPose(
        center_x=beam2 / (PIXEL[1] * 1e-3) - 0.5,
        center_y=beam1 / (PIXEL[0] * 1e-3) - 0.5,
        distance_mm=1e3 * distance / (math.cos(rot1) * math.cos(rot2)),
        pixel_mm=PIXEL,
        rot1=rot1,
        rot2=rot2,
    )
    return geometry, pose


def pixels(dtype=torch.float64):
    y, x = torch.meshgrid(*(torch.arange(length, dtype=dtype) for length in SHAPE), indexing="ij")
    return x, y


def turn(difference):
    """Return a difference of azimuths without whole turns."""
    return np.abs(np.angle(np.exp(1j * difference)))


@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_angles_are_pyfais(rot1, rot2):
    geometry, pose = pyfai_geometry(rot1, rot2)
    x, y = pixels()
    two_theta, azimuth = pose.two_theta(x, y).numpy(), pose.azimuth(x, y).numpy()
    np.testing.assert_allclose(two_theta, geometry.twoThetaArray(SHAPE), rtol=1e-7, atol=ROUNDING)
    # Near the beam an azimuth is as uncertain as a position over its distance from the beam; and pyFAI keeps
    # azimuths up to π in float32 (1.2e-7).
    apart = turn(azimuth - geometry.chiArray(SHAPE)) * np.sin(two_theta)
    assert apart.max() < 3e-7


@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_scattering_vectors_are_pyfais(rot1, rot2):
    geometry, pose = pyfai_geometry(rot1, rot2)
    q = q_of(pose.two_theta(*pixels()), WAVELENGTH).numpy()
    # pyFAI's q is in 1/nm.
    per_radian = 20.0 * math.pi / WAVELENGTH
    np.testing.assert_allclose(10.0 * q, geometry.qArray(SHAPE), rtol=1e-7, atol=per_radian * ROUNDING)
    np.testing.assert_allclose(
        two_theta_of(torch.from_numpy(q), WAVELENGTH).numpy(), pose.two_theta(*pixels()).numpy(), rtol=1e-12
    )


@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_solid_angles_are_pyfais_but_for_the_point_they_are_relative_to(rot1, rot2):
    geometry, pose = pyfai_geometry(rot1, rot2)
    relative = (math.cos(rot1) * math.cos(rot2)) ** 3
    np.testing.assert_allclose(
        relative * pose.solid_angle(*pixels()).numpy(), geometry.solidAngleArray(SHAPE), rtol=1e-6
    )


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.95, 1.0])
@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_polarisation_is_pyfais(rot1, rot2, factor):
    geometry, pose = pyfai_geometry(rot1, rot2)
    np.testing.assert_allclose(
        pose.polarisation(*pixels(), factor).numpy(), geometry.polarization(SHAPE, factor=factor), atol=1e-6
    )


@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_the_direct_beam_and_its_distance_are_those_of_fit2d(rot1, rot2):
    geometry, pose = pyfai_geometry(rot1, rot2)
    fit2d = geometry.getFit2D()
    # Fit2D counts from the corner of the first pixel, in mm and pixels.
    assert fit2d["directDist"] == pytest.approx(pose.distance_mm, rel=1e-9)
    assert fit2d["centerX"] - 0.5 == pytest.approx(pose.center_x, abs=1e-6)
    assert fit2d["centerY"] - 0.5 == pytest.approx(pose.center_y, abs=1e-6)
    beam = torch.tensor(pose.center_x, dtype=torch.float64), torch.tensor(pose.center_y, dtype=torch.float64)
    assert float(pose.two_theta(*beam)) == 0.0
    assert float(pose.solid_angle(*beam)) == 1.0


@pytest.mark.parametrize(("rot1", "rot2"), TILTS)
def test_float32_is_good_to_a_thousandth_of_a_pixel(rot1, rot2):
    _, pose = pyfai_geometry(rot1, rot2)
    found = pose.two_theta(*pixels(torch.float32))
    assert found.dtype == torch.float32
    exact = pose.two_theta(*pixels())
    # A pixel of 0.9 mm at 150 mm is 6 mrad.
    assert float((found - exact).abs().max()) < 6e-6


@pytest.mark.parametrize(
    ("calibrant", "distance", "spacings"),
    [
        # Silver behenate: 58.380 Å (Huang et al., J. Appl. Cryst. 26 (1993) 180), orders 1 to 6.
        ("AgBh", 0.9, [58.380 / order for order in range(1, 7)]),
        # LaB6, NIST SRM 660: primitive cubic, 4.1569 Å; h² + k² + l² = 1, 2, 3.
        ("LaB6", 0.15, [4.1569 / math.sqrt(n) for n in (1, 2, 3)]),
    ],
)
@pytest.mark.parametrize(("rot1", "rot2"), [(0.0, 0.0), (0.12, -0.2)])
def test_the_rings_of_a_calibrant_lie_on_pyfais(calibrant, distance, spacings, rot1, rot2):
    geometry, pose = pyfai_geometry(rot1, rot2, distance=distance, beam=(0.1, 0.16))
    substance = get_calibrant(calibrant)
    substance.wavelength = WAVELENGTH * 1e-10
    angles = np.array(substance.get_2th()[: len(spacings)])
    ours = two_theta_of(2.0 * math.pi / torch.tensor(spacings, dtype=torch.float64), WAVELENGTH).numpy()
    # Editions of the certificate differ by 0.0001 Å.
    np.testing.assert_allclose(ours, angles, rtol=1e-4)

    azimuth = np.radians(np.arange(0.0, 360.0, 7.5))
    # Pixels outwards along each direction of the detector; 2θ grows along each.
    steps = torch.linspace(0.0, 400.0, 40001, dtype=torch.float64)
    for direction in azimuth:
        x = pose.center_x + steps * math.cos(direction)
        y = pose.center_y + steps * math.sin(direction)
        along = pose.two_theta(x, y).numpy()
        radius = np.interp(angles[angles < along[-1]], along, steps.numpy())
        pyfais = geometry.tth(
            pose.center_y + radius * math.sin(direction), pose.center_x + radius * math.cos(direction)
        )
        np.testing.assert_allclose(pyfais, angles[: len(radius)], rtol=1e-6)
