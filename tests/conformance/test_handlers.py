"""Every handler that area-detector-handlers and ophyd register: our frames are those of event-model's Filler.

Where a handler errs, and is known to, they are those that h5py, tifffile or fabio find in the files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import event_model
import fabio.cbfimage
import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile
from area_detector_handlers.eiger import EigerHandler

pytestmark = pytest.mark.usefixtures("forked_services")

ROWS, COLUMNS = 19, 23
FRAMES = np.random.default_rng(5).integers(0, 60_000, (6, ROWS, COLUMNS), dtype=np.uint16)


@dataclass
class Written:
    """What was written, and the documents that lead to it."""

    spec: str
    path: Path
    resource: dict[str, Any]
    datums: list[dict[str, Any]]
    shape: list[int]
    """As the descriptor has it."""
    frames: Any = field(default_factory=lambda: FRAMES)
    """What lies in the files, in order."""
    each: int = 1
    """Frames of a datum."""


def documents(written: Written) -> list[tuple[str, dict[str, Any]]]:
    """A run with one datum an event, composed by event-model."""
    run = event_model.compose_run()
    described = {"source": "camera", "dtype": "array", "shape": written.shape, "external": "FILESTORE:"}
    primary = run.compose_descriptor(name="primary", data_keys={"image": described})
    resource = run.compose_resource(
        spec=written.spec,
        root=str(written.path.parent),
        resource_path=written.path.name,
        resource_kwargs=written.resource,
        validate=False,
    )
    found = [("start", run.start_doc), ("descriptor", primary.descriptor_doc)]
    found.append(("resource", resource.resource_doc))
    for kwargs in written.datums:
        datum = resource.compose_datum(datum_kwargs=kwargs)
        event = primary.compose_event(
            data={"image": datum["datum_id"]},
            timestamps={"image": 0.0},
            filled={"image": False},
            validate=False,
        )
        found += [("datum", datum), ("event", event)]
    return [*found, ("stop", run.compose_stop())]


def filled(written: Written) -> np.ndarray:
    """The frames that databroker's users get, in order; each datum by a handler of its own.

    That of AD_HDF5_SWMR gives no second datum: what it keeps of the first is an array of dask's, and has no `id`.
    """
    registry = {e.name: e.load() for e in entry_points(group="databroker.handlers") if e.name == written.spec}
    images, opening = list[Any](), list[tuple[str, Any]]()
    for name, doc in documents(written):
        if name in ("start", "descriptor", "resource"):
            opening.append((name, doc))
        elif name == "datum":
            last = name, doc
        elif name == "event":
            with event_model.Filler(registry, inplace=False, retry_intervals=[]) as filler:
                for each in (*opening, last):
                    filler(*each)
                images.append(np.asarray(filler(name, doc)[1]["data"]["image"]))
    return np.concatenate([image.reshape(-1, *image.shape[-2:]) for image in images])


# -- what writes as areaDetector and its like do ---------------------------------------------------------------


def hdf5(folder: Path, spec: str, each: int, dataset: str = "entry/data/data") -> Written:
    with h5py.File(folder / "a.h5", "w", libver="latest") as file:
        file.create_dataset(
            dataset,
            data=FRAMES,
            chunks=(1, ROWS, COLUMNS),
            maxshape=(None, ROWS, COLUMNS),
            **hdf5plugin.LZ4(),
        )
    return Written(
        spec, folder / "a.h5", {"frame_per_point": each}, points(each), [each, ROWS, COLUMNS], each=each
    )


def points(each: int) -> list[dict[str, Any]]:
    return [{"point_number": number} for number in range(len(FRAMES) // each)]


def sequence(
    folder: Path,
    spec: str,
    each: int,
    write: Callable[[str, Any], None],
    suffix: str,
    first: int = 0,
    **more: Any,
) -> Written:
    for number, frame in enumerate(FRAMES):
        write(str(folder / f"img_{first + number:06d}.{suffix}"), frame)
    kwargs = {"template": f"%s%s_%6.6d.{suffix}", "filename": "img", "frame_per_point": each} | more
    return Written(spec, folder, kwargs, points(each), [each, ROWS, COLUMNS], each=each)


def hdf5_single(folder: Path, spec: str, each: int) -> Written:
    def write(path: str, frame: Any) -> None:
        with h5py.File(path, "w") as file:
            file["entry/data/data"] = frame

    return sequence(folder, spec, each, write, "h5")


def tiff(folder: Path, spec: str, each: int) -> Written:
    return sequence(folder, spec, each, tifffile.imwrite, "tiff")


def cbf(folder: Path, spec: str, each: int) -> Written:
    def write(path: str, frame: Any) -> None:
        fabio.cbfimage.CbfImage(data=frame.astype(np.int32)).write(path)

    written = sequence(folder, spec, each, write, "cbf", first=1, initial_number=1)
    written.frames = FRAMES.astype(np.int32)
    return written


def spe(folder: Path, spec: str, each: int) -> Written:
    """Princeton Instruments' format, version 2: sizes and type in a header of 4100 bytes."""
    for point in range(len(FRAMES) // each):
        head = bytearray(4100)
        for offset, value in ((6, COLUMNS), (18, ROWS), (42, COLUMNS), (656, ROWS), (108, 3)):
            struct.pack_into("<h", head, offset, value)
        struct.pack_into("<I", head, 1446, each)
        head[20:29], head[172:178] = b"01Jan2020", b"101010"
        pixels = FRAMES[point * each : (point + 1) * each].tobytes()
        (folder / f"img_{point:06d}.spe").write_bytes(bytes(head) + pixels)
    kwargs = {"template": "%s%s_%6.6d.spe", "filename": "img", "frame_per_point": each}
    return Written(spec, folder, kwargs, points(each), [each, ROWS, COLUMNS], each=each)


def eiger(folder: Path, spec: str, files: int, *, firmware: str = "entry/data") -> Written:
    """A master file with links to data files, bitshuffled as DECTRIS writes them."""
    each = len(FRAMES) // files
    with h5py.File(folder / "run_7_master.h5", "w") as master:
        for place in EigerHandler.EIGER_MD_LAYOUT.values():
            master[place] = np.zeros((ROWS, COLUMNS), "u4") if place.endswith("pixel_mask") else 1.0
        master["entry/instrument"].attrs["NX_class"] = "NXinstrument"
        master["entry/instrument/detector"].attrs["NX_class"] = "NXdetector"
        for number in range(files):
            name = f"run_7_data_{number + 1:06d}.h5"
            with h5py.File(folder / name, "w") as data:
                some = FRAMES[number * each : (number + 1) * each]
                data.create_dataset(
                    "entry/data/data", data=some, chunks=(1, ROWS, COLUMNS), **hdf5plugin.Bitshuffle()
                )
            master[f"{firmware}/data_{number + 1:06d}"] = h5py.ExternalLink(name, "entry/data/data")
    count = len(FRAMES)
    return Written(
        spec, folder / "run", {"images_per_file": each}, [{"seq_id": 7}], [count, ROWS, COLUMNS], each=count
    )


def fly(folder: Path, spec: str) -> Written:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("entry/instrument/detector/data", data=FRAMES, **hdf5plugin.Zstd())
    count = len(FRAMES)
    return Written(spec, folder / "a.h5", {}, [{}], [count, ROWS, COLUMNS], each=count)


def imm(folder: Path, spec: str, each: int) -> Written:
    """The Advanced Photon Source's sparse format: of each frame a header of 1024 bytes, places and counts."""
    layout = "ii32s16si16siiiiiiiiiiiiiddiiIiiI40sf40sf40sf40sf40sf40sf40sf40sf40sf40sfffiiifc295s84s12s"
    kinds = struct.Struct(layout)
    blank = list(kinds.unpack(bytes(kinds.size)))
    with open(folder / "a.imm", "wb") as file:
        for frame in FRAMES:
            head = list(blank)
            head[1], head[14], head[15], head[23] = 6, ROWS, COLUMNS, frame.size
            file.write(kinds.pack(*head))
            file.write(np.arange(frame.size, dtype=np.uint32).tobytes() + frame.tobytes())
    datums = [{"index": number} for number in range(len(FRAMES) // each)]
    written = Written(
        spec, folder / "a.imm", {"frames_per_point": each}, datums, [each, ROWS, COLUMNS], each=each
    )
    written.frames = FRAMES.astype(np.uint32)
    return written


def npy(folder: Path, spec: str) -> Written:
    for number, frame in enumerate(FRAMES):
        np.save(folder / f"a_{number}.npy", frame)
    return Written(
        spec, folder / "a", {}, [{"index": number} for number in range(len(FRAMES))], [ROWS, COLUMNS]
    )


IMAGES: dict[str, tuple[Callable[..., Written], list[Any]]] = {
    "AD_HDF5": (hdf5, [1, 2]),
    "AD_HDF5_SWMR": (hdf5, [1, 3]),
    "AD_HDF5_SINGLE": (hdf5_single, [1, 2]),
    "AD_TIFF": (tiff, [1, 2]),
    "AD_CBF": (cbf, [1]),
    "AD_SPE": (spe, [1, 2]),
    "AD_EIGER": (eiger, [1]),
    "AD_EIGER2": (eiger, [1]),
    "AD_EIGER_SLICE": (eiger, [1]),
    "TPX_HDF5": (
        lambda folder, spec, each: hdf5(folder, spec, each, "entry/instrument/detector/data"),
        [1, 2],
    ),
    "IMM": (imm, [1, 2]),
    "NPY_SEQ": (lambda folder, spec, _: npy(folder, spec), [1]),
    **{
        spec: (lambda folder, spec, _: fly(folder, spec), [1])
        for spec in ("MERLIN_FLY", "MERLIN_FLY_STREAM_V1", "DEXELA_FLY_V1", "XSP3_FLY", "XPS3_FLY")
    },
}
"""By spec, what writes its files, and of how many frames a point, or files."""

NO_IMAGES = {"AD_HDF5_TS", "AD_HDF5_SWMR_TS", "XSP3", "SPECS_HDF5_SINGLE_DATAFRAME"}
"""Times, spectra and tables."""


def test_no_handler_that_is_registered_is_forgotten() -> None:
    known = {
        entry.name
        for entry in entry_points(group="databroker.handlers")
        if entry.value.startswith(("area_detector_handlers", "ophyd"))
    }
    assert known == IMAGES.keys() | NO_IMAGES


@pytest.mark.parametrize(
    ("spec", "each"), [(spec, each) for spec, (_, several) in IMAGES.items() for each in several]
)
def test_frames_are_those_of_the_filler(annotated, tmp_path, spec, each):
    written = IMAGES[spec][0](tmp_path, spec, each)
    np.testing.assert_array_equal(filled(written), written.frames)
    found = annotated(documents(written), (ROWS, COLUMNS))
    found.assert_equals(written.frames)
    assert all(
        remark.startswith("The file's own mask is used: " if "EIGER" in spec else "")
        for remark in found.remarks
    )
    assert not any("documents" in remark or "descriptor" in remark for remark in found.remarks)


# -- where handlers err ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [2, 3])
def test_an_eiger_with_several_data_files_where_the_handler_takes_the_first_for_the_second(
    annotated, tmp_path, files
):
    written = eiger(tmp_path, "AD_EIGER2", files)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(filled(written), FRAMES)
    annotated(documents(written), (ROWS, COLUMNS)).assert_equals(FRAMES)


def test_an_eiger_of_which_one_frame_is_an_event_where_the_handler_fails(annotated, tmp_path):
    written = eiger(tmp_path, "AD_EIGER_SLICE", 2)
    written.datums = [{"seq_id": 7, "frame_num": number} for number in range(len(FRAMES))]
    written.shape = [COLUMNS, ROWS, 0]
    with pytest.raises(AttributeError):
        filled(written)
    annotated(documents(written), (ROWS, COLUMNS)).assert_equals(FRAMES)


def test_links_of_old_firmware_lie_one_level_higher(annotated, tmp_path):
    written = eiger(tmp_path, "AD_EIGER", 1, firmware="entry")
    np.testing.assert_array_equal(filled(written), FRAMES)
    annotated(documents(written), (ROWS, COLUMNS)).assert_equals(FRAMES)


def test_cbf_files_of_two_a_point_where_the_handler_asks_for_those_of_the_next(annotated, tmp_path):
    written = cbf(tmp_path, "AD_CBF", 2)
    with pytest.raises(event_model.DataNotAccessible):
        filled(written)
    annotated(documents(written), (ROWS, COLUMNS)).assert_equals(written.frames)


@pytest.mark.parametrize("spec", ["AD_EIGER2", "IMM"])
def test_frames_that_the_documents_do_not_announce_are_remarked(annotated, tmp_path, spec):
    written = eiger(tmp_path, spec, 2) if spec == "AD_EIGER2" else imm(tmp_path, spec, 3)
    written.shape = [COLUMNS, ROWS, 0]
    if spec == "IMM":  # of an event that comes before its datum, only the descriptor tells
        written.resource = {"frames_per_point": 3}
        started = documents(written)
        events = [each for each in started if each[0] == "event"]
        started = [*started[:2], *events, *[each for each in started[2:] if each[0] != "event"]]
    else:
        started = documents(written)
    found = annotated(started, (ROWS, COLUMNS))
    assert found.reasons == [""] * len(written.datums)
    np.testing.assert_array_equal(found.frames, written.frames[::3][: len(found.frames)])
    assert all("the others have no rows." in remark for remark in found.remarks)


def test_pixels_that_a_master_masks_have_the_greatest_value_and_the_row_says_so(annotated, tmp_path):
    written = eiger(tmp_path, "AD_EIGER2", 2)
    masked = np.zeros((ROWS, COLUMNS), bool)
    masked[3, 4:9] = True
    with h5py.File(tmp_path / "run_7_master.h5", "r+") as master:
        master[EigerHandler.EIGER_MD_LAYOUT["pixel_mask"]][...] = 8 * masked
    found = annotated(documents(written), (ROWS, COLUMNS))
    found.assert_equals(np.where(masked, np.uint16(65535), FRAMES))
    assert all(remark.startswith("The file's own mask is used: ") for remark in found.remarks)


def test_a_data_file_that_is_gone_is_named(annotated, tmp_path):
    written = eiger(tmp_path, "AD_EIGER2", 3)
    (tmp_path / "run_7_data_000002.h5").unlink()
    found = annotated(documents(written), (ROWS, COLUMNS), patience=0.5)
    assert [row["status"] for row in found.rows] == ["ok", "ok", "failed", "failed", "ok", "ok"]
    assert "run_7_data_000002.h5 is not there" in found.reasons[2]


@pytest.mark.parametrize("spec", sorted(NO_IMAGES))
def test_what_is_no_image_has_one_failed_row_a_datum(annotated, tmp_path, spec):
    with h5py.File(tmp_path / "img_000000.h5", "w") as file:
        attributes = file.create_group("entry/instrument/NDAttributes")
        for name in ("NDArrayEpicsTSSec", "NDArrayEpicsTSnSec", "StartEnergy", "StepEnergy", "StopEnergy"):
            attributes[name] = np.arange(1.0, 7.0) * (3 if name == "StopEnergy" else 1)
        file["entry/instrument/detector/data"] = np.ones((6, 4, 100))
        file["entry/data/data"] = np.ones((2, 3))
    datum = {"frame": 1, "channel": 2} if spec == "XSP3" else {"point_number": 0}
    single = {"template": "%s%s_%6.6d.h5", "filename": "img"}
    path, kwargs = (tmp_path, single) if spec.startswith("SPECS") else (tmp_path / "img_000000.h5", {})
    written = Written(spec, path, kwargs, [datum], [100])
    found = annotated(documents(written), (ROWS, COLUMNS), patience=0.5)
    assert [row["status"] for row in found.rows] == ["failed"]
    assert "no image" in found.reasons[0] or "tables, not images" in found.reasons[0]
