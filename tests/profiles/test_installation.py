"""The profile is put where its user may write, and what the user changed there is left alone."""

from __future__ import annotations

import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.profiles.installation import PACKAGED, install_profile


def test_all_start_up_files_are_copied_in_the_order_in_which_they_run(tmp_path):
    folder, kept = install_profile(tmp_path / "new" / "profile")
    packaged = sorted(file.name for file in (PACKAGED / "startup").glob("*.py"))
    assert sorted(file.name for file in (folder / "startup").iterdir()) == packaged
    assert [name[:2] for name in packaged] == ["10", "20", "30", "90"]
    assert kept == []


def test_an_edited_file_is_kept_and_named_and_a_removed_one_comes_back(tmp_path):
    folder, _ = install_profile(tmp_path)
    edited, removed = folder / "startup/10-devices.py", folder / "startup/90-welcome.py"
    edited.write_text("# ours\n")
    removed.unlink()
    assert install_profile(tmp_path) == (folder, [edited])
    assert edited.read_text() == "# ours\n"
    assert removed.exists()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert install_profile()[0] == tmp_path / ".dvfb/profile"


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file/profile cannot be written: Not a directory"):
        install_profile(tmp_path / "file" / "profile")
