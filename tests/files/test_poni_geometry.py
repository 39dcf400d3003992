"""What pyFAI knows of gaps and beam positions arrives in the conventions of this project."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyFAI.detectors import Detector, detector_factory
from pyFAI.geometry import Geometry as PyFaiGeometry
from scipy.optimize import minimize

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import detector_mask, read_poni

PILATUS_AT_ONE_METRE = (
    "poni_version: 2\nDetector: Pilatus1M\nDetector_config: {}\nDistance: 1\nPoni1: 0\nPoni2: 0\n"
)


def write_poni(path: Path, detector: Detector, **values: float) -> PyFaiGeometry:
    geometry = PyFaiGeometry(**({"dist": 1.0, "poni1": 0.05, "poni2": 0.06} | values), detector=detector)
    geometry.wavelength = 1e-10
    geometry.save(str(path))
    return geometry


def smallest_angle(geometry: PyFaiGeometry, start: tuple[float, float]) -> tuple[float, float]:
    """(row, column) where pyFAI's own scattering angle vanishes, in pixel centres at integers."""

    def angle(at: np.ndarray) -> float:
        return float(geometry.tth(np.array([at[0]]), np.array([at[1]]))[0])

    # From a distance: the angle has a kink where it vanishes.
    found = minimize(
        angle, (start[0] + 3.3, start[1] - 2.7), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-12}
    )
    assert found.fun < 1e-5
    return float(found.x[0]), float(found.x[1])


class TestMasks:
    def test_gaps_of_a_pilatus_1m(self) -> None:
        mask = detector_mask("Pilatus1M")
        assert mask.shape == (1043, 981)
        # Five rows of two modules of 195 x 487 pixels, 17 rows and 7 columns apart.
        assert mask.sum() == 5 * 2 * 195 * 487
        assert mask[0, 0]
        assert not mask[:, 487:494].any()
        assert not mask[195:212].any()

    @pytest.mark.parametrize("name", ["pilatus1m", "PILATUS 1M", "Pilatus_1M", "pilatus-1m"])
    def test_case_and_separators_do_not_matter(self, name: str) -> None:
        np.testing.assert_array_equal(detector_mask(name), detector_mask("Pilatus1M"))

    def test_a_detector_without_gaps_is_valid_everywhere(self) -> None:
        mask = detector_mask("Rayonix MX225")
        assert mask.all()
        assert mask.ndim == 2

    def test_an_unknown_name_is_answered_with_near_ones(self) -> None:
        with pytest.raises(GeometryError, match=r"knows no detector 'PILATUS3 1M'; did you mean .*Pilatus1M"):
            detector_mask("PILATUS3 1M")
        with pytest.raises(GeometryError, match="pyFAI's documentation lists the names"):
            detector_mask("§§§")

    def test_a_detector_without_a_shape_is_refused(self) -> None:
        with pytest.raises(GeometryError, match="has no shape of its own"):
            detector_mask("detector")


class TestPoni:
    def test_half_a_pixel_comes_off(self, tmp_path: Path) -> None:
        pilatus = detector_factory("Pilatus1M")
        write_poni(tmp_path / "a.poni", pilatus, poni1=100 * pilatus.pixel1, poni2=200 * pilatus.pixel2)
        poni = read_poni(tmp_path / "a.poni")
        # The beam hits the corner between pixels 99 and 100, 199 and 200.
        assert (poni.center_y, poni.center_x) == pytest.approx((99.5, 199.5), abs=1e-9)

    def test_shape_and_gaps_come_with_it(self, tmp_path: Path) -> None:
        write_poni(tmp_path / "a.poni", detector_factory("Pilatus1M"))
        poni = read_poni(tmp_path / "a.poni")
        assert poni.shape == (1043, 981)
        assert poni.mask is not None
        np.testing.assert_array_equal(poni.mask, detector_mask("Pilatus1M"))

    @pytest.mark.parametrize(
        "rotations",
        [
            {},
            {"rot1": 0.2},
            {"rot2": -0.3},
            {"rot1": -0.15, "rot2": 0.25},
            {"rot1": 0.1, "rot2": 0.2, "rot3": 1.0},
            {"rot3": -2.0},
        ],
    )
    def test_the_centre_is_where_pyfais_scattering_angle_vanishes(
        self, tmp_path: Path, rotations: dict[str, float]
    ) -> None:
        geometry = write_poni(tmp_path / "a.poni", detector_factory("Pilatus1M"), dist=0.2, **rotations)
        poni = read_poni(tmp_path / "a.poni")
        assert (poni.center_y, poni.center_x) == pytest.approx(
            smallest_angle(geometry, (poni.center_y, poni.center_x)), abs=1e-3
        )

    def test_the_nearest_pixel_is_the_one_of_smallest_angle(self, tmp_path: Path) -> None:
        geometry = write_poni(
            tmp_path / "a.poni", detector_factory("Eiger2 1M"), dist=0.3, rot1=0.1, rot2=-0.05
        )
        poni = read_poni(tmp_path / "a.poni")
        assert poni.shape is not None
        row, column = np.unravel_index(
            int(np.argmin(geometry.center_array(poni.shape, unit="2th_rad"))), poni.shape
        )
        assert (round(poni.center_y), round(poni.center_x)) == (row, column)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        distance=st.floats(0.05, 10),
        poni1=st.floats(-0.3, 0.3),
        poni2=st.floats(-0.3, 0.3),
        rot1=st.floats(-1, 1),
        rot2=st.floats(-1, 1),
        rot3=st.floats(-3, 3),
    )
    def test_a_ray_along_the_beam_meets_the_turned_plane_there(
        self,
        tmp_path: Path,
        distance: float,
        poni1: float,
        poni2: float,
        rot1: float,
        rot2: float,
        rot3: float,
    ) -> None:
        detector = Detector(pixel1=1e-4, pixel2=2e-4, max_shape=(100, 200))
        path = tmp_path / "a.poni"
        write_poni(path, detector, dist=distance, poni1=poni1, poni2=poni2, rot1=rot1, rot2=rot2, rot3=rot3)
        poni = read_poni(path)
        # The documented rotation: a point of the plane, x = R · (p1 - poni1, p2 - poni2, dist), lies on the beam,
        # the third axis, where its first two coordinates are 0.
        turn1 = np.array(
            [[1, 0, 0], [0, math.cos(rot1), math.sin(rot1)], [0, -math.sin(rot1), math.cos(rot1)]]
        )
        turn2 = np.array(
            [[math.cos(rot2), 0, -math.sin(rot2)], [0, 1, 0], [math.sin(rot2), 0, math.cos(rot2)]]
        )
        turn3 = np.array(
            [[math.cos(rot3), -math.sin(rot3), 0], [math.sin(rot3), math.cos(rot3), 0], [0, 0, 1]]
        )
        point = np.array(
            [(poni.center_y + 0.5) * 1e-4 - poni1, (poni.center_x + 0.5) * 2e-4 - poni2, distance]
        )
        on_beam = turn3 @ turn2 @ turn1 @ point
        assert abs(on_beam[:2]).max() < 1e-6 * np.linalg.norm(point)

    def test_a_plain_detector_without_shape(self, tmp_path: Path) -> None:
        (tmp_path / "old.poni").write_text(
            "# an old file\nPixelSize1: 0.0001\nPixelSize2: 0.0002\nDistance: 1\nPoni1: 0.01\nPoni2: 0.02\n"
            "Rot1: 0\nRot2: 0\nRot3: 0\n"
        )
        poni = read_poni(tmp_path / "old.poni")
        assert (poni.center_y, poni.center_x) == pytest.approx((99.5, 99.5))
        assert poni.shape is None
        assert poni.mask is None

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "is not a complete .poni file"),
            ("Distance: 1\nPoni1: 0.1\nPoni2: 0.1\n", "how large its pixels are"),
            ("Distance: one\nPoni1: 0.1\n", "is not a .poni file"),
            (
                "poni_version: 2\nDetector: Nonsense9000\nDetector_config: {}\nDistance: 1\n",
                "is not a .poni file",
            ),
            (
                "poni_version: 2\nDetector: Pilatus1M\nDetector_config: {}\nDistance: nan\nPoni1: 0\nPoni2: 0\n",
                "complete",
            ),
            (
                PILATUS_AT_ONE_METRE + "Rot1: 1.6\n",
                "does not hit the detector",
            ),
            (
                "poni_version: 2\nDetector: Rapid\nDetector_config: {}\nDistance: 1\nPoni1: 0\nPoni2: 0\n",
                "describes a curved detector",
            ),
        ],
    )
    def test_bad_files(self, tmp_path: Path, content: str, said: str) -> None:
        (tmp_path / "bad.poni").write_text(content)
        with pytest.raises(GeometryError, match=said) as caught:
            read_poni(tmp_path / "bad.poni")
        assert "\n" not in str(caught.value)

    def test_missing_and_directory(self, tmp_path: Path) -> None:
        with pytest.raises(GeometryError, match=r"no\.poni cannot be opened: No such file"):
            read_poni(tmp_path / "no.poni")
        with pytest.raises(GeometryError, match="Is a directory"):
            read_poni(tmp_path)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        content=st.one_of(
            st.binary(max_size=100),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        [
                            "Distance",
                            "Poni1",
                            "Poni2",
                            "Rot1",
                            "Rot2",
                            "Detector",
                            "Detector_config",
                            "poni_version",
                        ]
                    ),
                    st.one_of(
                        st.floats().map(str),
                        st.text(max_size=10),
                        st.sampled_from(["Pilatus1M", "{}", "[]", "2", "Geometry"]),
                    ),
                )
            ).map(lambda lines: "\n".join(f"{key}: {value}" for key, value in lines).encode()),
        )
    )
    def test_any_content_gives_a_centre_or_a_geometry_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "any.poni").write_bytes(content)
        try:
            poni = read_poni(tmp_path / "any.poni")
        except GeometryError:
            return
        assert math.isfinite(poni.center_x)
        assert math.isfinite(poni.center_y)
