"""Which paths are allowed, however they are written and wherever they lead."""

from __future__ import annotations

import os

import numpy as np
import pytest

from dvfb_stream.callbacks.resources import Datums, StreamResource
from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import ANYTHING

REFUSED = "lies in no folder that allowed_roots"


@pytest.fixture
def folder(tmp_path):
    """A root, with a frame in it; beside it another one, and a folder whose name begins like the root's."""
    for name in ("data", "data-private", "elsewhere"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.ones((4, 5), np.uint16))
    return tmp_path / "data"


@pytest.mark.parametrize(
    "path",
    ["a.npy", "", "./a.npy", "below/../a.npy", "nothing", "below/nothing", "//a.npy", "a\\npy", "é.npy"],
)
def test_what_lies_below_a_root_is_allowed_whether_it_is_there_or_not(folder, path):
    assert AllowedRoots([str(folder)]).permits(f"{folder}/{path}")
    assert AllowedRoots([f"{folder}/"]).permits(f"/{folder}/{path}")


@pytest.mark.parametrize(
    "path",
    [
        "../elsewhere/a.npy",
        "../data-private/a.npy",
        "..",
        "../..",
        "below/../../elsewhere",
        "../nothing",
        "a\0.npy",
    ],
)
def test_what_lies_elsewhere_is_not(folder, path):
    assert not AllowedRoots([str(folder)]).permits(f"{folder}/{path}")


@pytest.mark.parametrize(
    "path", ["a.npy", "data/a.npy", "", ".", "~/a.npy", "/", "/etc/shadow", "file:///etc/shadow"]
)
def test_what_starts_from_nowhere_or_the_root_of_all_is_not(folder, path, monkeypatch):
    monkeypatch.chdir(folder)
    assert not AllowedRoots([str(folder)]).permits(path)


def test_links_count_by_where_they_lead(folder):
    (folder / "out").symlink_to(folder.parent / "elsewhere")
    (folder / "in").symlink_to(folder / "a.npy")
    (folder / "round").symlink_to(folder / "round")
    (folder.parent / "root").symlink_to(folder)
    allowed = AllowedRoots([str(folder)])
    assert allowed.permits(f"{folder}/in")
    assert not allowed.permits(f"{folder}/out/a.npy")
    assert not allowed.permits(f"{folder}/out/nothing")
    assert not allowed.permits(f"{folder.parent}/root/a.npy")  # as it is written, it lies elsewhere
    assert AllowedRoots([f"{folder.parent}/root"]).permits(f"{folder}/a.npy")
    allowed.permits(f"{folder}/round")  # ends


def test_of_nothing_that_is_refused_is_looked_whether_it_is_there(folder, monkeypatch):
    """The system is not asked: what it answers, and how soon, would tell."""
    looked = []
    for name in ("stat", "lstat", "readlink"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *a, real=real, **k: looked.append(str(path)) or real(path, *a, **k)
        )
    allowed = AllowedRoots([str(folder)])
    for path in ("/etc/shadow", "/etc/nothing/x", f"{folder}/../elsewhere/a.npy"):
        with pytest.raises(FrameError, match=REFUSED):
            allowed.regular_file(path)
    assert not [path for path in looked if "etc" in path or "elsewhere" in path]


def test_what_was_opened_is_looked_at_again(folder):
    """Between the look at a path and opening it somebody may have changed a link."""
    allowed = AllowedRoots([str(folder)])
    with open(folder.parent / "elsewhere" / "a.npy", "rb") as opened:
        with pytest.raises(FrameError, match=REFUSED):
            allowed.check_opened(opened.fileno(), f"{folder}/a.npy")
        EVERYWHERE.check_opened(opened.fileno(), f"{folder}/a.npy")
    with open(folder / "a.npy", "rb") as opened:
        allowed.check_opened(opened.fileno(), f"{folder}/a.npy")
        (folder / "a.npy").unlink()
        allowed.check_opened(opened.fileno(), f"{folder}/a.npy")
    descriptor = os.open(folder, os.O_RDONLY)
    with pytest.raises(FrameError, match="is a directory"):
        allowed.check_opened(descriptor, str(folder))
    os.close(descriptor)


def test_without_a_root_nothing_is_allowed_and_the_message_says_which_setting_to_add(folder):
    with pytest.raises(FrameError, match=r"add allowed_roots in \[files\] of the configuration"):
        AllowedRoots([]).regular_file(f"{folder}/a.npy")


@pytest.mark.parametrize(
    "uri",
    [
        "file://localhost{outside}",
        "file://{outside}",
        "file://localhost{root}/../elsewhere/a.npy",
        "file://localhost{root}/%2e%2e/elsewhere/a.npy",
        "file://localhost{root}/%2e%2e%2felsewhere%2fa.npy",
        "file://localhost//{outside}",
        "file://localhost{root}/a.npy%00",
        "file://attacker.example{root}/a.npy",
        "file://user@localhost{root}/a.npy",
        "http://localhost{root}/a.npy",
        "FTP://localhost{root}/a.npy",
        "{root}/a.npy",
        "file:{outside}?x",
        "file://localhost/ioc/../../elsewhere/a.npy",
        "file://localhost/ioc/..%2f..%2felsewhere/a.npy",
        "file://localhost/C:/data/../../elsewhere/a.npy",
    ],
)
def test_no_address_of_a_stream_resource_leads_out_of_the_roots(folder, uri):
    resource = StreamResource(
        data_key="image",
        uri=uri.format(root=folder, outside=folder.parent / "elsewhere" / "a.npy"),
        mimetype="multipart/related;type=application/x-npy",
        parameters={},
        root_map={"/ioc": f"{folder}/ioc", "C:/data": f"{folder}/below"},
    )
    files = FrameFiles(allowed=AllowedRoots([str(folder)]))
    with pytest.raises(FrameError) as refused:
        files.read(resource.frame(0, 1, ANYTHING), "run")
    assert not isinstance(refused.value, NotThereYetError)


@pytest.mark.parametrize(
    ("spec", "path", "kwargs", "datum"),
    [
        ("AD_TIFF", "", {"template": "%s%s_%06d.npy", "filename": "../elsewhere/a"}, {"point_number": 0}),
        ("AD_TIFF", "", {"template": "/etc/shadow%d", "filename": ""}, {"point_number": 0}),
        ("AD_HDF5", "../elsewhere/a.npy", {}, {"point_number": 0}),
        ("AD_HDF5_SINGLE", "", {"template": "%s../elsewhere/%s%d", "filename": "a.npy"}, {"point_number": 0}),
        ("NPY_SEQ", "../elsewhere/a", {}, {"index": 0}),
        ("AD_EIGER2", "../elsewhere/a", {"images_per_file": 1}, {"seq_id": 1}),
    ],
)
def test_no_resource_leads_out_of_the_roots(folder, spec, path, kwargs, datum):
    datums = Datums()
    datums.add_resource(
        {
            "uid": "r",
            "spec": spec,
            "root": str(folder),
            "resource_path": path or ".",
            "resource_kwargs": kwargs,
        }
    )
    datums.add_datum({"datum_id": "d", "resource": "r", "datum_kwargs": datum})
    files = FrameFiles(allowed=AllowedRoots([str(folder)]))
    with pytest.raises(FrameError, match=REFUSED):
        files.read(datums.frames("d", 1, ANYTHING)[0], "run")
