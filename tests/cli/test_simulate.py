"""``dvfb simulate``: what it writes is what the simulator makes, however often it is interrupted."""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401 - lets h5py read the pixels
import numpy as np
import pytest

from dvfb_stream.cli.simulate.dataset import DatasetWriter
from dvfb_stream.cli.simulate.layout import masked_in
from dvfb_stream.cli.simulate.parts import PartsFolder
from dvfb_stream.files import read_mask
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from tests import forked_processes

SMALL = """
size = 40
frames_per_experiment = 30
detectors = {ccd = 0.5, pilatus_1m = 0.5}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_dataset_holds_what_the_simulator_makes(dvfb, tmp_path, small):
    path = tmp_path / "frames.h5"
    outcome = simulate(dvfb, path, small, count=70, seed=5)
    assert outcome.status == 0
    assert "wrote" in outcome.stdout
    chosen = SimulationSettings(size=40, frames_per_experiment=30, detectors={"ccd": 0.5, "pilatus_1m": 0.5})
    frames = list(Simulator(5, settings=chosen).frames(0, 70))
    with h5py.File(path) as file:
        assert file.attrs["count"] == 70
        assert file.attrs["seed"] == "5"
        assert json.loads(file.attrs["settings"])["size"] == 40
        assert file[file.attrs["default"]]["data"].attrs["signal"] == "pixels"
        assert list(file["entry/labels"].attrs["names"]) == list(LABELS)
        assert list(file["entry/further_labels"].attrs["names"]) == list(FURTHER_LABELS)
        experiments = file["entry/experiments"]
        assert list(experiments["number"]) == [0, 1, 2]
        for index, frame in enumerate(frames):
            np.testing.assert_array_equal(file["entry/data/pixels"][index], frame.pixels)
            shown = [name for name, yes in zip(LABELS, file["entry/labels"][index], strict=True) if yes]
            assert tuple(shown) == frame.labels
            further = zip(FURTHER_LABELS, file["entry/further_labels"][index], strict=True)
            assert tuple(name for name, yes in further if yes) == frame.further_labels
            assert json.loads(file["entry/components"][index]) == list(frame.components)
            row = file["entry/experiment_of_frame"][index]
            assert experiments["center_x"][row] == frame.geometry.center_x
            assert experiments["center_y"][row] == frame.geometry.center_y
            valid = np.ones((40, 40), bool) if frame.geometry.mask is None else frame.geometry.mask
            np.testing.assert_array_equal(experiments["masked"][row] == 0, valid)
            assert json.loads(experiments["description"][row]) == frame.experiment
    assert not path.with_name("frames.h5.parts").exists()


def test_the_masks_are_read_without_plugins_and_by_the_reader_of_masks(dvfb, tmp_path):
    path = tmp_path / "frames.h5"
    settings = tmp_path / "gaps.toml"
    settings.write_text("size = 64\n[detectors]\npilatus_1m = 1.0\n")
    simulate(dvfb, path, settings, count=1, seed=5)
    masked = f"{path}::/entry/experiments/masked"
    without = "import h5py, sys; print(int(h5py.File(sys.argv[1])['entry/experiments/masked'][()].sum()))"
    plain = subprocess.run([sys.executable, "-c", without, path], capture_output=True, text=True, check=True)
    (frame,) = Simulator(
        5, settings=SimulationSettings(size=64, detectors={"pilatus_1m": 1.0})
    ).frames(0, 1)  # fmt: skip
    np.testing.assert_array_equal(read_mask(masked), frame.geometry.mask)
    assert int(plain.stdout) == np.count_nonzero(~frame.geometry.mask) > 0


def words_for(path, small, *, count, seed=2):
    return [
        *("simulate", "--count", str(count), "--seed", str(seed), "--device", "cpu"),
        *("--out", str(path), "--settings", str(small), "--json"),
    ]


def command(*arguments, **settings):
    program = [sys.executable, "-c", "from dvfb_stream.cli import main; main()"]
    return [*program, *words_for(*arguments, **settings)]


def ends_or(process, condition):
    """Wait until a process has ended or a condition holds."""
    while not condition():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            return


def test_killed_at_any_moment_and_called_again_it_ends_with_the_same_bytes(dvfb, tmp_path, small):
    path, parts = tmp_path / "broken.h5", tmp_path / "broken.h5.parts"
    kept = 0
    for wanted in (1, 2):
        process = forked_processes.dvfb(*words_for(path, small, count=800), stdout=tmp_path / "said")
        ends_or(process, lambda wanted=wanted: len(list(parts.glob("*-*.h5"))) >= wanted)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not path.exists()
        assert len(list(parts.glob("*-*.h5"))) >= max(wanted, kept)
        kept = len(list(parts.glob("*-*.h5")))
    (facts,) = simulate(dvfb, path, small, "--json", count=800, seed=2).rows
    assert facts["resumed_from"] >= 256 * 2
    assert not parts.exists()
    assert simulate(dvfb, tmp_path / "whole.h5", small, count=800, seed=2).status == 0
    assert digest(path) == digest(tmp_path / "whole.h5")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A dataset of two parts, and the folder of the parts as it is just before they are joined."""
    path = tmp_path_factory.mktemp("begun") / "frames.h5"
    chosen = SimulationSettings(size=40, frames_per_experiment=30, detectors={"ccd": 0.5, "pilatus_1m": 0.5})
    writer = DatasetWriter(path, Simulator(1, settings=chosen), 300)
    kept = path.with_name("kept.parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartsFolder, "discard", lambda folder: shutil.copytree(folder.path, kept))
        writer.write(lambda frames: None)
    return path, kept


def resume(dvfb, begun, tmp_path, small):
    outcome = simulate(dvfb, tmp_path / "frames.h5", small, "--json", count=300)
    assert outcome.status == 0
    assert digest(tmp_path / "frames.h5") == digest(begun[0])
    assert not (tmp_path / "frames.h5.parts").exists()
    return outcome.rows[0]["resumed_from"]


@pytest.mark.parametrize("where", [0.01, 0.3, 0.6, 0.99, 1.0])
def test_a_part_with_one_wrong_bit_is_made_again(dvfb, begun, tmp_path, small, where):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    part = tmp_path / "frames.h5.parts" / "000000000000-000000000256.h5"
    content = bytearray(part.read_bytes())
    content[int(where * (len(content) - 1))] ^= 16
    part.write_bytes(content)
    assert resume(dvfb, begun, tmp_path, small) == 300 - 256


def test_a_part_that_ends_too_early_is_made_again(dvfb, begun, tmp_path, small):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    parts = sorted((tmp_path / "frames.h5.parts").glob("*-*.h5"))
    os.truncate(parts[0], 1000)
    os.truncate(parts[1], 0)
    assert resume(dvfb, begun, tmp_path, small) == 0


def test_killed_while_parts_are_joined_it_joins_them_again(dvfb, begun, tmp_path, small):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    (tmp_path / "frames.h5.parts" / "unfinished").write_bytes(begun[0].read_bytes()[:3000])
    assert resume(dvfb, begun, tmp_path, small) == 300


def test_killed_before_the_parts_are_deleted_it_deletes_them(dvfb, begun, tmp_path, small):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    shutil.copy(begun[0], tmp_path / "frames.h5")
    assert resume(dvfb, begun, tmp_path, small) == 300


def test_a_full_disk_is_said_in_one_line_and_loses_nothing(dvfb, begun, tmp_path, small):
    path = tmp_path / "frames.h5"
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    largest = max(part.stat().st_size for part in begun[1].iterdir())
    words = command(path, small, count=300, seed=1)
    # Files may be as large as a part, not as the dataset; the shell counts 1024 bytes each.
    limited = f"ulimit -f {-(-largest // 1024)}; exec {shlex.join(words)}"
    refused = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"dvfb: error: {path} cannot be written: File too large; what is done is kept in")
    assert not path.exists()
    assert resume(dvfb, begun, tmp_path, small) == 300


def test_interrupted_by_hand_it_says_what_is_kept(tmp_path, small, hears_interrupts):
    words = command(tmp_path / "frames.h5", small, count=100_000)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, preexec_fn=hears_interrupts)
    ends_or(process, lambda: list((tmp_path / "frames.h5.parts").glob("*-*.h5")))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode().splitlines()
    assert process.returncode == 130
    assert said[0].startswith("what is done is kept in ")
    assert said[1:] == ["dvfb: error: interrupted"]


def simulate(dvfb, path, small, *more, count=20, seed=1):
    return dvfb(
        *("simulate", "--count", str(count), "--seed", str(seed), "--out", str(path)),
        *("--settings", str(small), "--device", "cpu", *more),
    )


def test_a_finished_dataset_is_left_alone(dvfb, tmp_path, small):
    path = tmp_path / "frames.h5"
    simulate(dvfb, path, small)
    before = digest(path), os.stat(path).st_mtime_ns
    again = simulate(dvfb, path, small)
    assert again.status == 0
    assert "is complete: 20 frames" in again.stdout
    for other, difference in (
        ({"seed": 2}, "seed 1 instead of 2"),
        ({"count": 30}, "20 frames instead of 30"),
    ):
        refused = simulate(dvfb, path, small, **other)
        assert refused.status == 1
        (line,) = refused.errors
        assert difference in line
        assert "give another name or delete it" in line
    assert (digest(path), os.stat(path).st_mtime_ns) == before


def test_a_file_that_is_no_dataset_is_never_overwritten(dvfb, tmp_path, small):
    path = tmp_path / "thesis.h5"
    path.write_text("ten years of work")
    refused = simulate(dvfb, path, small)
    assert refused.status == 1
    assert "is no dataset of simulated frames; give another name" in refused.errors[0]
    assert path.read_text() == "ten years of work"


def test_parts_of_another_dataset_are_refused(dvfb, begun, tmp_path, small):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    refused = simulate(dvfb, tmp_path / "frames.h5", small, seed=9)
    assert refused.status == 1
    (line,) = refused.errors
    assert "parts of another dataset (seed 1 instead of 9)" in line
    assert "or delete the folder" in line
    assert len(list((tmp_path / "frames.h5.parts").glob("*-*.h5"))) == 2


def test_parts_of_another_state_of_the_simulator_are_refused(dvfb, begun, tmp_path, small, monkeypatch):
    shutil.copytree(begun[1], tmp_path / "frames.h5.parts")
    monkeypatch.setattr("dvfb_stream.simulation.identity._simulator_code", lambda: "edited since")
    refused = simulate(dvfb, tmp_path / "frames.h5", small, count=300)
    assert refused.status == 1
    assert "instead of 'edited since'" in refused.errors[0]


def test_two_processes_do_not_write_one_dataset(dvfb, tmp_path, small):
    parts = tmp_path / "frames.h5.parts"
    parts.mkdir()
    with (parts / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = simulate(dvfb, tmp_path / "frames.h5", small)
    assert refused.status == 1
    assert "another process is simulating" in refused.errors[0]


def test_a_folder_that_is_not_there_is_said_before_the_work(dvfb, tmp_path, small):
    refused = simulate(dvfb, tmp_path / "nowhere" / "frames.h5", small)
    assert refused.status == 1
    assert "cannot be written" in refused.errors[0]


def test_a_folder_is_no_name_of_a_dataset(dvfb, tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", tmp_path):
        refused = simulate(dvfb, path, small)
        assert refused.status == 1
        assert refused.errors == [f"output {path} is a directory; give the name of a file"]


def test_a_file_in_the_place_of_the_parts_is_left_alone(dvfb, tmp_path, small):
    (tmp_path / "frames.h5.parts").write_text("mine")
    refused = simulate(dvfb, tmp_path / "frames.h5", small)
    assert refused.status == 1
    assert "frames.h5 cannot be written: File exists" in refused.errors[0]
    assert (tmp_path / "frames.h5.parts").read_text() == "mine"


def test_detector_frames_of_one_detector_are_its_counts(dvfb, tmp_path):
    path = tmp_path / "pilatus.h5"
    outcome = dvfb(
        *(
            "simulate",
            "--count",
            "2",
            "--out",
            str(path),
            "--raster",
            "detector",
            "--detector",
            "pilatus_300k",
            "--json",
        )
    )
    (facts,) = outcome.rows
    assert facts["count"] == 2
    assert facts["resumed_from"] == 0
    assert facts["frames_per_second"] > 0
    assert tuple(facts["ratios"]) == ALL_LABELS
    with h5py.File(path) as file:
        assert file["entry/data/pixels"].shape == (2, 619, 487)
        assert file["entry/data/pixels"].dtype == np.int32


def test_detectors_of_several_shapes_do_not_go_into_one_dataset(dvfb, tmp_path):
    refused = dvfb("simulate", "--raster", "detector", "--out", str(tmp_path / "frames.h5"))
    assert refused.status == 1
    assert "1024 x 1024" in refused.errors[0]
    assert "choose one detector" in refused.errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to do: give --out"),
        (["--count", "0"], "--count"),
        (["--seed", "-1"], "--seed"),
        (["--raster", "polar"], "raster must be 'view' or 'detector', not 'polar'"),
        (["--detector", "pilatus1m"], "did you mean pilatus_1m?"),
    ],
)
def test_wrong_calls_are_refused(dvfb, tmp_path, words, message):
    where = ["--out", str(tmp_path / "frames.h5")] if words else []
    refused = dvfb("simulate", *where, *words)
    assert refused.status == 2
    assert message in refused.errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = ", "are not TOML"),
        ("sise = 64", "there is no simulation setting 'sise'; did you mean size?"),
        ("exposure = [-1.0, 5.0]", "exposure must be (lowest, highest)"),
        ("[detectors.mine]\nshape = [10, 10]\npixel_mm = 0.1", "shape must be [rows, columns] from 16"),
        (None, "cannot read the simulation settings"),
    ],
)
def test_wrong_settings_are_refused_by_the_files_name(dvfb, tmp_path, text, message):
    path = tmp_path / "mixture.toml"
    if text is not None:
        path.write_text(text)
    refused = simulate(dvfb, tmp_path / "frames.h5", path)
    assert refused.status == 1
    assert str(path) in refused.errors[0]
    assert message in refused.errors[0]


def test_a_preview_has_a_row_for_each_label(dvfb, tmp_path, small):
    from matplotlib.image import imread

    sheet = tmp_path / "sheet.png"
    outcome = dvfb("simulate", "--preview", str(sheet), "--count", "150", "--settings", str(small))
    assert outcome.status == 0
    picture = imread(sheet)
    assert picture.shape[0] > 2 * picture.shape[1]


def test_a_preview_that_is_no_png_is_refused(dvfb, tmp_path):
    refused = dvfb("simulate", "--preview", str(tmp_path / "sheet.pdf"))
    assert "must end in .png" in refused.errors[0]


def test_masks_of_the_format_before_are_read_the_other_way_round(tmp_path):
    masked = np.eye(3, 4, dtype=bool)
    with h5py.File(tmp_path / "old.h5", "w") as old, h5py.File(tmp_path / "new.h5", "w") as new:
        old["entry/experiments/mask"] = (~masked).astype(np.uint8)[None]
        new["entry/experiments/masked"] = masked.astype(np.uint8)[None]
        for file in (old, new):
            np.testing.assert_array_equal(masked_in(file, 0), masked)
