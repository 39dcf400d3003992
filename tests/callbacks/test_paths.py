"""Folders that are mounted elsewhere, compared folder by folder and not letter by letter."""

from __future__ import annotations

import pytest

from dvfb_stream.callbacks.paths import located, path_of
from dvfb_stream.errors import FrameError


@pytest.mark.parametrize(
    ("uri", "root_map", "expected"),
    [
        ("file://localhost/ioc/data/a.h5", {}, "/ioc/data/a.h5"),
        ("file:///ioc/data/a%20b.h5", {}, "/ioc/data/a b.h5"),
        ("file://localhost/ioc/data/a.h5", {"/ioc/data": "/mnt/x"}, "/mnt/x/a.h5"),
        ("file://localhost/ioc/data/a.h5", {"/ioc/data/": "/mnt/x/"}, "/mnt/x/a.h5"),
        ("file://localhost/ioc/database/a.h5", {"/ioc/data": "/mnt/x"}, "/ioc/database/a.h5"),
        ("file://localhost/ioc/my%20scans/a.h5", {"/ioc/my scans": "/mnt/x"}, "/mnt/x/a.h5"),
        ("file://localhost/ioc/data/a.h5", {"/ioc/data": "/mnt/50%25#1"}, "/mnt/50%25#1/a.h5"),
        ("file://localhost/ioc/data/", {"/ioc": "/mnt/x"}, "/mnt/x/data/"),
        ("file://localhost/ioc/", {"/ioc": "/mnt/x"}, "/mnt/x/"),
        ("file://localhost/C:/data/a.h5", {"C:\\data": "/mnt/x"}, "/mnt/x/a.h5"),
    ],
)
def test_an_address_names_a_file_here(uri, root_map, expected):
    assert path_of(uri, root_map) == expected


@pytest.mark.parametrize("uri", ["https://elsewhere/a.h5", "file://other-host/a.h5", "file://localhost", ""])
def test_other_addresses_are_refused(uri):
    with pytest.raises(FrameError, match="only files are"):
        path_of(uri)


@pytest.mark.parametrize(
    ("root", "path", "is_windows", "root_map", "expected"),
    [
        ("/ioc", "data/a.h5", False, {"/ioc/data": "/mnt/x"}, "/mnt/x/a.h5"),
        ("/ioc", "database/a.h5", False, {"/ioc/data": "/mnt/x"}, "/ioc/database/a.h5"),
        ("", "data/a.h5", False, {}, "/data/a.h5"),
        ("C:\\data", "scan\\a.h5", True, {"C:\\data": "/mnt/x"}, "/mnt/x/scan/a.h5"),
        ("C:\\", "Data\\scan\\a.h5", True, {"c:/data": "/mnt/x"}, "/mnt/x/scan/a.h5"),
        ("C:\\data", "a.h5", True, {}, "C:/data/a.h5"),
    ],
)
def test_a_resource_s_root_may_be_mounted_elsewhere(root, path, is_windows, root_map, expected):
    assert located(root, path, root_map, is_windows=is_windows) == expected
