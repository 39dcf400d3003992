"""Documents and files as real detectors write them: every frame found, pixels equal to what lies in the file."""

from __future__ import annotations

import asyncio

import fabio.cbfimage
import fabio.tifimage
import h5py
import numpy as np
import pytest
from area_detector_handlers.handlers import AreaDetectorHDF5Handler
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp

from dvfb_stream.callbacks.document_fields import DocumentError, NotKnownYetError
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.resources import Datums
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles


@pytest.fixture
def files():
    opened = FrameFiles()
    yield opened
    opened.close()


class Run:
    """A raw run whose descriptor has one image, `saxs`."""

    def __init__(self, shape=(5, 7), *, root_map=None, **spec):
        self.datums = Datums(root_map)
        self.raw = RawRun({"uid": "run"}, None, root_map=root_map, datums=self.datums)
        image = {"dtype": "array", "shape": shape, **spec}
        self.raw.add_descriptor({"uid": "d", "run_start": "run", "data_keys": {"saxs": image}})

    def add_file(self, uri, *, uid="r", mimetype="application/x-hdf5", **parameters):
        known = {"uid": uid, "data_key": "saxs", "uri": uri, "mimetype": mimetype, "parameters": parameters}
        self.raw.add_stream_resource(known)

    def announce(self, start, stop, *, uid="r"):
        indices = {"start": start, "stop": stop}
        return self.of("stream_datum", {"stream_resource": uid, "indices": indices})

    def of_datum(self, datum_id):
        return self.of("event", {"uid": datum_id, "data": {"saxs": datum_id}, "filled": {"saxs": False}})

    def of(self, name, doc):
        """Return where each frame lies, to be found out when it is read."""
        found = self.raw.frames(name, doc | {"descriptor": "d"})
        return [(frames.pixels, position) for frames in found for position in range(frames.count)]


def read(files, reference):
    frames, position = reference
    return files.read(frames[position], "run")


def of_stream_data(documents):
    """Return where the frames lie that the stream datums of a run announce, by data key."""
    found = {}
    for name, doc in documents:
        if name == "start":
            raw = RawRun(doc, None)
        elif name == "descriptor":
            raw.add_descriptor(doc)
        elif name == "stream_resource":
            raw.add_stream_resource(doc)
        elif name == "stream_datum":
            for frames in raw.frames(name, doc):
                of_each = [(frames.pixels, position) for position in range(frames.count)]
                found.setdefault(frames.origin.data_key, []).extend(of_each)
    return found


@pytest.fixture
def blobs(tmp_path):
    """ophyd-async's simulated detector in a RunEngine, and what it emits."""
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector

    RE, documents = RunEngine(), []
    RE.subscribe(lambda name, doc: documents.append((name, doc)))
    provider = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    with init_devices():
        detector = SimBlobDetector(
            provider, PatternGenerator(sleep=lambda seconds: asyncio.sleep(0)), name="saxs"
        )
    return RE, detector, documents


def test_a_step_scan_of_ophyd_async(blobs, files, tmp_path):
    RE, detector, documents = blobs
    RE(bp.count([detector], 4))
    references = of_stream_data(documents)["saxs"]
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path) as file:
        (dataset,) = [item for item in _datasets(file) if item.ndim > 2]
        expected = dataset[()].reshape(-1, *dataset.shape[-2:])
    assert len(references) == len(expected) == 4
    for reference, frame in zip(references, expected, strict=True):
        np.testing.assert_array_equal(read(files, reference), frame)


def test_a_fly_scan_without_events_of_ophyd_async(blobs, files, tmp_path):
    from ophyd_async.core import TriggerInfo

    RE, detector, documents = blobs

    def fly():
        yield from bps.stage_all(detector)
        yield from bps.open_run()
        yield from bps.prepare(detector, TriggerInfo(number_of_events=7, livetime=0.01), wait=True)
        yield from bps.declare_stream(detector, name="primary")
        yield from bps.kickoff(detector, wait=True)
        yield from bps.complete(detector, wait=False, group="done")
        done = False
        while not done:
            try:
                yield from bps.wait(group="done", timeout=0.1)
                done = True
            except TimeoutError:
                pass
            yield from bps.collect(detector, return_payload=False, name="primary")
        yield from bps.close_run()
        yield from bps.unstage_all(detector)

    RE(fly())
    assert not [name for name, _ in documents if name == "event"]
    references = of_stream_data(documents)["saxs"]
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path) as file:
        (dataset,) = [item for item in _datasets(file) if item.ndim > 2]
        expected = dataset[()].reshape(-1, *dataset.shape[-2:])
    assert len(references) == len(expected) == 7
    for reference, frame in zip(references, expected, strict=True):
        np.testing.assert_array_equal(read(files, reference), frame)


def _datasets(group):
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from _datasets(item)
        else:
            yield item


FRAMES = np.random.default_rng(1).integers(0, 9999, (6, 5, 7)).astype(np.int32)


def stream(uri, *, mimetype="application/x-hdf5", shape=(1, 5, 7), ranges=((0, 2), (2, 6)), **parameters):
    """Return where the frames lie of one stream resource and its datums."""
    run = Run(shape, dtype_numpy="<i4", external="STREAM:")
    run.add_file(uri, mimetype=mimetype, **parameters)
    return [reference for start, stop in ranges for reference in run.announce(start, stop)]


def assert_read(references, files, frames=FRAMES):
    assert len(references) == len(frames)
    for reference, frame in zip(references, frames, strict=True):
        np.testing.assert_array_equal(read(files, reference), frame)


@pytest.mark.parametrize(
    ("shape", "stored", "ranges"),
    [
        ((5, 7), (6, 5, 7), ((0, 6),)),
        ((1, 5, 7), (6, 1, 5, 7), ((0, 2), (2, 6))),
        ((3, 5, 7), (6, 5, 7), ((0, 1), (1, 2))),
        ((3, 5, 7), (2, 3, 5, 7), ((0, 2),)),
    ],
)
def test_points_of_one_and_of_several_frames_in_hdf5(tmp_path, files, shape, stored, ranges):
    with h5py.File(tmp_path / "a b.h5", "w") as file:
        file["entry/data"] = FRAMES.reshape(stored)
    uri = f"file://localhost{tmp_path}/a%20b.h5"
    assert_read(stream(uri, shape=shape, ranges=ranges, dataset="/entry/data", chunk_shape=(1, 5, 7)), files)


@pytest.mark.parametrize("template", ["scan_{:06d}.tif", "/{filename}_{:06d}.tif", "%s%s_%6.6d.tif"])
def test_a_sequence_of_tiffs(tmp_path, files, template):
    for number, frame in enumerate(FRAMES):
        fabio.tifimage.TifImage(data=frame).write(str(tmp_path / f"scan_{number:06d}.tif"))
    references = stream(
        f"file://localhost{tmp_path}/", mimetype="multipart/related;type=image/tiff", template=template,
        filename="scan", chunk_shape=(1, 5, 7),
    )  # fmt: skip
    assert_read(references, files)


def test_a_sequence_of_npy_files_with_several_frames_each(tmp_path, files):
    for number in range(3):
        np.save(tmp_path / f"a_{number}.npy", FRAMES[2 * number : 2 * number + 2])
    references = stream(
        f"file://{tmp_path}/", mimetype="multipart/related;type=application/x-npy", template="a_{:d}.npy",
        shape=(2, 5, 7), ranges=((0, 3),), chunk_shape=(2, 5, 7),
    )  # fmt: skip
    assert_read(references, files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"uri": "https://elsewhere/a.h5"}, "only files are"),
        ({"uri": "file://other-host/a.h5"}, "only files are"),
        ({"mimetype": "video/mp4"}, "of the type 'video/mp4' are not read"),
        ({"dataset": None}, "does not say which dataset"),
        ({"template": "{0.__class__}"}, "has fields other than"),
        ({"template": "%(name)s"}, "has fields other than"),
        ({"slice": ":,0"}, "are a slice"),
    ],
)
def test_what_cannot_be_read_says_why_and_costs_its_own_rows(files, changed, message):
    given = {"uri": "file://localhost/a.h5", "dataset": "/d"} | changed
    references = stream(given.pop("uri"), **given)
    assert len(references) == 6
    with pytest.raises(FrameError, match=message) as raised:
        read(files, references[0])
    assert not isinstance(raised.value, NotThereYetError)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ({"start": "0", "stop": 1}, "must be integers"),
        ({"start": -1, "stop": 1}, "must be integers from 0"),
        ({"start": 0, "stop": 10**12}, "is not believed"),
        (None, "indices"),
    ],
)
def test_malformed_stream_datums_are_refused(indices, message):
    run = Run()
    run.add_file("file:///a")
    with pytest.raises(DocumentError, match=message):
        run.of("stream_datum", {"stream_resource": "r", "indices": indices})
    with pytest.raises(NotKnownYetError, match="the stream_resource 'other' is not known here"):
        run.announce(0, 1, uid="other")


def test_a_second_file_of_a_data_key_goes_on_where_the_first_ended_or_begins_again(tmp_path, files):
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["d"] = FRAMES[3 * number : 3 * number + 3]
    for second in ((3, 6), (0, 3)):
        run, references = Run(), []
        for uid, indices in (("0", (0, 3)), ("1", second)):
            run.add_file(f"file://localhost{tmp_path}/{uid}.h5", uid=uid, dataset="d")
            references += run.announce(*indices, uid=uid)
        assert_read(references, files)


# -- Resource and Datum ----------------------------------------------------------------------------------


def resource(spec, root, path, **kwargs):
    return {"uid": "r", "spec": spec, "root": str(root), "resource_path": path, "resource_kwargs": kwargs}


def datum(number, **kwargs):
    return {"datum_id": f"r/{number}", "resource": "r", "datum_kwargs": kwargs}


def written(tmp_path, each):
    """Write the frames as areaDetector's HDF5 plugin does, one after the other whatever the point."""
    with h5py.File(tmp_path / "ad.h5", "w") as file:
        file["entry/data/data"] = FRAMES
    return len(FRAMES) // each


@pytest.mark.parametrize("each", [1, 2, 3])
@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
def test_area_detectors_hdf5_as_its_handler_reads_it(tmp_path, files, spec, each):
    points = written(tmp_path, each)
    run = Run((each, 5, 7))
    # An event may come before its datum.
    references = [reference for n in range(points) for reference in run.of_datum(f"r/{n}")]
    with pytest.raises(NotThereYetError, match="the Datum document"):
        read(files, references[0])
    page = {
        "resource": "r",
        "datum_id": [f"r/{n}" for n in range(points)],
        "datum_kwargs": {"point_number": list(range(points))},
    }
    with pytest.raises(NotKnownYetError, match="the resource 'r'"):
        run.datums.add_datum_page(page)
    run.datums.add_resource(resource(spec, tmp_path, "ad.h5", frame_per_point=each))
    run.datums.add_datum_page(page)
    assert_read(references, files)
    files.release("run")
    handler = AreaDetectorHDF5Handler(tmp_path / "ad.h5", frame_per_point=each)
    for point in range(points):
        np.testing.assert_array_equal(
            np.asarray(handler(point_number=point)).reshape(each, 5, 7),
            FRAMES[point * each : (point + 1) * each],
        )


def test_area_detectors_tiffs(tmp_path, files):
    for number, frame in enumerate(FRAMES):
        fabio.tifimage.TifImage(data=frame).write(str(tmp_path / f"ad_{number:06d}.tiff"))
    run = Run((2, 5, 7))
    kwargs = {"template": "%s%s_%6.6d.tiff", "filename": "ad", "frame_per_point": 2}
    run.datums.add_resource(resource("AD_TIFF", tmp_path.parent, tmp_path.name, **kwargs))
    for point in range(3):
        run.datums.add_datum(datum(point, point_number=point))
    assert_read([reference for n in range(3) for reference in run.of_datum(f"r/{n}")], files)


def test_a_handler_of_a_package_reads_cbf(tmp_path, files):
    for number, frame in enumerate(FRAMES):
        # The handler's files count from one.
        fabio.cbfimage.CbfImage(data=frame).write(str(tmp_path / f"cbf_{number + 1:05d}.cbf"))
    run = Run()
    kwargs = {"template": "%s%s_%5.5d.cbf", "filename": "cbf", "frame_per_point": 1, "initial_number": 1}
    run.datums.add_resource(resource("AD_CBF", "/", str(tmp_path).lstrip("/"), **kwargs))
    for point in range(6):
        run.datums.add_datum(datum(point, point_number=point))
    assert_read([reference for n in range(6) for reference in run.of_datum(f"r/{n}")], files)


def test_a_handler_of_the_beamline_and_its_faults(tmp_path):
    class Mine:
        def __init__(self, path, scale):
            self.path, self.scale = path, scale

        def __call__(self, which):
            return FRAMES[which] * self.scale

    files, run = FrameFiles(handlers={"MINE": Mine}), Run()
    run.datums.add_resource(resource("MINE", tmp_path, "x", scale=2))
    run.datums.add_datum(datum(0, which=1))
    run.datums.add_datum(datum(1, which=99))
    (good,), (bad,) = (run.of_datum(f"r/{n}") for n in range(2))
    np.testing.assert_array_equal(read(files, good), 2 * FRAMES[1])
    with pytest.raises(NotThereYetError, match=r"the handler of MINE for .* raised IndexError"):
        read(files, bad)
    other = Run()
    other.datums.add_resource(resource("NOBODYS", tmp_path, "x"))
    other.datums.add_datum(datum(0))
    with pytest.raises(FrameError, match="no handler reads resources of the spec 'NOBODYS'"):
        read(files, other.of_datum("r/0")[0])
    files.close()


def test_ophyds_own_simulated_detector_writes_npy(tmp_path, files):
    from ophyd.sim import SynSignalWithRegistry

    frames = iter(FRAMES)
    detector = SynSignalWithRegistry(
        func=lambda: next(frames), name="img", labels={"detectors"}, save_path=str(tmp_path)
    )
    RE, documents = RunEngine(), []
    RE.subscribe(lambda name, doc: documents.append((name, doc)))
    RE(bp.count([detector], 4))
    run, references = Run(), []
    for name, doc in documents:
        if name == "resource":
            run.datums.add_resource(doc)
        elif name == "datum":
            run.datums.add_datum(doc)
        elif name == "event":
            references += run.of_datum(doc["data"]["img"])
    found = np.stack([read(files, reference) for reference in references])
    assert any((found == FRAMES[first : first + 4]).all() for first in range(3))


def test_a_root_that_is_mounted_elsewhere(tmp_path, files):
    written(tmp_path, 1)
    run = Run(root_map={"/ioc/data": str(tmp_path)})
    run.datums.add_resource(resource("AD_HDF5", "/ioc", "data/ad.h5", frame_per_point=1))
    run.datums.add_datum(datum(0, point_number=0))
    run.add_file("file://localhost/ioc/data/ad.h5", dataset="entry/data/data")
    np.testing.assert_array_equal(read(files, run.of_datum("r/0")[0]), FRAMES[0])
    np.testing.assert_array_equal(read(files, run.announce(0, 6)[5]), FRAMES[5])
