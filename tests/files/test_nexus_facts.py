"""What NeXus, DECTRIS, Pilatus and EDF files declare of invalid pixels."""

from __future__ import annotations

from pathlib import Path

import fabio
import fabio.edfimage
import h5py
import numpy as np
import pytest
import tifffile

from dvfb_stream.files import FrameFiles, Hdf5Frame, ImageFrame, open_frames, read_frames
from dvfb_stream.files.header_facts import edf_facts, pilatus_facts
from dvfb_stream.files.nexus_facts import detector_facts, detector_group
from dvfb_stream.frames import InvalidValues
from dvfb_stream.invalid_pixels import invalid_pixels
from dvfb_stream.isolation.files_process import FilesProcess

SHAPE = (20, 30)

PILATUS = "# Pixel_size 172e-6 m x 172e-6 m\n# Count_cutoff 1000 counts\n# Threshold_setting: 6000 eV\n"


def counts(dtype: str = "i4") -> np.ndarray:
    return np.random.default_rng(0).poisson(100, SHAPE).astype(dtype)


def valid_in(pixels: np.ndarray) -> np.ndarray:
    return invalid_pixels(pixels.dtype).valid(pixels)


def group_of(path: Path, **values: object) -> h5py.Group:
    file = h5py.File(path, "w")
    entry = file.create_group("entry")
    entry.attrs["NX_class"] = "NXentry"
    instrument = entry.create_group("instrument")
    instrument.attrs["NX_class"] = "NXinstrument"
    detector = instrument.create_group("detector")
    detector.attrs["NX_class"] = np.bytes_("NXdetector")
    for name, value in values.items():
        detector[name.replace("__", "/")] = value
    return detector


@pytest.mark.parametrize("place", ["pixel_mask", "detectorSpecific__pixel_mask"])
@pytest.mark.parametrize("dtype", [np.uint32, np.int8, bool, np.float64])
@pytest.mark.parametrize("leading", [(), (1,), (2,)])
def test_the_mask_is_what_is_zero_in_it(
    tmp_path: Path, place: str, dtype: type, leading: tuple[int, ...]
) -> None:
    values = np.zeros((*leading, *SHAPE), dtype)
    values[..., 3, 4:8] = 1
    values[(-1,) * len(leading) + (5, 6)] = 1 if dtype is bool else 8
    group = group_of(tmp_path / "a.h5", **{place: values})
    facts = detector_facts(group, SHAPE)
    masked = values.reshape(-1, *SHAPE).any(axis=0)
    assert facts.mask is not None
    np.testing.assert_array_equal(facts.mask, ~masked)
    assert facts.mask_source == f"{tmp_path}/a.h5::/entry/instrument/detector/{place.replace('__', '/')}"
    assert facts.mask_source in facts.remark


def test_of_the_masks_of_several_thresholds_any_masks_a_pixel(tmp_path: Path) -> None:
    """NeXus keeps them in groups of the class NXdetector_channel, whose names end like this."""
    masks = np.zeros((2, *SHAPE), np.uint32)
    masks[0, 2], masks[1, :, 3] = 1, 8
    group = group_of(
        tmp_path / "a.h5",
        threshold_1_channel__pixel_mask=masks[0],
        threshold_2_channel__pixel_mask=masks[1],
        difference_channel__pixel_mask=np.zeros((4, 5), np.uint32),
    )
    facts = detector_facts(group, SHAPE)
    np.testing.assert_array_equal(facts.mask, (masks == 0).all(axis=0))
    place = f"{tmp_path}/a.h5::/entry/instrument/detector"
    assert facts.mask_source == ", ".join(f"{place}/threshold_{n}_channel/pixel_mask" for n in (1, 2))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"pixel_mask": np.zeros((7, 8), np.uint32)}, "pixel_mask has the shape (7, 8), the frames (20, 30)"),
        ({"pixel_mask": np.zeros((30, 20), np.uint32)}, "has the shape (30, 20), the frames (20, 30)"),
        ({"pixel_mask": np.ones(SHAPE, np.uint32)}, "pixel_mask masks every pixel"),
        ({"pixel_mask": np.full(SHAPE, np.nan)}, "pixel_mask masks every pixel"),
        ({"pixel_mask": b"none"}, "pixel_mask holds values of the type"),
        ({"a_channel__pixel_mask": np.ones(SHAPE, np.int8)}, "a_channel/pixel_mask masks every pixel"),
    ],
)
def test_a_mask_that_cannot_be_used_is_told(tmp_path: Path, said: dict[str, object], reason: str) -> None:
    facts = detector_facts(group_of(tmp_path / "a.h5", **said), SHAPE)
    assert facts.mask is None
    assert facts.remark.startswith("The file's own mask is not used: ")
    assert reason in facts.remark
    assert facts.unmarked().remark == ""


@pytest.mark.parametrize(
    ("said", "declared"),
    [
        ({}, None),
        ({"bit_depth_image": 16}, InvalidValues(values=(65535, 65534))),
        ({"bit_depth_image": np.array([16])}, InvalidValues(values=(65535, 65534))),
        ({"bit_depth_readout": 12}, InvalidValues(values=(4095, 4094))),
        ({"bit_depth_image": 32, "bit_depth_readout": 12}, InvalidValues(values=(2**32 - 1, 2**32 - 2))),
        ({"detectorSpecific__countrate_correction_count_cutoff": 126634}, InvalidValues(above=126634)),
        (
            {"saturation_value": 60000, "detectorSpecific__countrate_correction_count_cutoff": 126634},
            InvalidValues(above=60000),
        ),
        ({"underload_value": -3.0}, InvalidValues(below=-3)),
        ({"saturation_value": np.nan, "bit_depth_image": "deep", "underload_value": np.zeros(3)}, None),
        ({"saturation_value": 0, "bit_depth_image": 0}, None),
    ],
)
def test_what_is_no_count_is_what_nexus_words_say(
    tmp_path: Path, said: dict[str, object], declared: InvalidValues | None
) -> None:
    assert detector_facts(group_of(tmp_path / "a.h5", **said), SHAPE).invalid_values == declared


def test_the_detector_is_the_one_that_the_frames_belong_to(tmp_path: Path) -> None:
    group = group_of(tmp_path / "a.h5", data=counts())
    file = group.file
    file["entry/data/data_000001"] = h5py.SoftLink("/entry/instrument/detector/data")
    file["loose"] = counts()
    for dataset in ("/entry/instrument/detector/data", "entry/data/data_000001"):
        assert detector_group(file, dataset) == group
    assert detector_group(file, "loose") is None
    second = file.create_group("entry/instrument/second")
    second.attrs["NX_class"] = "NXdetector"
    second["data"] = counts()
    assert detector_group(file, "/entry/instrument/second/data") == second
    assert detector_group(file, "entry/data/data_000001") == group
    file["entry/data/data"] = counts()
    assert detector_group(file, "entry/data/data") is None
    file["entry/data/gone"] = h5py.SoftLink("/entry/nowhere")
    assert detector_group(file, "entry/data/gone") is None


@pytest.mark.parametrize(
    ("header", "declared"),
    [
        ({}, None),
        ({"Dummy": "-10", "DDummy": "0.1"}, InvalidValues(values=(-10,), delta=0.1)),
        ({"dummy": "-1"}, InvalidValues(values=(-1,))),
        ({"Dummy": "0", "DDummy": "0.1"}, None),
        ({"Dummy": "none"}, None),
        ({"Dummy": "nan"}, None),
    ],
)
def test_edf_headers(header: dict[str, str], declared: InvalidValues | None) -> None:
    assert edf_facts(header).invalid_values == declared


@pytest.mark.parametrize(
    ("header", "above"),
    [
        (PILATUS, 1000),
        ("# Count_cutoff 0 counts\n", None),
        ("# Count_cutoff many counts\n", None),
        ("", None),
    ],
)
def test_pilatus_headers(header: str, above: float | None) -> None:
    found = pilatus_facts(header).invalid_values
    assert (None if found is None else found.above) == above


def test_frames_lose_the_pixels_that_their_files_declare(tmp_path: Path) -> None:
    pixels = counts()
    pixels[2, 3:6] = (1000, 1001, 50000)
    pixels[4, 5] = -1
    tifffile.imwrite(tmp_path / "pilatus.tif", pixels, description=PILATUS)
    fabio.cbfimage.CbfImage(
        data=pixels, header={"_array_data.header_contents": PILATUS.replace("\n", "\r\n")}
    ).write(str(tmp_path / "pilatus.cbf"))
    files = FrameFiles(file_mask=False)
    for name in ("pilatus.tif", "pilatus.cbf"):
        np.testing.assert_array_equal(files.read(ImageFrame(str(tmp_path / name)), "run"), pixels)
        (frame,) = read_frames(str(tmp_path / name))
        independent = fabio.open(str(tmp_path / name)).data
        valid = (independent <= 1000) & (independent >= 0)
        np.testing.assert_array_equal(valid_in(frame), valid)
        np.testing.assert_array_equal(frame[valid], independent[valid])
        assert np.count_nonzero(~valid) == 3


def test_a_value_that_an_edf_declares_is_no_count(tmp_path: Path) -> None:
    pixels = counts("f4") + 0.5
    pixels[2, 3:5] = (-10.02, -9.5)
    fabio.edfimage.EdfImage(data=pixels, header={"Dummy": "-10", "DDummy": "0.1"}).write(
        str(tmp_path / "a.edf")
    )
    (frame,) = read_frames(str(tmp_path / "a.edf"))
    expected = np.ones(SHAPE, bool)
    expected[2, 3] = False
    np.testing.assert_array_equal(valid_in(frame), expected)


@pytest.mark.parametrize("file_mask", [True, False])
def test_each_frame_has_the_facts_of_its_own_header(tmp_path: Path, *, file_mask: bool) -> None:
    headers = (
        {"Dummy": "5", "Center_1": "12", "Center_2": "7"},
        {"Dummy": "9", "Center_1": "3", "Center_2": "2"},
    )
    edf = fabio.edfimage.EdfImage(data=counts(), header=headers[0])
    edf.append_frame(data=counts(), header=headers[1])
    edf.write(str(tmp_path / "a.edf"))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for cutoff, centre in ((1005, (12, 7)), (1009, (3, 2))):
            said = (
                f"# Pixel_size 172e-6 m x 172e-6 m\n# Count_cutoff {cutoff} counts\n# Beam_xy {centre} pixels"
            )
            tif.write(counts(), description=said, contiguous=False, metadata=None)
    for name in ("a.edf", "a.tif"):
        with open_frames(f"{tmp_path}/{name}", file_mask=file_mask) as file:
            for index, centre in ((1, (2.5, 1.5)), (0, (11.5, 6.5)), (1, (2.5, 1.5))):
                file.read(index)
                assert (file.facts.center_x, file.facts.center_y) == centre
                declared = file.facts.invalid_values
                assert (declared is not None) is file_mask
                own = (InvalidValues(values=(5 + 4 * index,)), InvalidValues(above=1005 + 4 * index))
                assert declared in (None, *own)


def test_each_frame_loses_the_value_that_its_own_header_marks(tmp_path: Path) -> None:
    edf = fabio.edfimage.EdfImage(data=counts(), header={"Dummy": str(counts()[0, 0])})
    edf.append_frame(data=counts(), header={"Dummy": str(counts()[0, 1])})
    edf.write(str(tmp_path / "a.edf"))
    for frame, dummy in zip(read_frames(str(tmp_path / "a.edf")), counts()[0, :2], strict=True):
        np.testing.assert_array_equal(valid_in(frame), counts() != dummy)


def master(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Write an Eiger's master file and its data file; return which pixels its mask and depth hold valid."""
    masked = np.zeros(SHAPE, np.uint32)
    masked[:3] = 1
    masked[7, 8:11] = (2, 8, 16)
    with h5py.File(path.with_name("eiger_data_000001.h5"), "w") as data:
        data["entry/data/data"] = pixels
    specific = {"detectorSpecific__pixel_mask": masked, "bit_depth_image": 16}
    file = group_of(path, **specific).file
    file["entry/data/data_000001"] = h5py.ExternalLink("eiger_data_000001.h5", "entry/data/data")
    file.close()
    return (masked == 0) & (pixels[0] < 65534)


def test_frames_of_an_eiger_lose_what_its_master_masks_unless_that_is_not_wanted(tmp_path: Path) -> None:
    pixels = np.stack([counts("u4")] * 2)
    pixels[:, 12, 13] = 65535
    pixels[:, 12, 14] = 65536
    path = tmp_path / "eiger_master.h5"
    valid = master(path, pixels)
    valid[12, 14] = True
    for spec in (path, f"{path}::/entry/data/data_000001"):
        with open_frames(str(spec)) as frames:
            for index in range(2):
                np.testing.assert_array_equal(valid_in(frames.read(index)), valid)
                np.testing.assert_array_equal(frames.read(index)[valid], pixels[index][valid])
            assert frames.facts.remark == (
                f"The file's own mask is used: {path}::/entry/instrument/detector/detectorSpecific/pixel_mask."
            )
        with open_frames(str(spec), file_mask=False) as frames:
            np.testing.assert_array_equal(frames.read(1), pixels[1])
            assert frames.facts.remark == ""
    reference = Hdf5Frame(str(path), "/entry/data/data_000001", 1)
    for used in (True, False):
        for files in (FrameFiles(file_mask=used), FilesProcess(file_mask=used)):
            read = files.read(reference, "run")
            np.testing.assert_array_equal(valid_in(read) if used else read, valid if used else pixels[1])
            files.close()


@pytest.mark.parametrize("default", ["1.1", "/1.1"])
def test_the_facts_are_found_where_the_default_of_nexus_leads(tmp_path: Path, default: str) -> None:
    """As BLISS keeps a sample's scans: links of other names to the files of each, which have their own default."""
    masked = np.zeros(SHAPE, np.uint32)
    masked[:3] = 1
    with h5py.File(tmp_path / "scan.h5", "w") as scan:
        entry = scan.create_group("1.1")
        entry.attrs.update(NX_class="NXentry", default="plot" if default == "1.1" else "/1.1/plot")
        entry.create_group("instrument").attrs["NX_class"] = "NXinstrument"
        detector = entry.create_group("instrument/eiger")
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"], detector["pixel_mask"] = counts()[None], masked
        detector["beam_center_x"], detector["beam_center_y"] = 12.0, 7.0
        entry.create_group("plot").attrs.update(NX_class="NXdata", signal="eiger")
        entry["plot/eiger"] = h5py.SoftLink("/1.1/instrument/eiger/data")
    with h5py.File(tmp_path / "sample.h5", "w") as sample:
        sample.attrs["default"] = "scan_1.1"
        sample["scan_1.1"] = h5py.ExternalLink("scan.h5", "/1.1")
    for name in ("sample.h5", "sample.h5::/scan_1.1", "sample.h5::/scan_1.1/plot", "scan.h5::/1.1"):
        with open_frames(f"{tmp_path}/{name}") as file:
            np.testing.assert_array_equal(valid_in(file.read(0)), masked == 0)
            assert (file.facts.center_x, file.facts.center_y) == (11.5, 6.5)
    live = FrameFiles().read(Hdf5Frame(f"{tmp_path}/sample.h5", "", 0), "run")
    np.testing.assert_array_equal(valid_in(live), masked == 0)


def test_a_mask_that_is_damaged_costs_no_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.h5"
    group = group_of(path, data=counts("u2"))
    group.create_dataset("pixel_mask", data=np.eye(*SHAPE, dtype=np.uint32), chunks=SHAPE, compression="gzip")
    place = group["pixel_mask"].id.get_chunk_info(0).byte_offset
    group.file.close()
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 20)
    (frame,) = read_frames(f"{path}::/entry/instrument/detector/data")
    np.testing.assert_array_equal(frame, counts("u2"))
    assert "what" in caplog.text
    assert "is not used" in caplog.text
