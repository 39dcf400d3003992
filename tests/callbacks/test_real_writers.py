"""Documents and files as real detectors write them: every frame found, pixels equal to what lies in the file."""

from __future__ import annotations

import asyncio
import uuid

import fabio.cbfimage
import fabio.tifimage
import h5py
import numpy as np
import pytest
from area_detector_handlers.handlers import AreaDetectorHDF5Handler
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp

from dvfb_stream.callbacks.documents import DocumentError, NotKnownYetError
from dvfb_stream.callbacks.run_assets import RunAssets
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles


@pytest.fixture
def files():
    opened = FrameFiles()
    yield opened
    opened.close()


def of_each(frames):
    """Return where each frame lies, to be found out when it is read."""
    return [(frames, position) for position in range(len(frames))]


def announced(assets, doc, spec):
    return [reference for frames in assets.of_stream_datum(doc, spec) for reference in of_each(frames)]


def read(files, reference):
    frames, position = reference
    return files.read(frames[position], "run")


def of_stream_data(documents):
    """Return the references that the stream datums of a run announce, by data key."""
    assets, specs, found = RunAssets(), {}, {}
    for name, doc in documents:
        if name == "descriptor":
            specs |= doc["data_keys"]
        elif name == "stream_resource":
            assets.add_stream_resource(doc)
        elif name == "stream_datum":
            key = assets.data_key_of(doc)
            if len(specs[key]["shape"]) > 1:
                found.setdefault(key, []).extend(announced(assets, doc, specs[key]))
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
    """Documents of one stream resource and its datums, as references."""
    assets = RunAssets()
    assets.add_stream_resource(
        {"uid": "r", "data_key": "saxs", "uri": uri, "mimetype": mimetype, "parameters": parameters}
    )
    spec = {"shape": shape, "dtype": "array", "dtype_numpy": "<i4", "external": "STREAM:"}
    return [
        reference
        for start, stop in ranges
        for reference in announced(
            assets, {"stream_resource": "r", "indices": {"start": start, "stop": stop}}, spec
        )
    ]


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
    assets = RunAssets()
    assets.add_stream_resource(
        {"uid": "r", "data_key": "k", "uri": "file:///a", "mimetype": "application/x-hdf5", "parameters": {}}
    )
    with pytest.raises(DocumentError, match=message):
        list(assets.of_stream_datum({"stream_resource": "r", "indices": indices}, {"shape": (5, 7)}))
    with pytest.raises(DocumentError, match="is not known here"):
        assets.data_key_of({"stream_resource": "other"})


def test_a_second_file_of_a_data_key_goes_on_where_the_first_ended_or_begins_again(tmp_path, files):
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["d"] = FRAMES[3 * number : 3 * number + 3]
    spec = {"shape": (5, 7)}
    for second in ({"start": 3, "stop": 6}, {"start": 0, "stop": 3}):
        assets, references = RunAssets(), []
        for uid, indices in (("0", {"start": 0, "stop": 3}), ("1", second)):
            assets.add_stream_resource(
                {
                    "uid": uid,
                    "data_key": "saxs",
                    "uri": f"file://localhost{tmp_path}/{uid}.h5",
                    "mimetype": "application/x-hdf5",
                    "parameters": {"dataset": "d"},
                }
            )
            references += announced(assets, {"stream_resource": uid, "indices": indices}, spec)
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
    assets = RunAssets()
    # The last documents first: they may come in any order.
    references = [
        r for n in range(points) for r in of_each(assets.of_datum(f"r/{n}", {"shape": (each, 5, 7)}))
    ]
    with pytest.raises(NotThereYetError, match="the Datum document"):
        read(files, references[0])
    page = {
        "resource": "r",
        "datum_id": [f"r/{n}" for n in range(points)],
        "datum_kwargs": {"point_number": list(range(points))},
    }
    with pytest.raises(NotKnownYetError, match="the resource 'r'"):
        assets.old.add_datum_page(page)
    assets.old.add_resource(resource(spec, tmp_path, "ad.h5", frame_per_point=each))
    assets.old.add_datum_page(page)
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
    assets = RunAssets()
    kwargs = {"template": "%s%s_%6.6d.tiff", "filename": "ad", "frame_per_point": 2}
    assets.old.add_resource(resource("AD_TIFF", tmp_path.parent, tmp_path.name, **kwargs))
    for point in range(3):
        assets.old.add_datum(datum(point, point_number=point))
    assert_read(
        [r for n in range(3) for r in of_each(assets.of_datum(f"r/{n}", {"shape": (2, 5, 7)}))], files
    )


def test_a_handler_of_a_package_reads_cbf(tmp_path, files):
    for number, frame in enumerate(FRAMES):
        # The handler's files count from one.
        fabio.cbfimage.CbfImage(data=frame).write(str(tmp_path / f"cbf_{number + 1:05d}.cbf"))
    assets = RunAssets()
    kwargs = {"template": "%s%s_%5.5d.cbf", "filename": "cbf", "frame_per_point": 1, "initial_number": 1}
    assets.old.add_resource(resource("AD_CBF", "/", str(tmp_path).lstrip("/"), **kwargs))
    for point in range(6):
        assets.old.add_datum(datum(point, point_number=point))
    references = [r for n in range(6) for r in of_each(assets.of_datum(f"r/{n}", {"shape": (5, 7)}))]
    assert_read(references, files)


def test_a_handler_of_the_beamline_and_its_faults(tmp_path):
    class Mine:
        def __init__(self, path, scale):
            self.path, self.scale = path, scale

        def __call__(self, which):
            return FRAMES[which] * self.scale

    files, assets = FrameFiles(handlers={"MINE": Mine}), RunAssets()
    assets.old.add_resource(resource("MINE", tmp_path, "x", scale=2))
    assets.old.add_datum(datum(0, which=1))
    assets.old.add_datum(datum(1, which=99))
    (good,), (bad,) = (of_each(assets.of_datum(f"r/{n}", {"shape": (5, 7)})) for n in range(2))
    np.testing.assert_array_equal(read(files, good), 2 * FRAMES[1])
    with pytest.raises(NotThereYetError, match=r"the handler of MINE for .* raised IndexError"):
        read(files, bad)
    other = RunAssets()
    other.old.add_resource(resource("NOBODYS", tmp_path, "x"))
    other.old.add_datum(datum(0))
    with pytest.raises(FrameError, match="no handler reads resources of the spec 'NOBODYS'"):
        files.read(other.of_datum("r/0", {"shape": (5, 7)})[0], "run")
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
    assets, references = RunAssets(), []
    for name, doc in documents:
        if name == "resource":
            assets.old.add_resource(doc)
        elif name == "datum":
            assets.old.add_datum(doc)
        elif name == "event":
            references += of_each(assets.of_datum(doc["data"]["img"], {"shape": (5, 7)}))
    found = np.stack([read(files, reference) for reference in references])
    assert any((found == FRAMES[first : first + 4]).all() for first in range(3))


def test_a_root_that_is_mounted_elsewhere(tmp_path, files):
    written(tmp_path, 1)
    assets = RunAssets(root_map={"/ioc/data": str(tmp_path)})
    assets.old.add_resource(resource("AD_HDF5", "/ioc", "data/ad.h5", frame_per_point=1))
    assets.old.add_datum(datum(0, point_number=0))
    np.testing.assert_array_equal(files.read(assets.of_datum("r/0", {"shape": (5, 7)})[0], "run"), FRAMES[0])
    assets.add_stream_resource(
        {
            "uid": str(uuid.uuid4()),
            "data_key": "k",
            "uri": "file://localhost/ioc/data/ad.h5",
            "mimetype": "application/x-hdf5",
            "parameters": {"dataset": "entry/data/data"},
        }
    )
    (uid,) = assets._sequences
    (reference,) = announced(
        assets, {"stream_resource": uid, "indices": {"start": 5, "stop": 6}}, {"shape": (5, 7)}
    )
    np.testing.assert_array_equal(read(files, reference), FRAMES[5])
