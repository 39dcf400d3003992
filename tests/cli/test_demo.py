"""``dvfb demo`` goes all the way and ends by itself; ``dvfb profile`` prints a folder that IPython can start from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import fabio
import fabio.tifimage
import numpy as np
import pytest
from matplotlib.image import imread

from dvfb_stream import Annotator
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.cli.demo import command
from dvfb_stream.cli.demo.results import _sheet_frame
from dvfb_stream.cli.plot.contact_sheet import (
    DOUBTFUL,
    MISSED,
    RIGHT,
    UNJUDGED,
    WRONG,
    SheetFrame,
    SheetRun,
    draw_contact_sheet,
)
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.profiles.catalogs import served_folder
from dvfb_stream.view import ViewResampler

from .conftest import CENTRE, SHAPE, pattern

TINY = ("--model", "tiny")


@pytest.fixture
def tifs(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.tif" for number in range(2)]
    for seed, file in enumerate(files):
        fabio.tifimage.TifImage(data=pattern(seed)).write(str(file))
    return files


def runs_in(output: Path):
    """Raw runs stored in a demo's catalog, as (scan number, sample, frames, rows) in their order, and the numbers of
    those with four-fold symmetry.
    """
    with served_folder(output / "catalog") as catalog:
        raw = {uid: run for uid, run in catalog.items() if "analysis" not in run.metadata["start"]}
        found = find_runs(catalog, "four_fold")
        assert set(found) <= set(raw)
        runs = []
        for uid, run in raw.items():
            start, rows = run.metadata["start"], read_annotations(catalog, uid)
            runs.append((start["scan_id"], start["sample_name"], run["primary"]["det_image"].read(), rows))
        four_fold = {raw[uid].metadata["start"]["scan_id"] for uid in found}
        return sorted(runs, key=lambda run: run[0]), four_fold


def test_a_demo_annotates_answers_draws_and_ends_silently_and_runs_add_up(
    dvfb_process, dvfb, tifs, tmp_path, tiny_bundle
) -> None:
    output = tmp_path / "new" / "out put"
    first = dvfb_process("demo", *TINY, "--frames", 5, "--output", output)
    assert first.status == 0
    assert first.stderr == ""
    assert len(re.findall(r"^ +\d+ \| +\d+ \| .* \| ok ", first.stdout, re.MULTILINE)) == 5
    height, width = imread(output / "contact-sheet.png").shape[:2]
    assert min(height, width) > 200
    log = (output / "demo.log").read_text()
    assert "alembic" in log
    assert "api_key" not in log

    in_detail, more, session = (line.split(":", 1)[1].strip() for line in first.stdout.splitlines()[-3:])
    assert dvfb(*shlex.split(in_detail)[1:]).status == 0
    assert (output / "frame.png").exists()
    assert shlex.split(more)[1:] == ["demo", "--seed", "1", *TINY, "--output", str(output)]
    assert re.search(r'ipython --profile-dir "\$\(\S*dvfb profile\)"$', session)

    # The server goes on with the folder's runs; images are exposed again where more frames are asked for.
    again = dvfb("demo", *TINY, "--images", *tifs, "--frames", 3, *CENTRE, "--output", output)
    assert again.status == 0
    assert again.stderr == ""
    assert "of the 5 runs in the catalog" in again.stdout
    runs, four_fold = runs_in(output)
    assert [(number, sample, len(frames), len(rows)) for number, sample, frames, rows in runs] == [
        (1, "fibre", 2, 2),
        (2, "square lattice", 1, 1),
        (3, "powder", 1, 1),
        (4, "solution", 1, 1),
        (5, "your frames", 3, 3),
    ]
    found = len(four_fold - {5})
    answer = f"{found} of the 4 runs in the catalog:" if found else "None of the 4 runs in the catalog."
    assert answer in first.stdout
    *_, frames, rows = runs[-1]
    np.testing.assert_array_equal(frames, [pattern(0), pattern(1), pattern(0)])
    geometry = Geometry(shape=SHAPE, center_x=40.5, center_y=44)
    annotations = Annotator.load(tiny_bundle).annotate([Frame(frame, geometry) for frame in frames])
    for row, annotation in zip(rows, annotations, strict=True):
        assert row["four_fold"] == pytest.approx(annotation.scores["four_fold"], abs=1e-4)


def test_images_are_exposed_once_each_where_no_number_is_asked_for(dvfb, tifs, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(command, "_scan_and_search", lambda scans, *_: asked.extend(scans))
    assert dvfb("demo", "--images", *tifs, *CENTRE, "--output", tmp_path / "out").status == 0
    assert [(scan.sample, scan.frames) for scan in asked] == [("your frames", len(tifs))]


@pytest.mark.parametrize(
    ("arguments", "status", "fault"),
    [
        (("--frames", "0"), 2, "Invalid value for '--frames'"),
        (("--seed", "-1"), 2, "Invalid value for '--seed'"),
        (("--model", "gone"), 1, "no model 'gone'"),
        (("--center-x", "3"), 2, "--center-x describes frames of your own; name them by --images"),
        (("a.tif",), 2, "a.tif: files of your own come after --images"),
        (("--images", "a.tif"), 2, "the beam centre is missing"),
        (("--images", "gone.tif", *CENTRE), 1, "gone.tif: no such file"),
        (("--images", "a.tif", "notes.txt", *CENTRE), 1, "notes.txt"),
        (("--images", "a.tif", "other.tif", *CENTRE), 1, "other.tif has frames of shape (50, 60)"),
        (("--images", "a.tif", *CENTRE, "--mask", "gone.npy"), 1, "gone.npy"),
        (("--output", "notes.txt"), 1, "output notes.txt cannot be written to"),
    ],
)
def test_a_bad_argument_is_one_clear_line(dvfb, files, monkeypatch, arguments, status, fault) -> None:
    monkeypatch.chdir(files["a.tif"].parent)
    outcome = dvfb("demo", *arguments)
    assert outcome.status == status
    assert outcome.stdout == ""
    (error,) = outcome.errors
    assert fault in error


class TestContactSheet:
    def frame(self, labels=(), truth=None, doubtful=()) -> SheetFrame:
        image = np.random.default_rng(0).random((16, 16), dtype=np.float32)
        return SheetFrame(
            index=0, image=image, mask=image > 0.1, labels=labels, truth=truth, doubtful=doubtful
        )

    def test_right_wrong_and_missed_labels_can_be_told_apart(self) -> None:
        frame = self.frame(("rings", "halo"), ("rings", "four_fold"))
        assert frame.verdicts() == [(RIGHT, "rings"), (WRONG, "halo"), (MISSED, "four_fold")]
        assert self.frame(("rings",)).verdicts() == [(UNJUDGED, "rings")]

    def test_doubtful_labels_are_neither_found_nor_missed(self) -> None:
        frame = self.frame(("rings",), ("rings", "four_fold"), doubtful=("two_fold", "four_fold"))
        assert frame.verdicts() == [(RIGHT, "rings"), (DOUBTFUL, "two_fold"), (DOUBTFUL, "four_fold")]
        assert self.frame((), None, ("halo",)).verdicts() == [(DOUBTFUL, "halo")]
        figure = draw_contact_sheet([SheetRun(title="one", frames=[frame, frame])], title="A sheet")
        written = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert written.count("? two_fold") == 2
        assert "? doubtful: 4" in {text.get_text() for text in figure.texts}

    def test_what_the_model_does_not_know_it_cannot_miss(self) -> None:
        model = ModelIdentity(name="m", version="1", sha256="0" * 64)
        plan = ViewResampler(Geometry(shape=SHAPE, center_x=40.5, center_y=44))
        annotation = Annotation(
            status="ok", model=model, scores=dict.fromkeys(LABELS, 0.1), labels=("rings",), doubtful=("halo",)
        )
        truth = ("rings", "two_fold", "rings_spotted")
        drawn = _sheet_frame(plan, pattern(0), annotation.as_row(frame=0), truth)
        assert drawn.verdicts() == [(RIGHT, "rings"), (DOUBTFUL, "halo"), (MISSED, "two_fold")]
        failed = Annotation.failed("no pixel", model=model).as_row(frame=0)
        assert _sheet_frame(plan, pattern(0), failed, truth).truth == truth

    def test_every_label_of_every_run_is_written_on_it(self) -> None:
        runs = [
            SheetRun(title="one", frames=[self.frame(("rings",), ("halo",))] * 12),
            SheetRun(title="two", frames=[self.frame((), ())]),
        ]
        figure = draw_contact_sheet(runs, title="A sheet")
        assert len(figure.axes) == 13
        written = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert written.count("✗ rings") == written.count("○ halo") == 12
        assert written.count("no labels") == 1
        heads = {text.get_text() for text in figure.texts}
        assert {"A sheet", "one", "two", "✗ accepted, but not there: 12"} <= heads


class TestProfile:
    def test_the_folder_is_the_only_thing_printed(self, dvfb, tmp_path) -> None:
        outcome = dvfb("profile", tmp_path / "profile")
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout == f"{tmp_path / 'profile'}\n"
        assert (tmp_path / "profile" / "startup" / "20-run-engine.py").exists()

    def test_an_edited_file_is_kept_with_a_note_beside_the_folder(self, dvfb, tmp_path) -> None:
        edited = tmp_path / "startup" / "10-devices.py"
        edited.parent.mkdir()
        edited.write_text("# ours\n")
        outcome = dvfb("profile", tmp_path)
        assert outcome.stdout == f"{tmp_path}\n"
        assert outcome.stderr.startswith(f"kept {edited}")
        assert edited.read_text() == "# ours\n"

    def test_a_folder_that_cannot_be_written_is_one_clear_line(self, dvfb, files) -> None:
        outcome = dvfb("profile", files["notes.txt"] / "profile")
        assert outcome.status == 1
        (error,) = outcome.errors
        assert "notes.txt/profile cannot be written" in error
