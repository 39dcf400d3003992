"""Beam centres as detectors' own files declare them, against what pyFAI and fabio make of the same words."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import ClassVar

import fabio
import h5py
import numpy as np
import pytest
import tifffile
from fabio.app import eiger2cbf
from fabio.cbfimage import PilatusHeader
from fabio.marccdimage import HEADER_FORMAT, HEADER_NAMES
from hypothesis import given
from hypothesis import strategies as st
from pyFAI.detectors import Detector
from pyFAI.geometry import Geometry as PyFaiGeometry
from pyFAI.geometry.fit2d import convert_from_Fit2d

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import DetectorDescription, open_frames
from dvfb_stream.files.declared_centre import MARCCD_BYTES, with_marccd_centre, with_nexus_centre
from dvfb_stream.files.file_facts import NO_FACTS
from dvfb_stream.files.header_facts import edf_facts, pilatus_facts
from dvfb_stream.files.poni_geometry import PyFaiGeometry as Read

SHAPE = (60, 80)
PIXELS = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int32).reshape(SHAPE)
ANY = DetectorDescription(from_file=True).load()


def centre_in(file: str | Path) -> tuple[float, float]:
    with open_frames(str(file)) as frames:
        geometry = ANY.geometry(SHAPE, frames.facts)
    return geometry.center_x, geometry.center_y


def of_pyfai(geometry: PyFaiGeometry) -> tuple[float, float]:
    """Return where pyFAI's own angle vanishes; `test_pixel_positions` checks that."""
    found = Read(geometry, "a").resolved()
    return found.center_x, found.center_y


def fit2d(x: float, y: float, pixel: tuple[float, float] = (1e-4, 1e-4)) -> PyFaiGeometry:
    return convert_from_Fit2d(
        {"directDist": 100, "centerX": x, "centerY": y, "tilt": 0, "tiltPlanRotation": 0,
         "pixelX": pixel[1] * 1e6, "pixelY": pixel[0] * 1e6, "detector": Detector(*pixel, max_shape=SHAPE)}
    )  # fmt: skip


def pilatus_header(x: float, y: float) -> str:
    header = PilatusHeader("", "PILATUS_1.2")
    header["Pixel_size"] = 172e-6, 172e-6
    header["Beam_xy"] = x, y
    return str(header)


class TestPilatus:
    def test_cbf(self, tmp_path: Path) -> None:
        image = fabio.cbfimage.CbfImage(data=PIXELS)
        image.header["_array_data.header_contents"] = pilatus_header(12.25, -30.5)
        image.write(str(tmp_path / "a.cbf"))
        assert "Beam_xy" in (tmp_path / "a.cbf").read_bytes().decode("latin-1")
        assert centre_in(tmp_path / "a.cbf") == pytest.approx(of_pyfai(fit2d(12.25, -30.5)))

    def test_tiff(self, tmp_path: Path) -> None:
        text = "# Pixel_size 172e-6 m x 86e-6 m\n# Exposure_time 1.0 s\n# Beam_xy (12.25, 30.50) pixels\n"
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=text, metadata=None)
        with open_frames(str(tmp_path / "a.tif")) as frames:
            geometry = ANY.geometry(SHAPE, frames.facts)
        assert (geometry.center_x, geometry.center_y) == pytest.approx(of_pyfai(fit2d(12.25, 30.5)))
        # Pilatus writes width before height.
        assert geometry.pixel_aspect == 0.5
        assert geometry.source == "Beam_xy of its header"

    def test_two_lines(self, tmp_path: Path) -> None:
        tifffile.imwrite(
            tmp_path / "a.tif",
            PIXELS,
            description="# Beam_x = 12.25 pixels\n# Beam_y = 3 pixels\n",
            metadata=None,
        )
        assert centre_in(tmp_path / "a.tif") == (11.75, 2.5)


class TestEdf:
    HEADER: ClassVar = {"PSize_1": "0.0002", "PSize_2": "1e-04_m", "Center_1": "21.75", "Center_2": "35.5"}

    def written(self, path: Path, **more: str) -> Path:
        fabio.edfimage.EdfImage(data=PIXELS, header={**self.HEADER, **more}).write(str(path))
        return path

    def test_as_pyfais_spd_reads_it(self, tmp_path: Path) -> None:
        geometry = PyFaiGeometry(detector=Detector(1e-4, 2e-4, max_shape=SHAPE))
        geometry.setSPD(SampleDistance=1, Center_1=21.75, Center_2=35.5, PSize_1=2e-4, PSize_2=1e-4)
        with open_frames(str(self.written(tmp_path / "a.edf"))) as frames:
            found = ANY.geometry(SHAPE, frames.facts)
        geometry.detector.max_shape = geometry.detector.shape = SHAPE
        assert (found.center_x, found.center_y) == pytest.approx(of_pyfai(geometry))
        assert found.pixel_aspect == 0.5

    def test_what_was_cut_away_counts(self, tmp_path: Path) -> None:
        assert centre_in(self.written(tmp_path / "a.edf", Offset_1="10", Offset_2="-5")) == (11.25, 40.0)

    @pytest.mark.parametrize("told", ["0.0217 m", "left", "nan", ""])
    def test_what_is_no_pixels_is_told(self, tmp_path: Path, told: str) -> None:
        with pytest.raises(GeometryError, match=r"Center_1 and Center_2 of its header is no pair of numbers"):
            centre_in(self.written(tmp_path / "a.edf", Center_1=told))


class TestMarCcd:
    @staticmethod
    def head(order: str = "<", **values: int) -> bytes:
        """Return the first bytes of a file, as fabio's declaration of the header lays them out."""
        flat: list[int | bytes] = []
        seen: dict[str, int] = {}
        for name, kind in zip(HEADER_NAMES, HEADER_FORMAT, strict=True):
            index = seen.setdefault(name, 0)
            seen[name] += 1
            if kind == "c":
                text = b"MMX\0" if name.startswith("header_name") else b""
                flat.append(text[index : index + 1] or b"\0")
            else:
                flat.append(values.get(name, 0))
        magic = b"II*\0" if order == "<" else b"MM\0*"
        return magic.ljust(1024, b"\0") + struct.pack(order + HEADER_FORMAT, *flat)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_thousandths_of_pixels(self, order: str) -> None:
        head = self.head(order, beam_x=12_250, beam_y=30_500, pixelsize_x=80_000, pixelsize_y=40_000)
        facts = with_marccd_centre(NO_FACTS, head)
        assert (facts.center_x, facts.center_y) == pytest.approx(of_pyfai(fit2d(12.25, 30.5)))
        assert facts.pixel_aspect == 0.5

    def test_other_tiffs_and_short_ones_say_nothing(self) -> None:
        assert with_marccd_centre(NO_FACTS, b"II*\0" + bytes(4000)) is NO_FACTS
        assert with_marccd_centre(NO_FACTS, self.head(beam_x=1)[: MARCCD_BYTES - 1]) is NO_FACTS


class TestNexus:
    def group(
        self, file: h5py.File, x: object, y: object, units: object = None, **fields: object
    ) -> h5py.Group:
        group = file.create_group("entry/instrument/detector")
        for name, value in {"beam_center_x": x, "beam_center_y": y, **fields}.items():
            group[name] = value
            if units is not None and name.startswith("beam"):
                group[name].attrs["units"] = units
        return group

    @pytest.mark.parametrize(
        ("units", "scale"),
        [(None, 1.0), ("pixel", 1.0), ("pixels", 1.0), (b"px", 1.0), (np.array(["pixels"], dtype="S"), 1.0),
         ("m", 75e-6), ("mm", 75e-3), ("um", 75.0), ("\u00b5m", 75.0), ("microns", 75.0), ("cm", 75e-4)],
    )  # fmt: skip
    def test_units(self, tmp_path: Path, units: object, scale: float) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            group = self.group(file, 12.25 * scale, np.array([30.5 * scale]), units, x_pixel_size=75e-6)
            group["y_pixel_size"] = 75.0
            group["y_pixel_size"].attrs["units"] = "um"
            facts = with_nexus_centre(NO_FACTS, group)
        assert (facts.center_x, facts.center_y) == pytest.approx(of_pyfai(fit2d(12.25, 30.5)))
        assert facts.pixel_aspect == 1

    def test_what_fabio_copies_to_beam_xy_means_the_same(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a_master.h5", "w") as file:
            group = self.group(file, 12.25, 30.5, "pixel", x_pixel_size=75e-6, y_pixel_size=75e-6)
            for name, value in (("count_time", 1.0), ("frame_time", 1.0), ("sensor_thickness", 1e-3)):
                group[name] = value
            facts = with_nexus_centre(NO_FACTS, group)
            copied = group["beam_center_x"][()], group["beam_center_y"][()]
        source = Path(eiger2cbf.__file__).read_text()
        assert re.search(r'"Beam_xy"\] = \(\s*nxdetector\["beam_center_x"\]\[\(\)\],', source)
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=pilatus_header(*copied), metadata=None)
        assert (facts.center_x, facts.center_y) == centre_in(tmp_path / "a.tif")

    @pytest.mark.parametrize(
        ("x", "units", "fields", "said"),
        [
            (0.001, "m", {}, "is in 'm', and the size of a pixel is not known"),
            (1.0, "inch", {"x_pixel_size": 1e-4}, "is in 'inch', and that unit is not known"),
            (np.array([1.0, 2.0]), None, {}, "no pair of numbers"),
            (float("nan"), None, {}, "no pair of numbers"),
            ("left", None, {}, "no pair of numbers"),
        ],
    )
    def test_what_is_no_centre_is_told(
        self, tmp_path: Path, x: object, units: object, fields: dict[str, object], said: str
    ) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            facts = with_nexus_centre(NO_FACTS, self.group(file, x, 1.0, units, **fields))
        assert facts.center_x is None
        with pytest.raises(GeometryError, match=said):
            ANY.geometry(SHAPE, facts)

    def test_a_group_without_one_says_nothing(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            assert with_nexus_centre(NO_FACTS, file.create_group("detector")) is NO_FACTS


class TestPlaceholders:
    @pytest.mark.parametrize(
        ("x", "y", "said"),
        [
            (0, 0, r"is \(0, 0\), as detectors write where nobody has set it"),
            (40.0, 30.0, r"is \(40, 30\) pixels, the very middle of the image"),
            (1e6, 3, r"is \(1e\+06, 3\) pixels, which is far off an image of 80 x 60; is its unit right"),
        ],
    )
    def test_they_are_recognised_and_told_with_the_cure(
        self, tmp_path: Path, x: float, y: float, said: str
    ) -> None:
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=pilatus_header(x, y), metadata=None)
        with pytest.raises(GeometryError, match=said + r".*ive center_x and center_y"):
            centre_in(tmp_path / "a.tif")

    def test_beside_the_image_is_where_wide_angle_detectors_stand(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=pilatus_header(-200, 30), metadata=None)
        assert centre_in(tmp_path / "a.tif") == (-200.5, 29.5)

    def test_a_file_that_says_nothing(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", PIXELS)
        with pytest.raises(
            GeometryError, match="the beam centre is not known: the file says none; give center_x"
        ):
            centre_in(tmp_path / "a.tif")


HEADER_LINES = st.one_of(
    st.text(max_size=30),
    st.builds(
        lambda name, x, y: f"# {name} ({x}, {y}) pixels",
        st.sampled_from(["Beam_xy", "Beam_x", "Pixel_size"]),
        *[st.one_of(st.floats().map(str), st.integers().map(str), st.text(max_size=5))] * 2,
    ),
    st.builds(lambda x, y: f"# Pixel_size {x} m x {y} m", *[st.floats().map(str)] * 2),
)


@given(lines=st.lists(HEADER_LINES, max_size=6))
def test_any_header_gives_a_centre_or_a_geometry_error(lines: list[str]) -> None:
    facts = pilatus_facts("\r\n".join(lines))
    try:
        geometry = ANY.geometry(SHAPE, facts)
    except GeometryError as error:
        assert "the beam centre is not known" in str(error)  # noqa: PT017 - both ends are right
    else:
        assert (geometry.center_x, geometry.center_y) == (facts.center_x, facts.center_y)


@given(
    header=st.dictionaries(
        st.sampled_from(["Center_1", "Center_2", "Offset_1", "PSize_1", "PSize_2", "psize_1", "Dummy"]),
        st.one_of(st.floats().map(str), st.text(max_size=8), st.floats().map(lambda x: f"{x}_m")),
    )
)
def test_any_edf_header_gives_a_centre_or_a_geometry_error(header: dict[str, str]) -> None:
    try:
        ANY.geometry(SHAPE, edf_facts(header))
    except GeometryError as error:
        assert "the beam centre is not known" in str(error)  # noqa: PT017 - both ends are right


def test_what_a_user_says_wins(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, description=pilatus_header(12, 13), metadata=None)
    detector = DetectorDescription(center_x=1, center_y=2, from_file=True).load()
    with open_frames(str(tmp_path / "a.tif")) as frames:
        geometry = detector.geometry(SHAPE, frames.facts)
    assert (geometry.center_x, geometry.center_y, geometry.source) == (1, 2, "")
