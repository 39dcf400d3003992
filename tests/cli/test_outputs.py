"""What a command writes replaces what was there when it is whole, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dvfb_stream.atomic_output import is_stream, replaced
from dvfb_stream.cli.output_files import OutputFile
from dvfb_stream.errors import SettingsError

from .conftest import CENTRE


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "rows.csv"
    path.parent.mkdir()
    path.write_text("last night's\n")
    return path


@pytest.mark.parametrize("options", [("--model", "giant"), ("--mask", "no.npy"), ("--device", "cuda:77")])
def test_a_call_that_fails_leaves_the_old_rows(dvfb, files, old: Path, options) -> None:
    outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", *options, "--output", old)
    assert outcome.status == 1
    assert old.read_text() == "last night's\n"
    assert os.listdir(old.parent) == ["rows.csv"]


def test_an_interrupted_call_leaves_the_old_rows(
    files, old: Path, tiny_bundle: Path, hears_interrupts
) -> None:
    command = [sys.executable, "-c", "from dvfb_stream.cli import main; main()", "annotate"]
    command += [str(files["a.tif"])] * 20_000
    command += [*CENTRE, "--batch-size=1", f"--model={tiny_bundle}", f"--output={old}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts, env=environment
    ) as process:
        while process.poll() is None and not any(
            path.stat().st_size > 500 for path in old.parent.glob(".rows*")
        ):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "dvfb: error: interrupted\n")
    assert old.read_text() == "last night's\n"
    assert os.listdir(old.parent) == ["rows.csv"]


def test_rows_of_frames_that_failed_are_written_too(dvfb, files, old: Path) -> None:
    outcome = dvfb(
        "annotate",
        f"{files['stack.h5']}::/data",
        files["missing.tif"],
        *CENTRE,
        "--model",
        "tiny",
        "--output",
        old,
    )
    assert outcome.status == 1
    assert len(old.read_text().splitlines()) == 6


@pytest.mark.parametrize("name", ["rows.dat", "rows", "rows.csv.gz"])
def test_an_ending_that_names_no_form_is_refused(dvfb, files, tmp_path: Path, name: str) -> None:
    outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--output", tmp_path / name)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "must end in .json or .jsonl or .csv or .txt" in outcome.errors[0]
    assert not (tmp_path / name).exists()


def test_a_name_and_a_flag_that_differ_are_refused(dvfb, files, old: Path) -> None:
    outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--json", "--output", old)
    assert outcome.status == 2
    assert "names another form than --json" in outcome.errors[0]


def test_a_pipe_is_written_to_as_it_is(dvfb, files) -> None:
    outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--csv", "--output", "/dev/stdout")
    assert outcome.status == 0
    assert len(outcome.stdout.splitlines()) == 2


class TestReplaced:
    def test_mode_and_links_stay(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        (tmp_path / "old").chmod(0o640)
        (tmp_path / "link").symlink_to("old")
        with replaced(tmp_path / "link") as beside:
            beside.write_text("new")
            assert (tmp_path / "old").read_text() == "old"
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "old").read_text() == "new"
        assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640

    def test_a_new_file_has_the_mode_that_others_have(self, tmp_path: Path) -> None:
        (tmp_path / "other").touch()
        with replaced(tmp_path / "new") as beside:
            beside.write_text("new")
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_an_exception_leaves_everything(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")

        def interrupted() -> None:
            with replaced(tmp_path / "old") as beside:
                beside.write_text("new")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "old")]

    def test_owner_and_group_stay(self, tmp_path: Path) -> None:
        owner = (1000, 1234) if os.getuid() == 0 else (os.getuid(), os.getgroups()[-1])
        path = tmp_path / "rows.csv"
        path.touch()
        os.chown(path, *owner)
        with replaced(path) as beside:
            beside.write_text("new")
        assert (path.stat().st_uid, path.stat().st_gid) == owner


@pytest.mark.parametrize(
    ("name", "stream"),
    [("/dev/stdout", True), ("/dev/fd/1", True), ("/dev/null", True), ("/dev/shm/a.csv", False)],
)
def test_names_of_devices_are_streams_but_for_files_in_memory(name: str, stream: bool) -> None:
    assert is_stream(name) is stream


def test_a_descriptor_of_a_pipe_may_be_written_to() -> None:
    reading, writing = os.pipe()
    try:
        with OutputFile(Path(f"/dev/fd/{writing}"), option="--output", suffixes=(".csv",)).opened() as file:
            file.write("row\n")
        assert os.read(reading, 100) == b"row\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_link_into_a_folder_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").symlink_to(tmp_path / "gone" / "rows.csv")
    with pytest.raises(SettingsError, match=r"rows\.csv cannot be written"):
        OutputFile(tmp_path / "rows.csv", option="--output", suffixes=(".csv",))
