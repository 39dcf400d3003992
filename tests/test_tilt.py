"""A tilted detector's pixels lie where pyFAI says that their scattering angles are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from dvfb_stream import Geometry
from dvfb_stream.errors import GeometryError
from dvfb_stream.tilt import Tilt

SHAPE = (90, 120)
PIXEL = (2e-4, 1e-4)


def integrator(orientation: int = 3, **angles: float) -> AzimuthalIntegrator:
    detector = Detector(*PIXEL, max_shape=SHAPE, orientation=orientation)
    return AzimuthalIntegrator(
        dist=0.03, poni1=0.008, poni2=0.005, **angles, detector=detector, wavelength=1e-10
    )


def offsets(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return where pixels lie from the beam, in widths of a pixel."""
    rows, columns = np.indices(SHAPE, dtype=float)
    return columns - geometry.center_x, (rows - geometry.center_y) * geometry.pixel_aspect


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "angles",
    [{"rot1": 0.3}, {"rot2": -0.2}, {"rot1": -0.25, "rot2": 0.35}, {"rot1": 0.1, "rot2": 0.2, "rot3": 1.2}],
)
def test_the_radius_is_that_of_pyfais_scattering_angle(orientation: int, angles: dict[str, float]) -> None:
    source = integrator(orientation, **angles)
    geometry = Geometry.from_pyfai(source)
    assert geometry.tilt is not None
    u, v = geometry.tilt.straightened(*offsets(geometry))
    expected = geometry.tilt.distance * np.tan(source.center_array(SHAPE, unit="2th_rad"))
    np.testing.assert_allclose(np.hypot(u, v), expected, rtol=1e-4, atol=2e-3)
    assert geometry.tilt.angle == pytest.approx(
        math.acos(math.cos(angles.get("rot1", 0)) * math.cos(angles.get("rot2", 0)))
    )


@pytest.mark.parametrize("orientation", [1, 3])
def test_angles_between_pixels_are_those_about_the_beam(orientation: int) -> None:
    source = integrator(orientation, rot1=0.3, rot2=-0.2)
    geometry = Geometry.from_pyfai(source)
    assert geometry.tilt is not None
    u, v = geometry.tilt.straightened(*offsets(geometry))
    chi, azimuth = source.chiArray(SHAPE), np.arctan2(v, u)
    turned = np.exp(1j * (chi - azimuth))
    # The same but for a turn of all of them.
    np.testing.assert_allclose(turned / turned[10, 10], 1, atol=2e-3)


def test_there_and_back() -> None:
    tilt = Tilt(distance=300, right=0.3, down=-0.2)
    x, y = np.meshgrid(np.linspace(-200, 200, 9), np.linspace(-150, 150, 7))
    np.testing.assert_allclose(tilt.tilted(*tilt.straightened(x, y)), (x, y), atol=1e-9)


def test_what_has_no_place_is_not_a_number() -> None:
    tilt = Tilt(distance=100, right=0.6, down=0.0)
    assert np.isnan(tilt.straightened(np.array([-200.0]), np.array([0.0]))[0])
    assert np.isnan(tilt.tilted(np.array([200.0]), np.array([0.0]))[0])


@pytest.mark.parametrize(
    ("right", "down", "distance"), [(0.09, 0.0, 900.0), (0.0, 0.35, 1e5), (0.2, 0.2, 2000.0)]
)
def test_how_far_rings_depart_from_circles(right: float, down: float, distance: float) -> None:
    tilt = Tilt(distance=distance, right=right, down=down)
    phi = np.linspace(0, 2 * np.pi, 721)
    ring = np.hypot(*tilt.tilted(100 * np.cos(phi), 100 * np.sin(phi)))
    departure = (ring.max() - ring.min()) / 2
    assert 0.9 * departure < tilt.departure(100) < 1.6 * departure + 0.01


@pytest.mark.parametrize(
    "values",
    [(0, 0, 0), (-1, 0, 0), (1, 1, 0), (1, 0.8, 0.8), (float("nan"), 0, 0), ("far", 0, 0), (1, None, 0)],
)
def test_what_is_no_tilt_is_refused(values: tuple) -> None:
    with pytest.raises(GeometryError, match="a tilt is a positive distance"):
        Tilt(distance=values[0], right=values[1], down=values[2])


def test_a_geometry_says_it(tmp_path: Path) -> None:
    integrator(rot1=0.1).save(str(tmp_path / "a.poni"))
    tilted = Geometry.from_poni(tmp_path / "a.poni")
    assert f"tilt=<{math.degrees(0.1):.2f} degrees>" in repr(tilted)
    assert Geometry.from_pyfai(integrator()).tilt is None
    assert json.dumps(tilted.digest) != json.dumps(Geometry.from_pyfai(integrator()).digest)
    with pytest.raises(GeometryError, match=r"tilt must be Tilt\(...\), not 0.1"):
        Geometry(shape=SHAPE, center_x=1, center_y=1, tilt=0.1)
