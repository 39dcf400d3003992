"""Models and tables measured in small, printed beside the paper's, drawn, and refused."""

import json
import math
import shutil

import fabio.tifimage
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dvfb_stream.cli.measure.sheets import sheet
from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction import paper, table4
from dvfb_stream.reproduction.independent_sets import domain
from dvfb_stream.training import FittingSettings, Recipe, train

FITTING = FittingSettings(epochs=1, batch_size=32, optimizer="adamw", learning_rate=1e-3, averaging=0.9)
FRAMES = {"train": 100, "validation": 100, "test": 100}
IMAGE, COEFFICIENT = {"name": "compact"}, {"name": "compact"}
NETWORKS = {
    "paper-image": (IMAGE, None),
    "paper-coefficient": (None, COEFFICIENT),
    "paper-2conv": (None, {"name": "2conv"}),
    "paper-joint": (IMAGE, COEFFICIENT),
    "paper-joint-2conv": (IMAGE, {"name": "2conv"}),
    "vgg16": (IMAGE, None),
    "resnet50": (IMAGE, None),
}
"""What stands in the tests for the networks of the tables, small enough to be fitted in seconds."""


@pytest.fixture(scope="module")
def work(tmp_path_factory, frames_folder):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "frames").mkdir()
    for which in FRAMES:
        (folder / "frames" / which).symlink_to(frames_folder / which)
    for name, (image, coefficient) in NETWORKS.items():
        if name in ("vgg16", "resnet50"):  # stood in for by a network that is fitted already
            shutil.copytree(folder / "paper-image" / "bundle", folder / name / "bundle")
            continue
        architecture = {"image": image, "coefficient": coefficient, "hidden": [8]}
        recipe = Recipe(
            name=name, purpose="for tests", architecture=architecture, fitting=FITTING, frames=FRAMES
        )
        train(recipe, work=folder)
    return folder


def test_a_model_is_measured_and_drawn(dvfb, tmp_path):
    out, figure = tmp_path / "results" / "model.json", tmp_path / "reliability.png"
    words = ("--model", "tiny", "--frames", "100", "--out", out, "--figure", figure)
    done = dvfb("evaluate", *words, "--processes", "1")
    assert done.status == 0, done.stderr
    assert "4-fold symmetry" in done.stdout
    results = json.loads(out.read_text())
    assert results["kind"] == "model"
    assert 0 <= results["expected_calibration_error"] <= 1
    assert "probabilities" not in results
    assert figure.read_bytes().startswith(b"\x89PNG")
    # Printed again from the file, the same table; the figure needs the frames.
    assert dvfb("results", out).stdout.splitlines()[:5] == done.stdout.splitlines()[:5]
    again = dvfb("results", out, "--figure", figure)
    assert again.status == 1
    assert "a reliability diagram is drawn by dvfb evaluate --figure" in again.stderr


@pytest.fixture
def night(tmp_path):
    """Four frames and what is known of them; a fifth is no image."""
    lines = ["file,rings,halo,center_x,center_y"]
    for number in range(4):
        pixels = np.random.default_rng(number).poisson(50, (96, 80)).astype(np.int32)
        fabio.tifimage.TifImage(data=pixels).write(str(tmp_path / f"{number}.tif"))
        lines.append(f"{number}.tif,{number % 2},{'' if number else 0},40.5,44")
    (tmp_path / "lost.tif").write_bytes(b"II*")
    (tmp_path / "night.csv").write_text("\n".join([*lines, "lost.tif,1,,40.5,44"]) + "\n")
    return tmp_path / "night.csv"


def test_a_model_is_measured_on_frames_with_known_labels(dvfb, night, tmp_path):
    out = tmp_path / "night.json"
    done = dvfb("rank", night, "--model", "tiny", "--device", "cpu", "--out", out)
    assert done.status == 1
    (lost,) = done.stderr.splitlines()
    assert "lost.tif" in lost
    results = json.loads(out.read_text())
    assert (results["kind"], results["failures"]) == ("labelled", 1)
    rings = results["labels"]["rings"]
    scores = {frame["file"]: frame["scores"]["rings"] for frame in results["frames"]}
    assert (rings["positives"], rings["negatives"]) == (2, 2)
    assert rings["lowest_positive"]["score"] == min(scores["1.tif"], scores["3.tif"])
    assert rings["highest_negative"]["score"] == max(scores["0.tif"], scores["2.tif"])
    stated = [scores[f"{number}.tif"] for number in range(4)]
    assert rings["average_precision"] == pytest.approx(average_precision_score([0, 1, 0, 1], stated))
    halo = results["labels"]["halo"]
    assert (halo["positives"], halo["negatives"], halo["average_precision"]) == (0, 1, None)
    assert halo["lowest_positive"] is None
    confused = rings["lowest_positive"]["score"] <= rings["highest_negative"]["score"]
    assert ("has it and scores" in done.stdout) is confused
    assert dvfb("results", out).stdout.splitlines()[:5] == done.stdout.splitlines()[:5]


@pytest.mark.parametrize("table", [1, 2])
def test_a_table_is_measured_and_stands_beside_the_papers(dvfb, work, tmp_path, table):
    out = tmp_path / "table.json"
    done = dvfb("reproduce", table, "--work", work, "--out", out, "--device", "cpu")
    assert done.status == 0, done.stderr
    results = json.loads(out.read_text())
    printed = paper.TABLE_1 if table == 1 else {name: row["mean"] for name, row in paper.TABLE_2.items()}
    assert set(results["rows"]) == set(printed)
    for name, row in results["rows"].items():
        assert 0 < row["average_precision"]["mean"] <= 1
        assert f"{row['average_precision']['mean']:.4f}" in done.stdout
        assert f"{printed[name]:.4f}" in done.stdout
    assert results["trained_on"]["joint"]["frames"] <= 100
    assert "1 epochs" in done.stdout


def test_table_4_is_measured_on_domains_of_another_origin_and_drawn(dvfb, work, tmp_path, monkeypatch):
    monkeypatch.setattr(table4, "PENALTIES", (10.0,))
    monkeypatch.setattr(table4, "GAMMAS", (1.0,))
    out, figure = tmp_path / "table-4.json", tmp_path / "figure-6.png"
    words = (4, "--work", work, "--scale", 0.05, "--out", out)
    done = dvfb("reproduce", *words, "--device", "cpu", "--processes", "1")
    assert done.status == 0, done.stderr
    assert dvfb("results", out, "--figure", figure).status == 0
    results = json.loads(out.read_text())
    for name, found in results["domains"].items():
        assert set(found["methods"]) == set(paper.TABLE_4)
        assert found["train_frames"] == pytest.approx(0.05 * domain(name, seed=0).train, abs=50)
        assert set(found["positives"]) == set(found["labels"])
        for measured in found["methods"].values():
            assert 0 < measured["average_precision"]["mean"] <= 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "VGG-16 fc" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("tables", "3"), 2, "unknown table '3', there are 1, 2, 4"),
        (("tables", "4", "--work", "runs"), 2, "No such option: --work"),
        (("reproduce", "one"), 2, "unknown table 'one'"),
        (("reproduce", "4", "--work", "empty"), 1, "dvfb train paper-joint --work empty"),
        (("rank", "nowhere.csv"), 1, "nowhere.csv cannot be read as a table of labels"),
        (("rank",), 2, "LABELS.csv"),
        (("results", "nowhere.json"), 1, "nowhere.json holds no results"),
        (("evaluate", "--model", "defautl"), 1, "no model 'defautl', did you mean default?"),
        (("evaluate", "--device", "toaster"), 1, "toaster"),
        (("evaluate", "--frames", "1" + 21 * "0"), 2, "--frames"),
        (("evaluate", "--out", "model.yaml"), 1, "--out model.yaml must end in .json"),
        (("novelty", "--figure", "novelty.jpg"), 1, "--figure novelty.jpg must end in .png"),
    ],
)
def test_calls_that_cannot_end_well_are_refused_in_one_line(dvfb, words, status, message):
    done = dvfb(*words)
    assert done.status == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds no results of `dvfb evaluate`"),
        ('{"kind": "table-3"}', "no results of the kind 'table-3'; there are table-1"),
        ('{"kind": "novelty", "kinds": {}}', "are not whole (KeyError: 'domains')"),
        ('{"kind": "model", "heads": []}', "are not whole"),
    ],
)
def test_results_that_are_none_are_refused(dvfb, tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    done = dvfb("results", path)
    assert done.status == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_was_not_measured_is_left_blank():
    scores = {**dict.fromkeys(LABELS, 0.5), "mean": math.nan}
    results = {
        "kind": "table-2",
        "device": "a processor",
        "date": "2026-01-01",
        "seconds": 3,
        "test_frames": 10,
        "trained_on": {},
        "positive_ratio": {},
        "rows": {name: {"average_precision": scores} for name in paper.TABLE_2},
    }
    assert sheet(results).rows[-1][2] == ""


def test_the_papers_means_are_those_of_its_labels():
    for row in paper.TABLE_2.values():
        assert row["mean"] == pytest.approx(sum(row[label] for label in LABELS) / len(LABELS), abs=1e-4)
