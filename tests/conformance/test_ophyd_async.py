"""Every detector of ophyd-async that writes images: our frames are those of bluesky-tiled-plugins' consolidators.

The detectors are ophyd-async's own, in a RunEngine, with signals that are mocked; what an IOC would write when it is
told to acquire is written here, by h5py and tifffile, while the run goes on.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import ophyd_async
import pytest
import tifffile
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky_tiled_plugins.writing.consolidators import consolidator_factory
from ophyd_async.core import (
    StandardDetector,
    StaticFilenameProvider,
    StaticPathProvider,
    TriggerInfo,
    callback_on_mock_execute,
    callback_on_mock_put,
    init_devices,
    set_mock_value,
)
from ophyd_async.epics import adcore

ROWS, COLUMNS = 19, 23
FRAMES = np.random.default_rng(7).integers(0, 60_000, (12, ROWS, COLUMNS), dtype=np.uint16)

AREA_DETECTORS = {
    "SimDetector": "adsimdetector",
    "PilatusDetector": "adpilatus",
    "AravisDetector": "adaravis",
    "AndorDetector": "adandor",
    "KinetixDetector": "adkinetix",
    "VimbaDetector": "advimba",
    "MerlinDetector": "admerlin",
}
"""Of areaDetector, by the module of ophyd_async.epics."""

ELSEWHERE = {
    "ContAcqDetector": "of adcore; here, too, with another way to begin",
    "SimBlobDetector": "of ophyd_async.sim; here, too",
    "EigerDetector": "of fastcs, written by odin; here, too",
    "JungfrauDetector": "of fastcs, written by odin; here, too",
    "AreaDetector": "what those of areaDetector are made of",
    "HDFPanda": "positions of motors, no images",
}


# Of modules that are there for old imports.
@pytest.mark.filterwarnings("ignore:Use `ophyd_async:DeprecationWarning")
def test_no_detector_that_is_installed_is_forgotten() -> None:
    found = set[str]()
    for module in pkgutil.walk_packages(ophyd_async.__path__, "ophyd_async."):
        if any(part in module.name for part in (".testing", ".demo", ".tango", "__main__", "._docs")):
            continue
        for name, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(member, StandardDetector) and member is not StandardDetector:
                found.add(name)
    assert found == AREA_DETECTORS.keys() | ELSEWHERE.keys()


# -- what an IOC writes ------------------------------------------------------------------------------------------


class Hdf5Writer:
    """areaDetector's HDF5 plugin, or odin: one file, readable while it grows."""

    def __init__(self, path: Path, dataset: str, frames: np.ndarray, **filters: Any) -> None:
        self.frames, self.count = frames, 0
        self._file = h5py.File(path, "w", libver="latest")
        shape = frames.shape[1:]
        self._dataset = self._file.create_dataset(
            dataset, (0, *shape), frames.dtype, maxshape=(None, *shape), chunks=(1, *shape), **filters
        )
        self._file.swmr_mode = True

    def write(self, count: int) -> int:
        """Write so many frames; return how many there are."""
        self._dataset.resize(self.count + count, 0)
        self._dataset[self.count :] = self.frames[self.count : self.count + count]
        self._dataset.flush()
        self.count += count
        return self.count

    def close(self) -> None:
        self._file.close()


class TiffWriter:
    """areaDetector's TIFF plugin: a file a frame."""

    def __init__(self, folder: Path, frames: np.ndarray) -> None:
        self._folder, self.frames, self.count = folder, frames, 0

    def write(self, count: int) -> int:
        for number in range(self.count, self.count + count):
            tifffile.imwrite(self._folder / f"frames_{number:06d}.tiff", self.frames[number])
        self.count += count
        return self.count

    def close(self) -> None:
        """Do nothing: each file is whole."""


class Session:
    """A RunEngine, and the documents of its last run."""

    def __init__(self, folder: Path) -> None:
        self.RE = RunEngine({})
        self.folder = folder
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.RE.subscribe(lambda name, doc: self.documents.append((name, doc)))
        self.paths = StaticPathProvider(StaticFilenameProvider("frames"), folder)
        self._opened: list[Any] = []

    def area_detector(
        self, name: str, plugin: str, *, images: int = 1, frames: np.ndarray = FRAMES, **described: Any
    ) -> Any:
        """Return a detector that writes `images` frames whenever it acquires, and says that they are `described`."""
        detectors = importlib.import_module(f"ophyd_async.epics.{AREA_DETECTORS.get(name, 'adcore')}")
        factory = getattr(adcore.ADWriterFactory, plugin)
        with init_devices(mock=True):
            det = getattr(detectors, name)("P:", factory(self.paths), name="det")
        rows, columns = described.get("shape", frames.shape[1:3])
        for signal, value in (
            (det.driver.array_size_x, columns),
            (det.driver.array_size_y, rows),
            (det.driver.data_type, described.get("data_type", adcore.ADBaseDataType.UINT16)),
            (det.driver.color_mode, described.get("color_mode", adcore.ADBaseColorMode.MONO)),
            (getattr(det, plugin).file_path_exists, True),
        ):
            set_mock_value(signal, value)
        writer = self._writer(plugin, frames)
        begins = det.driver.acquire
        if name == "ContAcqDetector":
            set_mock_value(det.driver.acquire, True)
            set_mock_value(det.driver.image_mode, adcore.ADImageMode.CONTINUOUS)
            begins = det.cb.capture

        def acquired(value: bool) -> None:
            if value:
                set_mock_value(getattr(det, plugin).num_captured, writer.write(images))
                if hasattr(det.driver, "armed"):
                    set_mock_value(det.driver.armed, True)

        callback_on_mock_put(begins, acquired)
        return det

    def _writer(self, plugin: str, frames: np.ndarray) -> Any:
        if plugin == "hdf":
            self._opened.append(Hdf5Writer(self.folder / "frames.h5", "entry/data/data", frames))
        else:
            self._opened.append(TiffWriter(self.folder, frames))
        return self._opened[-1]

    def add(self, writer: Any) -> Any:
        """Close a writer when the run has ended."""
        self._opened.append(writer)
        return writer

    def run(self, plan: Any) -> list[tuple[str, dict[str, Any]]]:
        self.RE(plan)
        self.close()
        return self.documents

    def close(self) -> None:
        for writer in self._opened:
            writer.close()
        self._opened.clear()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()
    session.RE.loop.call_soon_threadsafe(session.RE.loop.stop)


def consolidated(documents: Any, data_key: str) -> np.ndarray:
    """The frames that Tiled's users get, in order."""
    consolidator = descriptor = None
    for name, doc in documents:
        if name == "descriptor":
            descriptor = doc
        elif name == "stream_resource" and doc["data_key"] == data_key:
            consolidator, uid = consolidator_factory(doc, descriptor), doc["uid"]
        elif name == "stream_datum" and consolidator is not None and doc["stream_resource"] == uid:
            consolidator.consume_stream_datum(doc)
    assert consolidator is not None
    found = np.asarray(consolidator.init_adapter().read())
    return found.reshape(-1, *found.shape[-2:])


# -- areaDetector ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["hdf", "tiff"])
@pytest.mark.parametrize("name", [*AREA_DETECTORS, "ContAcqDetector"])
def test_a_step_scan_of_areadetector(session, annotated, name, plugin):
    documents = session.run(bp.count([session.area_detector(name, plugin)], 3))
    np.testing.assert_array_equal(consolidated(documents, "det"), FRAMES[:3])
    annotated(documents, (ROWS, COLUMNS), "det").assert_equals(FRAMES[:3])


@pytest.mark.parametrize("plugin", ["hdf", "tiff"])
def test_several_frames_an_event(session, annotated, plugin):
    det = session.area_detector("SimDetector", plugin, images=3)

    def plan() -> Any:
        yield from bps.stage(det)
        yield from bps.prepare(det, TriggerInfo(number_of_events=1, collections_per_event=3), wait=True)
        yield from bps.open_run()
        for _ in range(2):
            yield from bps.trigger_and_read([det])
        yield from bps.close_run()
        yield from bps.unstage(det)

    documents = session.run(plan())
    if (
        plugin == "hdf"
    ):  # of files of a frame each, ophyd-async says one a chunk, and the consolidator reads one a point
        np.testing.assert_array_equal(consolidated(documents, "det"), FRAMES[:6])
    annotated(documents, (ROWS, COLUMNS), "det").assert_equals(FRAMES[:6])


def test_a_fly_scan(session, annotated):
    det = session.area_detector("SimDetector", "hdf", images=7)

    def plan() -> Any:
        yield from bps.stage(det)
        yield from bps.open_run()
        yield from bps.prepare(det, TriggerInfo(number_of_events=7), wait=True)
        yield from bps.declare_stream(det, name="primary")
        yield from bps.kickoff(det, wait=True)
        yield from bps.complete(det, wait=True)
        yield from bps.collect(det, return_payload=False, name="primary")
        yield from bps.close_run()
        yield from bps.unstage(det)

    documents = session.run(plan())
    assert "event" not in [name for name, _ in documents]
    np.testing.assert_array_equal(consolidated(documents, "det"), FRAMES[:7])
    annotated(documents, (ROWS, COLUMNS), "det").assert_equals(FRAMES[:7])


@pytest.mark.parametrize("plugin", ["hdf", "tiff"])
def test_a_region_that_the_driver_does_not_know_of(session, annotated, plugin):
    """An ROI plugin between driver and writer: files hold less than ophyd-async says."""
    det = session.area_detector("SimDetector", plugin, shape=(2 * ROWS, 2 * COLUMNS))
    found = annotated(session.run(bp.count([det], 3)), (ROWS, COLUMNS), "det")
    found.assert_equals(FRAMES[:3])
    said = (
        f"The pixels have the shape {(ROWS, COLUMNS)}, where the descriptor says {(2 * ROWS, 2 * COLUMNS)}."
    )
    assert found.remarks == [said] * 3


def test_a_bit_depth_that_changes_after_priming(session, annotated):
    det = session.area_detector("SimDetector", "hdf", data_type=adcore.ADBaseDataType.UINT8)
    found = annotated(session.run(bp.count([det], 3)), (ROWS, COLUMNS), "det")
    found.assert_equals(FRAMES[:3])
    assert found.remarks == ["The pixels have the type uint16, where the descriptor says uint8."] * 3


def test_pictures_in_colours_are_one_failed_row_each(session, annotated):
    pictures = np.zeros((3, ROWS, COLUMNS, 3), np.uint8)
    colours = {"color_mode": adcore.ADBaseColorMode.RGB1, "data_type": adcore.ADBaseDataType.UINT8}
    det = session.area_detector("SimDetector", "hdf", frames=pictures, **colours)
    found = annotated(session.run(bp.count([det], 3)), (ROWS, COLUMNS), "det")
    assert [(row["frame"], row["status"]) for row in found.rows] == [
        (0, "failed"),
        (1, "failed"),
        (2, "failed"),
    ]
    assert all("picture in colours" in reason for reason in found.reasons)


def test_jpegs_have_rows_that_say_why_they_are_not_read(session, annotated):
    found = annotated(
        session.run(bp.count([session.area_detector("SimDetector", "jpeg")], 2)), (ROWS, COLUMNS), "det"
    )
    assert ["image/jpeg" in reason for reason in found.reasons] == [True, True]


# -- others ------------------------------------------------------------------------------------------------------


def test_the_simulated_detector(session, annotated):
    from ophyd_async.sim import PatternGenerator, SimBlobDetector

    with init_devices():
        det = SimBlobDetector(
            session.paths, PatternGenerator(sleep=lambda seconds: asyncio.sleep(0)), name="det"
        )
    documents = session.run(bp.count([det], 3))
    frames = consolidated(documents, "det")
    assert len(frames) == 3
    assert frames.any()
    annotated(documents, frames.shape[1:], "det").assert_equals(frames)


@pytest.mark.parametrize("name", ["EigerDetector", "JungfrauDetector"])
def test_detectors_that_odin_writes_for(session, annotated, name):
    detectors = importlib.import_module(f"ophyd_async.fastcs.{name.removesuffix('Detector').lower()}")
    suffixes = () if name == "EigerDetector" else ("DET:", "HDF:")
    with init_devices(mock=True):
        det = getattr(detectors, name)("P:", session.paths, *suffixes, name="det")
    odin = det.od if name == "EigerDetector" else det.odin
    writer = session.add(
        Hdf5Writer(session.folder / "frames_000001.h5", "data", FRAMES, **hdf5plugin.Bitshuffle())
    )
    depth = det.detector.bit_depth_image if name == "EigerDetector" else det.detector.bit_depth
    for signal, value in ((odin.fp.data_dims_0, ROWS), (odin.fp.data_dims_1, COLUMNS), (depth, 16)):
        set_mock_value(signal, value)
    begins = det.arm_when_ready if name == "EigerDetector" else det.detector.acquisition_start
    callback_on_mock_execute(odin.fp.start_writing, lambda *_: set_mock_value(odin.writing, True))
    callback_on_mock_execute(begins, lambda *_: set_mock_value(odin.fp.frames_written, writer.write(1)))
    if name == "EigerDetector":
        set_mock_value(det.detector.state, "idle")
    documents = session.run(bp.count([det], 3))
    np.testing.assert_array_equal(consolidated(documents, "det"), FRAMES[:3])
    annotated(documents, (ROWS, COLUMNS), "det").assert_equals(FRAMES[:3])
