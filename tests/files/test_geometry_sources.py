"""`Geometry.from_poni` and its like have the numbers of their sources, and say which those are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
from fabio.cbfimage import PilatusHeader
from pyFAI.detectors import detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from dvfb_stream import Geometry
from dvfb_stream.errors import FrameError, GeometryError

SHAPE = (60, 80)


@pytest.fixture
def integrator() -> AzimuthalIntegrator:
    return AzimuthalIntegrator(
        dist=0.2, poni1=0.03, poni2=0.04, rot1=0.1, rot2=-0.05, detector=detector_factory("Pilatus 300k")
    )


def pilatus_header() -> PilatusHeader:
    header = PilatusHeader("", "PILATUS_1.2")
    header["Beam_xy"] = 12.25, -30.5
    header["Count_cutoff"] = 1000
    return header


def test_poni_and_integrator_say_the_same_and_which_they_are(
    tmp_path: Path, integrator: AzimuthalIntegrator
) -> None:
    integrator.save(str(tmp_path / "agbh.poni"))
    of_file, of_pyfai = Geometry.from_poni(tmp_path / "agbh.poni"), Geometry.from_pyfai(integrator)
    assert of_file == of_pyfai
    assert of_file.shape == (619, 487)
    # pyFAI's own conversion, which counts from the first pixel's corner.
    fit2d = integrator.getFit2D()
    assert (of_file.center_x, of_file.center_y) == pytest.approx(
        (fit2d["centerX"] - 0.5, fit2d["centerY"] - 0.5)
    )
    np.testing.assert_array_equal(of_file.mask, integrator.detector.mask == 0)
    assert "agbh.poni" in repr(of_file)
    assert 'source="pyFAI\'s AzimuthalIntegrator"' in repr(of_pyfai)


def test_the_integrators_own_mask_counts(integrator: AzimuthalIntegrator) -> None:
    masked = np.zeros((619, 487), np.int8)
    masked[3, 4] = 1
    integrator.detector.mask = masked
    geometry = Geometry.from_pyfai(integrator)
    assert geometry.mask is not None
    assert np.argwhere(~geometry.mask).tolist() == [[3, 4]]


def test_a_shape_stands_for_one_that_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "a.poni").write_text(
        "PixelSize1: 0.0001\nPixelSize2: 0.0002\nDistance: 1\nPoni1: 0.01\nPoni2: 0.02\n"
    )
    geometry = Geometry.from_poni(tmp_path / "a.poni", shape=SHAPE)
    assert (geometry.shape, geometry.pixel_aspect) == (SHAPE, 0.5)
    with pytest.raises(GeometryError, match=r"a\.poni does not say the detector's shape; give shape="):
        Geometry.from_poni(tmp_path / "a.poni")


def test_what_is_no_pyfai_geometry_is_refused() -> None:
    with pytest.raises(GeometryError, match="str has no dist"):
        Geometry.from_pyfai("agbh.poni")


def test_cbf_by_file_and_by_header(tmp_path: Path) -> None:
    header = pilatus_header()
    image = fabio.cbfimage.CbfImage(data=np.ones(SHAPE, np.int32))
    image.header["_array_data.header_contents"] = str(header)
    image.write(str(tmp_path / "a.cbf"))
    of_file, of_header = Geometry.from_cbf(tmp_path / "a.cbf"), Geometry.from_cbf(str(header), SHAPE)
    assert of_file == of_header
    assert (of_file.center_x, of_file.center_y) == (11.75, -31.0)
    assert of_file.invalid_values is not None
    assert of_file.invalid_values.above == 1000
    assert "a.cbf: Beam_xy of its header" in repr(of_file)
    assert "Pilatus header: Beam_xy of its header" in repr(of_header)


class TestNexus:
    def master(self, folder: Path, *, x: float = 12.25, y: float = -30.5) -> Path:
        """Write a DECTRIS master file beside its frames."""
        with h5py.File(folder / "a_data_000001.h5", "w") as file:
            file["entry/data/data"] = np.full((3, *SHAPE), 5, np.uint32)
        with h5py.File(folder / "a_master.h5", "w") as file:
            file["entry/data/data_000001"] = h5py.ExternalLink("a_data_000001.h5", "/entry/data/data")
            detector = file.create_group("entry/instrument/detector")
            detector.attrs["NX_class"] = "NXdetector"
            detector["pixel_mask"] = np.eye(*SHAPE, dtype=np.uint32)
            for name, value, unit in (
                ("beam_center_x", x, "pixel"),
                ("beam_center_y", y, "pixel"),
                ("x_pixel_size", 75e-6, "m"),
                ("y_pixel_size", 150e-6, "m"),
            ):
                detector[name] = np.float32(value)
                detector[name].attrs["units"] = unit
        return folder / "a_master.h5"

    def test_a_dectris_master(self, tmp_path: Path) -> None:
        geometry = Geometry.from_nexus(self.master(tmp_path))
        assert (geometry.shape, geometry.center_x, geometry.center_y) == (SHAPE, 11.75, -31.0)
        assert geometry.pixel_aspect == 2
        np.testing.assert_array_equal(geometry.mask, np.eye(*SHAPE) == 0)
        assert "a_master.h5: beam_center_x and beam_center_y of /entry/instrument/detector" in repr(geometry)

    def test_a_dataset_of_it(self, tmp_path: Path) -> None:
        named = Geometry.from_nexus(f"{self.master(tmp_path)}::/entry/data/data_000001")
        assert named == Geometry.from_nexus(tmp_path / "a_master.h5")

    def test_a_placeholder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(GeometryError, match=r"is \(0, 0\), as detectors write where nobody has set it"):
            Geometry.from_nexus(self.master(tmp_path, x=0, y=0))

    def test_frames_that_are_not_there_are_told(self, tmp_path: Path) -> None:
        self.master(tmp_path)
        (tmp_path / "a_data_000001.h5").unlink()
        with pytest.raises(FrameError, match="a_data_000001"):
            Geometry.from_nexus(tmp_path / "a_master.h5")


def test_the_examples_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, integrator: AzimuthalIntegrator
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    (example,) = re.findall(r"```python\n(from dvfb_stream import Geometry\n.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    integrator.detector = detector_factory("Maxipix_2x2")
    integrator.save("agbh.poni")
    TestNexus().master(tmp_path).rename("scan_master.h5")
    header = str(pilatus_header())
    image = fabio.cbfimage.CbfImage(data=np.ones(SHAPE, np.int32))
    image.header["_array_data.header_contents"] = header
    image.write("frame.cbf")
    # Typed in at a prompt, each line shows what it gives.
    session = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=example.replace("(309, 243)", "(258, 258)"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = [line for line in session.stdout.splitlines() if line.startswith("Geometry(")]
    assert len(shown) == 5, session.stderr
    assert all("source=" in line for line in shown)
    assert "Geometry.from_cbf(header, shape=(619, 487))" in example
    assert Geometry.from_cbf(header, shape=(619, 487)).center_x == 11.75


def test_the_nouns_import_no_reader() -> None:
    code = (
        "import sys, dvfb_stream.frames; "
        "print([name for name in ('pyFAI', 'h5py', 'fabio', 'dvfb_stream.files') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_pyfai_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.poni").write_text("Distance: 1\n")
    code = (
        "import sys; sys.modules['pyFAI'] = None\n"
        "from dvfb_stream import Geometry\n"
        f"Geometry.from_poni({str(tmp_path / 'a.poni')!r})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in found.stderr
    assert "dvfb-stream[files]" in found.stderr
