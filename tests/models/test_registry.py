"""Where bundles are found, and which wins where several have one name."""

import shutil
from pathlib import Path

import pytest

import dvfb_stream.models
from dvfb_stream.errors import BundleError
from dvfb_stream.models import find_bundle
from dvfb_stream.models.registry import all_bundle_folders, bundle_folders, user_folder


@pytest.fixture
def shelves(tiny_bundle, tmp_path, monkeypatch):
    """A bundle of one name in DVFB_MODELS and in the user's folder, and one of its own in each."""
    folders = {"extra": tmp_path / "extra", "user": tmp_path / "data" / "dvfb_stream" / "models"}
    for which, shelf in folders.items():
        for name in ("same", which):
            shutil.copytree(tiny_bundle, shelf / name)
    monkeypatch.setenv("DVFB_MODELS", str(folders["extra"]))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folders


def test_the_named_folder_comes_before_the_users_and_the_users_before_the_package(shelves, tiny_bundle):
    assert find_bundle("same") == shelves["extra"] / "same"
    assert find_bundle("user") == shelves["user"] / "user"
    shutil.copytree(tiny_bundle, shelves["user"] / "default")
    assert find_bundle("default") == shelves["user"] / "default"


def test_what_is_hidden_is_listed_after_what_hides_it(shelves):
    assert [folder for name, folder in all_bundle_folders() if name == "same"] == [
        shelves["extra"] / "same",
        shelves["user"] / "same",
    ]
    assert [folder for name, folder in bundle_folders() if name == "same"] == [shelves["extra"] / "same"]


def test_a_folder_wins_over_a_name(shelves, monkeypatch):
    monkeypatch.chdir(shelves["user"])
    assert find_bundle("same").resolve() == shelves["user"] / "same"


def test_the_users_folder_is_where_the_platform_keeps_data(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() == tmp_path / ".local" / "share" / "dvfb_stream" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    assert user_folder() == tmp_path / ".local" / "share" / "dvfb_stream" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_folder() == tmp_path / "data" / "dvfb_stream" / "models"


def test_shelves_that_are_not_there_or_hold_other_things_are_passed_over(monkeypatch, tmp_path):
    (tmp_path / "notes.txt").write_text("no bundle")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DVFB_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "absent"))
    assert find_bundle("default") == Path(dvfb_stream.models.__file__).parent / "bundles" / "default"
    with pytest.raises(BundleError, match=r"no model 'empty'.*default"):
        find_bundle("empty")
