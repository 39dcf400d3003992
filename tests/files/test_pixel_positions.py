"""The direct beam's pixel agrees with pyFAI's own scattering angles: detectors x orientations x tilts x versions."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from pyFAI.detectors import Detector, NexusDetector, detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from pyFAI.io.ponifile import PoniFile

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import DetectorDescription, read_poni
from dvfb_stream.files.poni_geometry import PyFaiGeometry

DISTANCE = 0.1
TILTS = [(0.0, 0.0, 0.0), (0.2, 0.1, 0.0), (-0.1, 0.25, 1.0)]
"""rot1, rot2, rot3 in radians."""

SQUARE = [
    "Pilatus 300k",
    "Eiger2 500k",
    "Maxipix_2x2",
    "Imxpad S10",
    "Imxpad S70",
    "Imxpad S140",
    "Xpad_flat",
    "Jungfrau",
]
"""Of uniform pixels, of larger ones between chips, and with gaps that have no pixels."""


def beam_on(
    detector: Detector, down: float, right: float, tilt: tuple[float, float, float]
) -> AzimuthalIntegrator:
    """Return a geometry whose beam hits the detector at these shares of its nominal height and width."""
    rot1, rot2, rot3 = tilt
    beam1, beam2 = down * detector.shape[0] * detector.pixel1, right * detector.shape[1] * detector.pixel2
    return AzimuthalIntegrator(
        dist=DISTANCE,
        poni1=beam1 - DISTANCE * np.tan(rot2) / np.cos(rot1),
        poni2=beam2 + DISTANCE * np.tan(rot1),
        rot1=rot1,
        rot2=rot2,
        rot3=rot3,
        detector=detector,
        wavelength=1e-10,
    )


def pixels_off(geometry: AzimuthalIntegrator, row: float, column: float) -> float:
    """Return how far from the beam pyFAI's scattering angle says that a place is, in pixels."""
    angle = float(geometry.tth(np.array([row]), np.array([column]))[0])
    distance = DISTANCE / np.cos(geometry.rot1) / np.cos(geometry.rot2)
    return distance * np.tan(angle) / geometry.detector.pixel1


def pixel_of_least_angle(geometry: AzimuthalIntegrator) -> tuple[int, int]:
    angles = geometry.center_array(geometry.detector.shape, unit="2th_rad")
    row, column = np.unravel_index(int(np.argmin(angles)), angles.shape)
    return int(row), int(column)


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SQUARE)
def test_the_centre_is_where_pyfais_angle_vanishes(
    tmp_path: Path, name: str, orientation: int, tilt: tuple[float, float, float]
) -> None:
    geometry = beam_on(detector_factory(name, {"orientation": orientation}), 0.413, 0.317, tilt)
    geometry.save(str(tmp_path / "a.poni"))
    poni = read_poni(tmp_path / "a.poni")
    assert (poni.center_y, poni.center_x) == pytest.approx(pixel_of_least_angle(geometry), abs=0.51)
    assert pixels_off(geometry, poni.center_y, poni.center_x) < 0.02


@pytest.mark.parametrize("orientation", [1, 3])
def test_hexagonal_pixels(orientation: int) -> None:
    geometry = beam_on(detector_factory("Pixirad1", {"orientation": orientation}), 0.413, 0.317, TILTS[0])
    poni = PyFaiGeometry(PoniFile(geometry), "a").resolved()
    # Rows lie in each other's gaps, so that pyFAI's positions jump between pixels.
    assert (poni.center_y, poni.center_x) == pytest.approx(pixel_of_least_angle(geometry), abs=0.71)
    assert poni.pixel_size.aspect == pytest.approx(np.sqrt(3) / 2)


@pytest.mark.parametrize("right", np.linspace(0.1, 0.9, 17))
def test_anywhere_on_pixels_that_are_larger_between_chips(right: float) -> None:
    geometry = beam_on(detector_factory("Imxpad S140"), 0.5, right, TILTS[0])
    poni = PyFaiGeometry(PoniFile(geometry), "a").resolved()
    assert pixels_off(geometry, poni.center_y, poni.center_x) < 0.02


def test_a_detector_that_calls_its_pixels_uniform_in_spite_of_gaps() -> None:
    geometry = beam_on(detector_factory("Jungfrau 8M"), 0.413, 0.317, TILTS[0])
    poni = PyFaiGeometry(PoniFile(geometry), "a").resolved()
    assert pixels_off(geometry, poni.center_y, poni.center_x) < 0.02


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["Pilatus 300k", "Imxpad S140"])
def test_off_the_image_pixels_go_on_in_the_usual_size(name: str, orientation: int) -> None:
    detector = detector_factory(name, {"orientation": orientation})
    on, off = (
        PyFaiGeometry(PoniFile(beam_on(detector, 0.5, right, TILTS[0])), "a").resolved()
        for right in (0.0, -0.1)
    )
    assert abs(off.center_x - on.center_x) == pytest.approx(0.1 * detector.shape[1], abs=0.6)
    assert off.center_y == pytest.approx(on.center_y, abs=0.01)


class TestDisplacement:
    @pytest.mark.parametrize(
        ("name", "expected"),
        # Beam at the top left. XPAD: 7 gaps of 3.57 mm below; S140: 6 joints of two pixels that are 2.5 wide.
        [("Pilatus 300k", 0.0), ("Xpad_flat", 7 * 3.57 / 0.13), ("Imxpad S140", 6 * 3.0)],
    )
    def test_it_is_what_gaps_and_larger_pixels_add_up_to(self, name: str, expected: float) -> None:
        detector = detector_factory(name)
        poni = PyFaiGeometry(PoniFile(beam_on(detector, 0.001, 0.001, TILTS[0])), "a").resolved()
        assert poni.displacement == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize(("name", "told"), [("Xpad_flat", True), ("Pilatus 300k", False)])
    def test_it_is_told_where_it_shows(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, told: bool
    ) -> None:
        beam_on(detector_factory(name), 0.4, 0.3, TILTS[0]).save(str(tmp_path / "a.poni"))
        DetectorDescription(poni=tmp_path / "a.poni").geometry()
        assert ("pixels from where equal steps would put them" in caplog.text) is told


class TestVersions:
    NUMBERS = "Distance: 0.1\nPoni1: 0.0172\nPoni2: 0.0344\nRot1: 0\nRot2: 0\nRot3: 0\nWavelength: 1e-10\n"

    @pytest.mark.parametrize(
        "head",
        [
            "PixelSize1: 0.000172\nPixelSize2: 0.000172\n",
            "Detector: Pilatus300k\n",
            "poni_version: 2\nDetector: Pilatus300k\nDetector_config: {}\n",
            'poni_version: 2.1\nDetector: Pilatus300k\nDetector_config: {"orientation": 3}\n',
            'poni_version: 2.1\nDetector: Detector\nDetector_config: {"pixel1": 0.000172, "pixel2": 0.000172, '
            '"max_shape": null, "orientation": 3}\n',
            'poni_version: 3\nDetector: Pilatus300k\nDetector_config: {"orientation": 3}\nParallax: False\n',
        ],
        ids=["1, pixels", "1, detector", "2", "2.1", "2.1, no shape", "3"],
    )
    def test_each_says_the_same(self, tmp_path: Path, head: str) -> None:
        (tmp_path / "a.poni").write_text(head + self.NUMBERS)
        poni = read_poni(tmp_path / "a.poni", (619, 487))
        assert (poni.center_y, poni.center_x) == pytest.approx((99.5, 199.5))
        assert poni.shape == (619, 487)

    @pytest.mark.parametrize("orientation", [1, 2, 3, 4])
    def test_the_frames_shape_stands_for_one_that_the_file_leaves_out(
        self, tmp_path: Path, orientation: int
    ) -> None:
        config = {"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": None, "orientation": orientation}
        (tmp_path / "a.poni").write_text(
            f"poni_version: 2.1\nDetector: Detector\nDetector_config: {json.dumps(config)}\n{self.NUMBERS}"
        )
        poni = read_poni(tmp_path / "a.poni", (300, 400))
        geometry = AzimuthalIntegrator(
            dist=DISTANCE,
            poni1=0.0172,
            poni2=0.0344,
            detector=Detector(1e-4, 2e-4, max_shape=(300, 400), orientation=orientation),
        )
        assert (poni.center_y, poni.center_x) == pytest.approx(pixel_of_least_angle(geometry), abs=0.51)
        assert pixels_off(geometry, poni.center_y, poni.center_x) < 0.01
        assert poni.pixel_size.aspect == 0.5

    def test_turned_and_no_shape_known_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.poni").write_text(
            'poni_version: 2.1\nDetector: Detector\nDetector_config: {"pixel1": 1e-4, "pixel2": 1e-4, '
            f'"max_shape": null, "orientation": 2}}\n{self.NUMBERS}'
        )
        with pytest.raises(GeometryError, match=r"turns its detector .* give the shape of the frames"):
            read_poni(tmp_path / "a.poni")


class TestBinning:
    @pytest.mark.parametrize("orientation", [1, 3])
    @pytest.mark.parametrize(
        ("name", "binning"), [("Pilatus 300kw", (1, 1)), ("Maxipix_2x2", (2, 4)), ("Rayonix MX225", (8, 8))]
    )
    def test_the_frames_shape_says_it_as_pyfai_guesses(
        self, tmp_path: Path, name: str, binning: tuple[int, int], orientation: int
    ) -> None:
        whole = detector_factory(name, {"orientation": orientation})
        shape = (whole.max_shape[0] // binning[0], whole.max_shape[1] // binning[1])
        beam_on(whole, 0.41, 0.32, TILTS[1]).save(str(tmp_path / "a.poni"))
        poni = read_poni(tmp_path / "a.poni", shape)

        binned = AzimuthalIntegrator()
        binned.load(str(tmp_path / "a.poni"))
        assert binned.detector.guess_binning(shape)
        assert pixels_off(binned, poni.center_y, poni.center_x) < 0.02
        assert poni.pixel_size.height == pytest.approx(1000 * binned.detector.pixel1)
        assert poni.pixel_size.width == pytest.approx(1000 * binned.detector.pixel2)
        if binned.detector.mask is not None:
            np.testing.assert_array_equal(poni.mask, binned.detector.mask == 0)

    def test_a_shape_that_no_binning_gives_is_refused(self, tmp_path: Path) -> None:
        beam_on(detector_factory("Pilatus 300k"), 0.4, 0.3, TILTS[0]).save(str(tmp_path / "a.poni"))
        with pytest.raises(GeometryError, match=r"has shape \(619, 487\), and no binning gives \(619, 400\)"):
            read_poni(tmp_path / "a.poni", (619, 400))


class TestNexusDetector:
    @pytest.fixture
    def bent(self, tmp_path: Path) -> Path:
        """A detector in a NeXus file whose pixels are moved by up to 3 of them."""
        detector = Detector(1e-4, 1e-4, max_shape=(60, 80))
        rows, columns = np.indices((61, 81), dtype=float)
        detector.set_dx(3 * np.sin(columns / 30))
        detector.set_dy(2 * np.cos(rows / 25))
        detector.save(str(tmp_path / "bent.h5"))
        return tmp_path / "bent.h5"

    def test_its_pixels_own_positions_count(self, tmp_path: Path, bent: Path) -> None:
        geometry = beam_on(NexusDetector(str(bent)), 0.45, 0.62, TILTS[1])
        geometry.save(str(tmp_path / "a.poni"))
        poni = read_poni(tmp_path / "a.poni")
        assert pixels_off(geometry, poni.center_y, poni.center_x) < 0.02
        assert (poni.center_y, poni.center_x) == pytest.approx(pixel_of_least_angle(geometry), abs=0.6)

    def test_its_file_is_found_beside_the_poni_file(self, tmp_path: Path, bent: Path) -> None:
        text = TestVersions.NUMBERS.replace("0.0172", "0.003").replace("0.0344", "0.004")
        config = json.dumps({"filename": bent.name, "orientation": 3})
        (tmp_path / "a.poni").write_text(
            f"poni_version: 2.1\nDetector: NexusDetector\nDetector_config: {config}\n{text}"
        )
        assert read_poni(tmp_path / "a.poni").shape == (60, 80)
        bent.unlink()
        with pytest.raises(GeometryError, match=r"its detector in bent\.h5, which is neither"):
            read_poni(tmp_path / "a.poni")

    def test_a_curved_one_is_refused(self, tmp_path: Path, bent: Path) -> None:
        geometry = beam_on(NexusDetector(str(bent)), 0.5, 0.5, TILTS[0])
        geometry.save(str(tmp_path / "a.poni"))
        with h5py.File(bent, "r+") as file:
            found = [name for name in _names(file) if name.endswith("IS_FLAT")]
            file[found[0]][()] = False
        with pytest.raises(GeometryError, match="curved detector"):
            read_poni(tmp_path / "a.poni")


def _names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names
