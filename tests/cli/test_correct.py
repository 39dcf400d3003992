"""``dvfb correct`` and ``dvfb corrections``, as somebody at a terminal uses them."""

from __future__ import annotations

import csv
import getpass
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvfb_stream.catalog import embedded_server
from dvfb_stream.catalog.corrections import WantedCorrection, correct_many, corrections_of, undo
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.cli.labelled.folder import read_folder
from dvfb_stream.cli.labelled.frames import batches, by_centre
from dvfb_stream.cli.labelled.table import read_label_table
from dvfb_stream.cli.terminal import FailureReporter, ProgressBar

from .conftest import SHAPE, Outcome, pattern
from .test_annotate_history import GEOMETRY, write_run

FRAMES = [np.abs(pattern(seed)).astype(float) for seed in range(3)]


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Client of the containers of raw runs of this file, the key of their server in the environment."""
    with embedded_server(tmp_path_factory.mktemp("tiled")) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILED_API_KEY", client.context.api_key)
        patch.delenv("DVFB_BEAMLINE", raising=False)
        yield client


@pytest.fixture
def raw(tiled: Any, dvfb: Callable[..., Outcome]) -> Iterator[Any]:
    """Client of one annotated raw run with three frames, of which nobody has said anything."""
    if "raw" not in tiled:
        tiled.create_container("raw", specs=list(CATALOG_SPECS))
        write_run(tiled["raw"], "lamella", *FRAMES)
        assert dvfb("annotate", "--tiled", tiled["raw"].uri, *GEOMETRY).status == 0
    yield tiled["raw"]
    if "raw_corrections" in tiled:
        tiled.delete_contents(["raw_corrections"], recursive=True, external_only=False)


def test_a_frame_is_corrected_listed_and_taken_back(dvfb, raw):
    outcome = dvfb(
        "correct", "--tiled", raw.uri, -1, 2, "--add", "four-fold,rings", "--remove", "halo",
        "--by", "ann", "--note", "by eye",
    )  # fmt: skip
    (made,) = corrections_of(raw)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert f"run {made.origin.run_uid}: +rings +four_fold -halo, by ann; tiny had said:" in outcome.stdout
    assert outcome.stdout.endswith(f"correction {made.uid}\n")
    (listed,) = dvfb("corrections", "list", "--tiled", raw.uri, "--run", -1, "--json").rows
    assert (listed["uid"], listed["by"], listed["note"]) == (made.uid, "ann", "by eye")
    assert dvfb("corrections", "undo", made.uid[:6], "--tiled", raw.uri, "--by", "bob").status == 0
    shown = [
        line for line in dvfb("corrections", "list", "--tiled", raw.uri).stdout.splitlines() if line.strip()
    ]
    assert len(shown) == 4, shown
    assert ["bob" in line for line in shown[2:]] == [False, True]
    assert f"undo of {made.uid[:8]}" in shown[3]
    assert corrections_of(raw)[0].undone_by[:8] in shown[2]


def test_wrong_words_are_answered_with_the_right_ones(dvfb, raw):
    for arguments, reason in (
        (("99999", 0, "--add", "rings"), "no raw run with the uid '99999'"),
        ((-1, 7, "--add", "rings"), "has no row of frame 7 of 'image'; it has those of frames 0 to 2"),
        ((-1, 0, "--add", "ring"), "unknown label 'ring'; did you mean rings?"),
        ((-1, 0, "--add", "rings", "--remove", "rings"), "rings is both added and removed"),
        ((-1, 0), "Give --add LABEL, --remove LABEL, or both"),
        ((-1, 0, "--ad", "rings"), "No such option: --ad"),
        ((-1, -2, "--add", "rings"), "greater than or equal to 0"),
        ((-1, 0, "--add", "rings", "--data-key", "saxs"), "no annotations of data_key 'saxs'"),
    ):
        outcome = dvfb("correct", "--tiled", raw.uri, *arguments)
        (error,) = outcome.errors
        assert outcome.status != 0
        assert reason in error
    for arguments, reason in (
        (("undo", "99999"), "no correction or undo '99999'"),
        (("export", "nowhere"), "nobody has corrected anything"),
    ):
        (error,) = dvfb("corrections", *arguments, "--tiled", raw.uri).errors
        assert reason in error
    assert dvfb("corrections", "list", "--tiled", raw.uri).stdout == "nobody has corrected anything there\n"
    (error,) = dvfb("corrections", "list", "--tiled", f"{raw.uri}?api_key=secret").errors
    assert "TILED_API_KEY" in error
    assert "secret" not in error
    assert corrections_of(raw) == []


def write_table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_is_loaded_as_a_whole(dvfb, raw, tmp_path):
    uid = raw[-1].metadata["start"]["uid"]
    lines = ["run,frame,add,remove,note", "-1,0,rings halo,,", f"{uid[:7]},1,,rings,blank", f"{uid},2,weak,,"]
    table = write_table(tmp_path / "said.csv", *lines)
    outcome = dvfb("corrections", "load", table, "--tiled", raw.uri)
    assert outcome.status == 0
    found = corrections_of(raw)
    assert f"3 frames of 1 runs corrected by {getpass.getuser()}" in outcome.stdout
    assert f"dvfb corrections undo {found[0].call}" in outcome.stdout
    assert {(one.origin.index, one.add, one.remove, one.note) for one in found} == {
        (0, ("halo", "rings"), (), ""), (1, (), ("rings",), "blank"), (2, ("weak",), (), ""),
    }  # fmt: skip


def test_each_wrong_line_of_a_table_is_named_and_nothing_is_stored(dvfb, raw, tmp_path):
    lines = ["run,frame,add,remove", "-1,0,rings,", "-1,9,rings,", "nope,0,rings,", "-1,1,ring,", "-1,2,,"]
    outcome = dvfb("corrections", "load", write_table(tmp_path / "a.csv", *lines), "--tiled", raw.uri)
    assert outcome.status == 1
    for error, (line, reason) in zip(
        outcome.errors,
        [
            (3, "no row of frame 9"), (4, "'nope' names no run"), (5, "did you mean rings?"),
            (6, "no label is added or removed"), ("", "4 lines of"),
        ],
        strict=True,
    ):  # fmt: skip
        assert f"line {line}" in error or not line
        assert reason in error
    assert outcome.errors[-1].endswith("are wrong; nothing was stored")
    assert corrections_of(raw) == []


def test_what_was_said_is_exported_for_those_who_adapt_and_measure(dvfb, raw, tmp_path):
    said = [
        WantedCorrection(run=-1, frame=0, add=["symmetry_rings"], remove=["four_fold"], note="GISAXS? no"),
        WantedCorrection(run=-1, frame=2, add=["weak"], remove=["halo"]),
    ]
    correct_many(raw, said, by="ann")
    (other,) = correct_many(raw, [WantedCorrection(run=-1, frame=1, add=["rings"])], by="ann")
    undo(raw, other.uid, by="ann")
    masked = np.zeros(SHAPE, np.uint8)
    masked[:3] = 1
    np.save(tmp_path / "mask.npy", masked)
    out = tmp_path / "labelled"
    outcome = dvfb("corrections", "export", out, "--tiled", raw.uri, "--mask", tmp_path / "mask.npy")
    assert (outcome.status, outcome.stdout) == (0, f"wrote 2 frames to {out}, 2 of them in labels.csv\n")

    table = read_label_table(out / "labels.csv")
    assert [frame.labels for frame in table.frames] == [
        {"rings": 1, "symmetry_rings": 1, "four_fold": 0},
        {"halo": 0, "symmetry_halo": 0},
    ]
    pixels: list[np.ndarray] = []
    with ProgressBar(1, "reading") as progress:
        groups = by_centre(table, center_x=None, center_y=None, poni=None, mask=(), detector=None)
        batches(
            table,
            groups,
            progress,
            FailureReporter(progress),
            lambda batch, _: pixels.extend(read.frame.pixels for read, _ in batch),
        )
    np.testing.assert_array_equal(pixels, [FRAMES[0], FRAMES[2]])
    assert table.frames[0].center == (40.5, 44.0)

    first, second = read_folder(out)
    assert first.labels == {"rings": True, "symmetry_rings": True, "four_fold": False}
    assert second.labels == {"halo": False, "symmetry_halo": False, "weak": True}
    frame = first.read()
    np.testing.assert_array_equal(frame.pixels, FRAMES[0])
    np.testing.assert_array_equal(frame.geometry.mask, masked == 0)
    assert (frame.geometry.center_x, frame.geometry.center_y) == (40.5, 44.0)
    assert first.setup == second.setup == "image lamella"

    assert f"{out} exists already" in dvfb("corrections", "export", out, "--tiled", raw.uri).errors[0]


def test_labels_that_nobody_spoke_of_can_be_the_model_s(dvfb, raw, tmp_path):
    correct_many(raw, [WantedCorrection(run=-1, frame=0, add=["two_fold"])], by="ann")
    row = corrections_of(raw)[0].row
    out = tmp_path / "labelled"
    assert dvfb("corrections", "export", out, "--tiled", raw.uri, "--others", "model").status == 0
    with (out / "labels.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert line["two_fold"] == "1"
    for label in set(row.scores) - {"two_fold"} - set(row.doubtful):
        assert line[label] == str(int(label in row.labels)), label
    for label in set(row.doubtful) - {"two_fold"}:
        assert line.get(label, "") == ""
    outcome = dvfb("corrections", "export", tmp_path / "b", "--tiled", raw.uri, "--others", "people")
    assert "unknown --others 'people'" in outcome.errors[0]


def test_frames_that_cannot_be_exported_are_named_and_leave_no_folder(dvfb, raw, tmp_path):
    correct_many(raw, [WantedCorrection(run=-1, frame=0, add=["two_fold"])], by="ann")
    np.save(tmp_path / "mask.npy", np.zeros((3, 3), np.uint8))
    outcome = dvfb(
        "corrections", "export", tmp_path / "a", "--tiled", raw.uri, "--mask", tmp_path / "mask.npy"
    )
    assert outcome.status == 1
    assert f"its shape is {SHAPE}, and no mask has that: (3, 3)" in outcome.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["mask.npy"]
