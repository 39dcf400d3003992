"""``dvfb annotate`` gives a row a frame, in order, and one clear line for whatever goes wrong."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from pyFAI.detectors import Detector
from pyFAI.geometry import Geometry as PyFaiGeometry

from dvfb_stream import Frame, Geometry
from dvfb_stream.labels import LABELS, TITLES

from .conftest import CENTRE, SHAPE, pattern

TINY = ("--model", "tiny")


class TestRows:
    def test_json_is_what_the_annotator_says_of_each_file_in_order(
        self, dvfb, files, tiny_bundle, load_once
    ) -> None:
        given = [files["c.edf"], files["a.tif"], files["b.cbf"], files["a.tif"]]
        outcome = dvfb("annotate", *given, *CENTRE, *TINY, "--json", "--batch-size", 3)
        assert outcome.status == 0
        assert outcome.stderr == ""
        assert [row["file"] for row in outcome.rows] == [str(file) for file in given]
        geometry = Geometry(shape=SHAPE, center_x=40.5, center_y=44)
        frames = [Frame(pattern(seed), geometry) for seed in (2, 0, 1, 0)]
        for row, annotation in zip(outcome.rows, load_once(tiny_bundle).annotate(frames), strict=True):
            assert list(row) == list(annotation.as_row())
            assert row["labels"] == ",".join(annotation.labels)
            assert {label: row[label] for label in LABELS} == pytest.approx(annotation.scores, abs=1e-4)
            assert (row["center_x"], row["center_y"]) == (40.5, 44)

    def test_a_stack_has_a_row_a_frame_and_a_bad_frame_its_reason(self, dvfb, files) -> None:
        outcome = dvfb("annotate", f"{files['stack.h5']}::/data", *CENTRE, *TINY, "--json", "--batch-size", 2)
        assert outcome.status == 1
        assert [row["frame"] for row in outcome.rows] == [0, 1, 2, 3, 4]
        assert [row["status"] for row in outcome.rows] == ["ok", "ok", "failed", "ok", "ok"]
        (error,) = outcome.errors
        assert error.startswith(f"{files['stack.h5']}::/data frame 2: no valid pixel is left")
        assert outcome.rows[2]["reason"] in error
        assert {outcome.rows[2][name] for name in (*LABELS, "fit_residual", "novelty")} == {None}

    def test_csv_has_a_header_and_the_same_values(self, dvfb, files) -> None:
        arguments = ("annotate", f"{files['stack.h5']}::/data", *CENTRE, *TINY)
        table = list(csv.DictReader(io.StringIO(dvfb(*arguments, "--csv").stdout)))
        rows = dvfb(*arguments, "--json").rows
        assert len(table) == 5
        for line, row in zip(table, rows, strict=True):
            assert line == {name: "" if value is None else str(value) for name, value in row.items()}

    def test_tables_name_every_label_of_a_single_frame(self, dvfb, files) -> None:
        outcome = dvfb("annotate", files["a.tif"], files["b.cbf"], *CENTRE, *TINY)
        assert outcome.status == 0
        first, second = outcome.stdout.index(str(files["a.tif"])), outcome.stdout.index(str(files["b.cbf"]))
        assert first < second
        for title in (TITLES[label] for label in LABELS):
            assert outcome.stdout.count(title) == 2
        assert outcome.stdout.count("fit residual 0.") == 2
        assert "novelty" in outcome.stdout
        assert "model tiny 0.0.1" in outcome.stdout

    def test_the_table_of_a_stack_has_a_line_a_frame(self, dvfb, files) -> None:
        outcome = dvfb("annotate", f"{files['stack.h5']}::/data", *CENTRE, *TINY)
        assert f"{files['stack.h5']}::/data, 5 frames" in outcome.stdout
        assert "failed: no valid pixel is left" in outcome.stdout

    @pytest.mark.parametrize(
        ("name", "first"), [("rows.jsonl", "{"), ("rows.csv", "file,frame"), ("rows.txt", "/")]
    )
    def test_the_outputs_name_chooses_the_form(
        self, dvfb, files, tmp_path: Path, name: str, first: str
    ) -> None:
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--output", tmp_path / name)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
        assert (tmp_path / name).read_text().startswith(first)


class TestGeometry:
    def test_the_centre_matters(self, dvfb, files) -> None:
        here = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--json").rows[0]
        there = dvfb("annotate", files["a.tif"], "--center-x", 5, "--center-y", 80, *TINY, "--json").rows[0]
        assert [here[label] for label in LABELS] != [there[label] for label in LABELS]

    def test_a_poni_file_says_the_same_as_its_centre(self, dvfb, files, tmp_path: Path) -> None:
        detector = Detector(pixel1=1e-4, pixel2=1e-4, max_shape=SHAPE)
        PyFaiGeometry(dist=1, poni1=44.5e-4, poni2=41e-4, detector=detector).save(str(tmp_path / "a.poni"))
        by_poni = dvfb("annotate", files["a.tif"], "--poni", tmp_path / "a.poni", *TINY, "--json")
        by_centre = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--json")
        assert by_poni.status == 0
        assert by_poni.stderr == ""
        assert [by_poni.rows[0][label] for label in LABELS] == pytest.approx(
            [by_centre.rows[0][label] for label in LABELS], abs=1e-6
        )

    def test_a_file_may_say_the_centre_and_what_is_given_wins(self, dvfb, files, tmp_path: Path) -> None:
        declared = "# Pixel_size 172e-6 m x 172e-6 m\n# Beam_xy (41.00, 44.50) pixels\n"
        for name in ("one.tif", "two.tif"):
            tifffile.imwrite(tmp_path / name, pattern(0), description=declared, metadata=None)
        outcome = dvfb("annotate", tmp_path / "one.tif", tmp_path / "two.tif", *TINY, "--json")
        assert outcome.status == 0
        given = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--json").rows[0]
        for row in outcome.rows:
            assert [row[label] for label in LABELS] == pytest.approx([given[label] for label in LABELS])
            assert (row["center_x"], row["center_y"]) == (40.5, 44)
            assert row["center_source"] == "Beam_xy of its header"
        (note,) = outcome.stderr.splitlines()
        assert "one.tif: the beam centre is what the file says: (40.5, 44), Beam_xy of its header" in note

        elsewhere = dvfb("annotate", tmp_path / "one.tif", "--center-x", 3, "--center-y", 4, *TINY, "--json")
        assert (elsewhere.rows[0]["center_x"], elsewhere.rows[0]["center_source"]) == (3, "")
        assert elsewhere.stderr == ""

    def test_a_file_that_says_no_centre_has_failed_rows_with_the_cure(
        self, dvfb, files, tmp_path: Path
    ) -> None:
        tifffile.imwrite(
            tmp_path / "none.tif", pattern(0), description="# Beam_xy (0.00, 0.00) pixels\n", metadata=None
        )
        outcome = dvfb("annotate", files["a.tif"], tmp_path / "none.tif", *TINY, "--json")
        assert outcome.status == 1
        assert [row["status"] for row in outcome.rows] == ["failed", "failed"]
        nothing, placeholder = outcome.errors
        assert (
            "a.tif: the beam centre is not known: the file says none; give center_x and center_y (--center-x"
            in nothing
        )
        assert "Beam_xy of its header is (0, 0), as detectors write where nobody has set it" in placeholder

    def test_pixels_without_a_value_and_masked_ones_are_counted(self, dvfb, tmp_path: Path) -> None:
        pixels = pattern(0).astype(np.float32)
        pixels[10, 11] = pixels[12, 13] = np.nan
        np.save(tmp_path / "frame.npy", pixels)
        mask = np.zeros(SHAPE, bool)
        mask[10, 11:14] = True
        np.save(tmp_path / "mask.npy", mask)
        outcome = dvfb(
            "annotate", tmp_path / "frame.npy", *CENTRE, "--mask", tmp_path / "mask.npy", *TINY, "--json"
        )
        assert outcome.status == 0
        assert outcome.rows[0]["masked_pixels"] == np.count_nonzero(pattern(0) < 0) + 4
        assert (outcome.rows[0]["remark"], outcome.stderr) == ("", "")

    def test_a_dummy_and_its_delta_mark_invalid_pixels(self, dvfb, tmp_path: Path) -> None:
        pixels = np.abs(pattern(0)).astype(np.float32) + 0.5
        pixels[3, 4:7] = (-10, -9.95, -9.5)
        np.save(tmp_path / "frame.npy", pixels)
        arguments = ("annotate", tmp_path / "frame.npy", *CENTRE, *TINY, "--json")
        for options, masked in (
            ((), 0),
            (("--dummy", -10), 1),
            (("--dummy", -10, "--delta", 0.1), 2),
            (("--dummy", -10, "--dummy", -9.5), 2),
        ):
            outcome = dvfb(*arguments, *options)
            assert (outcome.status, outcome.rows[0]["masked_pixels"]) == (0, masked)
        assert "give --dummy, too" in dvfb(*arguments, "--delta", 0.1).errors[0]

    def test_the_mask_of_a_file_is_used_unless_it_is_not_wanted(self, dvfb, tmp_path: Path) -> None:
        masked = np.zeros(SHAPE, np.uint32)
        masked[3, 4:9] = 8
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            group = file.create_group("entry/instrument/detector")
            group.attrs["NX_class"] = "NXdetector"
            group["data"], group["pixel_mask"] = np.abs([pattern(0), pattern(1)]), masked
        spec = f"{tmp_path / 'a.nxs'}::/entry/instrument/detector/data"
        used = dvfb("annotate", spec, *CENTRE, *TINY, "--json")
        for row in used.rows:
            assert row["masked_pixels"] == 5
            assert row["remark"] == (
                f"The file's own mask is used: {tmp_path}/a.nxs::/entry/instrument/detector/pixel_mask."
            )
        assert used.stderr.count("The file's own mask is used") == 1
        left = dvfb("annotate", spec, *CENTRE, *TINY, "--json", "--ignore-file-mask")
        assert [(row["masked_pixels"], row["remark"]) for row in left.rows] == [(0, "")] * 2
        assert left.stderr == ""

    def test_a_mask_the_wrong_way_round_is_told(self, dvfb, files, tmp_path: Path) -> None:
        valid = np.ones(SHAPE, bool)
        valid[:10] = False
        np.save(tmp_path / "valid.npy", valid)
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--mask", tmp_path / "valid.npy", *TINY, "--json")
        assert outcome.status == 0
        assert "in mask files 1 means masked" in outcome.rows[0]["remark"]
        assert outcome.rows[0]["remark"] in outcome.stderr

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--center-x", "3"), "--center-y is missing"),
            (("--center-y", "3"), "--center-x is missing"),
            ((*CENTRE, "--poni", "a.poni"), "give the beam centre once"),
            (("--center-x", "nan", "--center-y", "3"), "finite number"),
            (("--center-x", "left", "--center-y", "3"), "--center-x"),
            ((*CENTRE, "--json", "--csv"), "one of --json and --csv"),
            ((*CENTRE, "--batch-size", "0"), "--batch-size"),
            ((*CENTRE, "--colour"), "--colour"),
        ],
    )
    def test_a_wrong_call_is_told_in_one_line_with_status_2(self, dvfb, files, options, said: str) -> None:
        outcome = dvfb("annotate", files["a.tif"], *options)
        assert (outcome.status, outcome.stdout) == (2, "")
        (error,) = outcome.errors
        assert said in error
        assert error.endswith("(see dvfb annotate --help)")


class TestWhatGoesWrong:
    def test_bad_files_cost_a_line_each_and_the_others_are_annotated(
        self, dvfb, files, tmp_path: Path
    ) -> None:
        given = [
            files["missing.tif"],
            files["a.tif"],
            files["notes.txt"],
            tmp_path,
            tmp_path / "several.h5",
            files["b.cbf"],
        ]
        with h5py.File(tmp_path / "several.h5", "w") as file:
            file["first"], file["second"] = pattern(0), pattern(1)
        outcome = dvfb("annotate", *given, *CENTRE, *TINY, "--json")
        assert outcome.status == 1
        assert [row["file"] for row in outcome.rows] == [str(files["a.tif"]), str(files["b.cbf"])]
        missing, notes, folder, several = outcome.errors
        assert missing.endswith("missing.tif: no such file")
        assert "notes.txt cannot be read: it is no detector image" in notes
        assert "is a directory; give the files in it" in folder
        assert "say which dataset, for there are several that look like images" in several
        assert f"{tmp_path}/several.h5::/first" in several

    def test_a_frame_of_another_shape_than_the_mask_fails_with_both_shapes(
        self, dvfb, files, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "mask.npy", np.eye(*SHAPE, dtype=bool))
        outcome = dvfb(
            "annotate",
            files["other.tif"],
            files["a.tif"],
            *CENTRE,
            "--mask",
            tmp_path / "mask.npy",
            *TINY,
            "--json",
        )
        assert outcome.status == 1
        assert [row["status"] for row in outcome.rows] == ["failed", "ok"]
        (error,) = outcome.errors
        assert "other.tif: the frame has shape (50, 60), but mask" in error
        assert "mask.npy has shape (90, 80)" in error

    def test_all_masked_and_a_centre_far_off_are_failed_rows(self, dvfb, files, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "dark.h5", "w") as file:
            file["data"] = np.full((3, *SHAPE), -1, np.int32)
        dark = dvfb("annotate", f"{tmp_path}/dark.h5::/data", *CENTRE, *TINY, "--json")
        assert dark.status == 1
        assert [row["status"] for row in dark.rows] == ["failed"] * 3
        (error,) = dark.errors
        assert "3 of 3 frames, the first is 0: no valid pixel is left" in error
        far = dvfb("annotate", files["a.tif"], "--center-x", "1e7", "--center-y", "0", *TINY, "--json")
        assert far.status == 1
        assert far.rows[0]["status"] == "failed"
        assert "centre" in far.errors[0]

    def test_thousands_of_different_reasons_are_not_all_told(self, dvfb, tmp_path: Path) -> None:
        stack = np.ones((12, *SHAPE))
        for index in range(12):
            stack[index, index, 3] = 10.0 ** (40 + index)
        with h5py.File(tmp_path / "bad.h5", "w") as file:
            file["data"] = stack
        outcome = dvfb("annotate", f"{tmp_path}/bad.h5::/data", *CENTRE, *TINY, "--json")
        assert len(outcome.rows) == 12
        assert len(outcome.errors) == 6
        assert "and 7 further reasons, which the rows give" in outcome.errors[-1]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--model", "giant"), "no model 'giant'"),
            (("--device", "cuda:77"), "is not available here"),
            (("--mask", "no.npy"), "no.npy: no such file"),
            (("--detector", "Pilatus7M"), "did you mean"),
            (
                ("--output", "no/rows.json"),
                "output no/rows.json cannot be written: No such file or directory",
            ),
            (("--output", "."), "is a directory; give the name of a file"),
            (("--output", "/proc/rows.json"), "cannot be written"),
            (("--plot", "no/figure.png"), "plot no/figure.png cannot be written"),
            (("--plot", "figure.jpg"), "must end in .png"),
        ],
    )
    def test_what_cannot_work_is_told_before_any_row(
        self, dvfb, files, options, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, *options)
        assert (outcome.status, outcome.stdout) == (1, "")
        (error,) = outcome.errors
        assert said in error

    def test_a_poni_that_is_none(self, dvfb, files) -> None:
        outcome = dvfb("annotate", files["a.tif"], "--poni", files["notes.txt"], *TINY)
        assert outcome.status == 1
        assert "notes.txt is not a complete .poni file" in outcome.errors[0]

    @pytest.mark.parametrize("option", ["--output", "--plot"])
    def test_what_is_read_is_never_overwritten(self, dvfb, files, tmp_path: Path, option: str) -> None:
        link = tmp_path / "link.png"
        os.link(files["a.tif"], link)
        before = files["a.tif"].read_bytes()
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, option, link)
        assert outcome.status == 1
        assert "is one of the files to read" in outcome.errors[0]
        assert files["a.tif"].read_bytes() == before

    def test_a_full_disk(self, dvfb, files) -> None:
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--json", "--output", "/dev/full")
        assert outcome.status == 1
        assert "No space left on device" in outcome.errors[0]


class TestFigures:
    def test_one_frame_one_figure_and_stdout_stays_clean(self, dvfb, files, tmp_path: Path) -> None:
        outcome = dvfb("annotate", files["a.tif"], *CENTRE, *TINY, "--json", "--plot", tmp_path / "seen.png")
        assert outcome.status == 0
        assert len(outcome.rows) == 1
        assert outcome.stderr == f"wrote {tmp_path}/seen.png\n"
        assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")

    def test_several_frames_are_numbered_by_their_rows(self, dvfb, files, tmp_path: Path) -> None:
        given = (files["missing.tif"], files["a.tif"], files["other.tif"], files["b.cbf"])
        np.save(tmp_path / "mask.npy", np.eye(*SHAPE, dtype=bool))
        outcome = dvfb(
            "annotate",
            *given,
            *CENTRE,
            *TINY,
            "--mask",
            tmp_path / "mask.npy",
            "--plot",
            tmp_path / "seen.png",
        )
        assert outcome.status == 1
        # Row 1 is the frame of another shape; the missing file has none.
        assert sorted(path.name for path in tmp_path.glob("*.png")) == ["seen-0.png", "seen-2.png"]


class TestInAProcessOfItsOwn:
    def test_stdout_has_the_rows_and_stderr_one_line_a_failure(
        self, dvfb_process, files, tmp_path: Path
    ) -> None:
        # A cut-off EDF makes fabio log; pyFAI logs about the old poni file.
        cut = tmp_path / "cut.edf"
        cut.write_bytes(files["c.edf"].read_bytes()[:-100])
        from PIL import Image

        Image.fromarray(pattern()).save(tmp_path / "deflated.tif", compression="tiff_adobe_deflate")
        (tmp_path / "old.poni").write_text(
            "PixelSize1: 1e-4\nPixelSize2: 1e-4\nDistance: 1\nPoni1: 0.004\nPoni2: 0.004\nRot1: 0\nRot2: 0\nRot3: 0\n"
        )
        outcome = dvfb_process(
            "annotate",
            tmp_path / "deflated.tif",
            cut,
            files["a.tif"],
            "--poni",
            tmp_path / "old.poni",
            *TINY,
            "--json",
        )
        assert outcome.status == 1
        rows = [(Path(row["file"]).name, row["status"]) for row in outcome.rows]
        assert rows == [("deflated.tif", "ok"), ("cut.edf", "failed"), ("a.tif", "ok")]
        (error,) = outcome.errors
        assert "cut.edf is damaged or incomplete" in error

    def test_verbose_shows_what_the_libraries_log(self, dvfb_process, files, tmp_path: Path) -> None:
        cut = tmp_path / "cut.edf"
        cut.write_bytes(files["c.edf"].read_bytes()[:-100])
        outcome = dvfb_process("--verbose", "annotate", cut, *CENTRE, *TINY, "--json")
        assert outcome.status == 1
        assert len(outcome.rows) == 1
        assert "ERROR fabio.edfimage" in outcome.stderr


def test_real_frames(dvfb, real_frames: Path, tmp_path: Path) -> None:
    frames = sorted(real_frames.glob("musclex__Mn*.tif"))
    outcome = dvfb(
        "annotate",
        *frames,
        "--center-x",
        302.7,
        "--center-y",
        530.9,
        "--detector",
        "Pilatus1M",
        *TINY,
        "--json",
    )
    assert outcome.status == 0
    assert [row["file"] for row in outcome.rows] == [str(frame) for frame in frames]
    mask = real_frames / "autosaxs__mask.txt"
    outcome = dvfb(
        "annotate", *sorted(real_frames.glob("autosaxs__*.tif")), "--center-x", 588.2, "--center-y", 318.7,
        "--mask", mask, *TINY, "--json", "--plot", tmp_path / "seen.png",
    )  # fmt: skip
    assert [row["status"] for row in outcome.rows] == ["ok", "ok"]
    assert (tmp_path / "seen-1.png").is_file()


def test_the_operating_point_decides_what_is_accepted(dvfb, files) -> None:
    """The tiny model reaches no high precision for any label, so that it accepts none."""
    usual = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--json").rows
    strict = dvfb(
        "annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--json", "--thresholds", "high_precision"
    ).rows
    assert [usual[0][label] for label in LABELS] == [strict[0][label] for label in LABELS]
    assert usual[0]["labels"]
    assert strict[0]["labels"] == ""
    outcome = dvfb("annotate", files["a.tif"], *CENTRE, "--model", "tiny", "--thresholds", "lenient")
    assert outcome.status == 1
    (error,) = outcome.errors
    assert "best_f1, high_precision, not 'lenient'" in error
