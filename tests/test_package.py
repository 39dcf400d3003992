"""What is installed is what the folders hold: from a clone, from a source archive, and as it says of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import dvfb_stream

ROOT = Path(__file__).parents[1]
SOURCES = ("src", "dvfb_stream", "callbacks", "models", "profiles", "benchmarks/results")
NOT_INSTALLED = "dvfb_stream/results/"
"""Of the benchmarks' results, the product needs the tables alone."""


def built(folder, what, destination):
    """The one file that a build of a project's folder makes, without the network."""
    build = f"import setuptools.build_meta as backend; backend.build_{what}({str(destination)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = destination.iterdir()
    return made


def contents(wheel):
    """Names of the files of the package, and the version, in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    return names, wheel.name.split("-")[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project's folders as a clone has them, links as links."""
    folder = tmp_path_factory.mktemp("package") / "clone"
    leftovers = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for source in SOURCES:
        shutil.copytree(ROOT / source, folder / source, symlinks=True, ignore=leftovers)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    return built(clone, "wheel", tmp_path_factory.mktemp("wheel"))


def test_a_wheel_holds_each_module_and_data_file_and_nothing_else(clone, wheel):
    names, version = contents(wheel)
    here = {
        (Path(folder) / name).relative_to(clone / "src").as_posix()
        for folder, _, files in os.walk(clone / "src" / "dvfb_stream", followlinks=True)
        for name in files
    }
    not_installed = {name for name in here - names if name.startswith(NOT_INSTALLED) and "table-" not in name}
    assert names == here - not_installed
    assert version == dvfb_stream.__version__


def test_a_source_archive_makes_the_same_wheel(clone, wheel, tmp_path):
    archive = built(clone, "sdist", tmp_path / "archive")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("dvfb_stream-*")
    assert contents(built(unpacked, "wheel", tmp_path / "again")) == contents(wheel)


def test_nothing_but_the_package_is_importable(wheel):
    names, _ = contents(wheel)
    assert {name.split("/")[0] for name in names} == {"dvfb_stream"}
