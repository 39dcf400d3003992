"""Documents of before event-model 1.21, and of old versions of ophyd: their frames have rows."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from dvfb_stream.callbacks.document_fields import DocumentError
from dvfb_stream.callbacks.old_documents import paths_of, stream_resource_of_today
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.frames import Geometry

PIXELS = np.arange(3 * 30 * 48, dtype=np.uint16).reshape(3, 30, 48) % 97
GEOMETRY = Geometry(shape=(30, 48), center_x=20.0, center_y=15.0)


@pytest.fixture
def rows(make_pipeline, recorder):
    def rows_of(*documents):
        pipeline = make_pipeline(files=FrameFiles(), detectors={"image": GEOMETRY}, patience=0.5)
        for name, doc in documents:
            pipeline(name, doc)
        assert pipeline.wait(30)
        assert pipeline.stats().rejected_documents == 0
        return recorder.rows()

    return rows_of


@pytest.fixture
def hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"] = PIXELS
    return tmp_path


def assert_all_annotated(found, pixels=PIXELS):
    assert [(row["frame"], row["status"], row["reason"]) for row in found] == [
        (number, "ok", "") for number in range(len(pixels))
    ]
    np.testing.assert_allclose([row["rings"] for row in found], pixels.mean((1, 2)) / 100)


def in_events(raw, resource, **described):
    """Documents of a run with one datum an event."""
    events = [raw.event(image=f"r/{point}", filled={"image": False}) for point in range(len(PIXELS))]
    datums = [
        ("datum", {"datum_id": f"r/{point}", "resource": "r", "datum_kwargs": {"point_number": point}})
        for point in range(len(PIXELS))
    ]
    return [("resource", {"uid": "r", **resource}), *datums, *events]


@pytest.mark.parametrize("shape", [[48, 30, 0], [1, 30, 48], [30, 48]])
def test_columns_rows_and_a_zero_are_one_frame_an_event(rows, raw_documents, hdf5, shape):
    raw = raw_documents()
    opening = [raw.start(), raw.descriptor(shape=shape, external="FILESTORE:")]
    resource = {
        "spec": "AD_HDF5", "root": "/", "resource_path": f"{hdf5}/a.h5".lstrip("/"),
        "resource_kwargs": {"frame_per_point": 1}, "path_semantics": "posix", "run_start": raw.uid,
    }  # fmt: skip
    assert_all_annotated(found := rows(*opening, *in_events(raw, resource), raw.stop()))
    assert {row["remark"] for row in found} == {""}


@pytest.mark.parametrize(
    "lacking",
    [("run_start",), ("path_semantics",), ("run_start", "path_semantics", "resource_kwargs"), ("root",)],
)
@pytest.mark.parametrize("root", ["", "/", None, "folder"])
def test_resources_that_lack_what_later_versions_have(rows, raw_documents, hdf5, lacking, root):
    raw = raw_documents()
    opening = [raw.start(), raw.descriptor(shape=[30, 48], external="FILESTORE:")]
    path = {"folder": "a.h5", "/": f"{hdf5}/a.h5".lstrip("/")}.get(root or "", f"{hdf5}/a.h5")
    if "root" in lacking:
        path = f"{hdf5}/a.h5"
    whole = {
        "spec": "AD_HDF5", "root": str(hdf5) if root == "folder" else root, "resource_path": path,
        "resource_kwargs": {"frame_per_point": 1}, "path_semantics": "posix", "run_start": raw.uid,
    }  # fmt: skip
    resource = {name: value for name, value in whole.items() if name not in lacking}
    assert_all_annotated(rows(*opening, *in_events(raw, resource), raw.stop()))


def stream(raw, resource):
    ranges = {"indices": {"start": 0, "stop": 3}, "seq_nums": {"start": 1, "stop": 4}}
    start, (_, descriptor) = raw.start(), raw.descriptor(shape=[1, 30, 48], external="STREAM:")
    datum = {"uid": "r/0", "stream_resource": "r", "descriptor": descriptor["uid"], **ranges}
    resource = {"uid": "r", "data_key": "image", **resource}
    return start, ("descriptor", descriptor), ("stream_resource", resource), ("stream_datum", datum)


@pytest.mark.parametrize("dataset", [{"path": "/entry/data/data"}, {"dataset": "entry/data/data"}, {}])
@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR_STREAM"])
def test_stream_resources_with_a_spec_and_a_path(rows, raw_documents, hdf5, dataset, spec):
    raw = raw_documents()
    resource = {
        "spec": spec, "root": str(hdf5.parent), "resource_path": f"{hdf5.name}/a.h5",
        "resource_kwargs": {**dataset, "frame_per_point": 1}, "run_start": raw.uid, "path_semantics": "posix",
    }  # fmt: skip
    assert_all_annotated(rows(*stream(raw, resource), raw.stop()))


def test_stream_resources_of_tiffs_with_a_spec_and_a_path(rows, raw_documents, tmp_path):
    for number, image in enumerate(PIXELS):
        tifffile.imwrite(tmp_path / f"scan_{number:06d}.tiff", image)
    raw = raw_documents()
    resource = {
        "spec": "AD_TIFF", "root": "/", "resource_path": str(tmp_path).lstrip("/"), "run_start": raw.uid,
        "resource_kwargs": {"template": "%s%s_%6.6d.tiff", "filename": "scan", "frame_per_point": 1},
    }  # fmt: skip
    assert_all_annotated(rows(*stream(raw, resource), raw.stop()))


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_resource_that_does_not_say_of_which_run_it_is(rows, raw_documents, hdf5, late):
    raw, other = raw_documents(), raw_documents()
    resource = {
        "mimetype": "application/x-hdf5", "uri": f"file://localhost{hdf5}/a.h5",
        "parameters": {"dataset": "entry/data/data"},
    }  # fmt: skip
    start, descriptor, stream_resource, datum = stream(raw, resource)
    frames = (datum, stream_resource) if late else (stream_resource, datum)
    assert_all_annotated(rows(other.start(), start, descriptor, *frames, raw.stop(), other.stop()))


def test_paths_of_windows_are_known_by_their_drive():
    assert paths_of({"root": "C:\\data", "resource_path": "a.h5"}) == ("C:\\data", "a.h5", True)
    assert paths_of({"resource_path": "D:/data/a.h5"})[2]
    assert not paths_of({"root": "C:/data", "resource_path": "a.h5", "path_semantics": "posix"})[2]
    today = stream_resource_of_today({"spec": "AD_HDF5", "root": "C:\\data", "resource_path": "b c\\a.h5"})
    assert today["uri"] == "file://localhost/C:/data/b%20c/a.h5"


@pytest.mark.parametrize(
    "changed", [{"root": 7}, {"resource_path": None}, {"spec": None}, {"resource_kwargs": [1]}]
)
def test_old_stream_resources_that_are_malformed_are_refused(changed):
    whole = {"spec": "AD_HDF5", "root": "/", "resource_path": "a.h5", "resource_kwargs": {}}
    with pytest.raises(DocumentError):
        stream_resource_of_today(whole | changed)
