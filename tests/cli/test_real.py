"""A folder of real frames is read as it is laid out, measured, printed, drawn, or refused with what is wrong."""

from __future__ import annotations

import json

import fabio.tifimage
import h5py
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from dvfb_stream.cli.labelled.folder import read_folder
from dvfb_stream.cli.measure.real import by_setup
from dvfb_stream.errors import GeometryError, SettingsError
from dvfb_stream.labels import LABELS

SHAPE = (60, 70)
SETUPS = ("a", "a", "a", "b", "b", "c")
RINGS = (True, False, True, False, True, "unsure")


@pytest.fixture
def folder(tmp_path):
    """Six frames of three set-ups in two files, with masks; of the last one the mask is none."""
    where = tmp_path / "frames"
    where.mkdir()
    listed = []
    with h5py.File(where / "a.h5", "w") as first, h5py.File(where / "b.h5", "w") as second:
        for number, (setup, rings) in enumerate(zip(SETUPS, RINGS, strict=True)):
            file = first if setup == "a" else second
            file[f"frames/{number}"] = np.random.default_rng(number).poisson(20, SHAPE).astype(np.int32)
            masked = np.zeros(SHAPE, np.uint8)
            masked[:, 30 + number] = 1
            file[f"masks/{number}"] = masked
            listed.append(
                {
                    "id": f"frame {number}",
                    "setup": setup,
                    "file": "a.h5" if setup == "a" else "b.h5",
                    "dataset": f"frames/{number}",
                    "mask": None if number == 5 else f"masks/{number}",
                    "beam_center_x": 33.5,
                    "beam_center_y": 28.25,
                    "labels": {"rings": rings, "halo": False, "of another list": True},
                    "remarks": ["for people"],
                }
            )
    (where / "labels.json").write_text(json.dumps(listed))
    return where


def change(folder, entry, **values):
    path = folder / "labels.json"
    listed = json.loads(path.read_text())
    listed[entry].update(values)
    path.write_text(json.dumps(listed))


def test_frames_are_read_with_mask_centre_and_what_is_known(folder):
    frames = read_folder(folder)
    assert [frame.name for frame in frames] == [f"frame {number}" for number in range(6)]
    assert [frame.setup for frame in frames] == list(SETUPS)
    assert frames[0].labels == {"halo": False, "rings": True}
    assert frames[5].labels == {"halo": False}  # unsure is not known
    read = frames[2].read()
    np.testing.assert_array_equal(read.pixels, np.random.default_rng(2).poisson(20, SHAPE))
    assert (read.geometry.center_x, read.geometry.center_y) == (33.5, 28.25)
    assert not read.geometry.mask[:, 32].any()
    assert read.geometry.mask.sum() == SHAPE[0] * (SHAPE[1] - 1)
    assert frames[5].read().geometry.mask is None
    assert [frame.setup for frame in read_folder(folder, without=["a"])] == ["b", "b", "c"]


def test_other_files_than_hdf5_have_masks_in_files_of_their_own(folder):
    fabio.tifimage.TifImage(data=np.full(SHAPE, 7, np.int32)).write(str(folder / "f.tif"))
    np.save(folder / "mask.npy", np.eye(*SHAPE, dtype=bool))
    change(folder, 0, file="f.tif", dataset=None, mask="mask.npy")
    frame = read_folder(folder)[0].read()
    assert (frame.pixels == 7).all()
    np.testing.assert_array_equal(frame.geometry.mask, ~np.eye(*SHAPE, dtype=bool))


def test_a_model_is_measured_on_real_frames_printed_and_drawn(dvfb, folder, tmp_path):
    out, figure = tmp_path / "real.json", tmp_path / "real.png"
    done = dvfb(
        "evaluate", "--real", folder, "--model", "tiny", "--device", "cpu", "--out", out, "--figure", figure
    )
    assert done.status == 0, done.stderr
    results = json.loads(out.read_text())
    assert (results["kind"], results["frames"], results["folder"]) == ("real", 6, "frames")
    rings = results["labels"]["rings"]
    assert (rings["have_it"], rings["have_it_not"]) == (3, 2)
    scores = [frame["scores"]["rings"] for frame in results["judged"][:5]]
    weights = [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2]
    for name, reference in (("average_precision", average_precision_score), ("roc_area", roc_auc_score)):
        expected = reference(RINGS[:5], scores, sample_weight=weights)
        assert rings[name]["value"] == pytest.approx(expected)
    wrong = [
        any((label in frame["labels"]) != has for label, has in frame["truth"].items())
        for frame in results["judged"]
    ]
    weights.append(1.0)
    assert results["all_right"]["value"] == pytest.approx(1 - np.average(wrong, weights=weights))
    assert results["labels"]["six_fold"]["have_it_not"] == 0
    assert results["labels"]["six_fold"]["roc_area"] == {"value": None, "interval": None}
    assert set(results["labels"]) == set(LABELS)
    assert all(frame["doubtful"] == [] for frame in results["judged"])
    for told in ("aim >= 0.75", "aim <= 0.06", ">= 0.90"):
        assert told in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    # From the file the same table and figure.
    again = dvfb("results", out, "--figure", tmp_path / "again.png")
    assert again.stdout.splitlines()[:5] == done.stdout.splitlines()[:5]
    assert (tmp_path / "again.png").read_bytes().startswith(b"\x89PNG")


def test_labels_have_sheets_of_the_frames_that_the_model_is_surest_of(dvfb, folder, tmp_path):
    out, sheets = tmp_path / "real.json", tmp_path / "new" / "sheets"
    done = dvfb("evaluate", "--real", folder, "--model", "tiny", "--figures", sheets, "--out", out)
    assert done.status == 0, done.stderr
    shown = {
        label
        for frame in json.loads(out.read_text())["judged"]
        for label, has in frame["truth"].items()
        if has or label in frame["labels"]
    }
    assert {path.name for path in sheets.iterdir()} == {f"{label}.png" for label in shown}
    assert "rings.png" in {path.name for path in sheets.iterdir()}
    assert f"wrote {len(shown)} figures to {sheets}" in done.stdout
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in sheets.iterdir())
    (tmp_path / "a file").touch()
    refused = dvfb("evaluate", "--real", folder, "--model", "tiny", "--figures", tmp_path / "a file")
    assert "--figures" in refused.errors[0]
    assert "name another folder" in refused.errors[0]


def test_setups_are_left_out(dvfb, folder):
    done = dvfb("evaluate", "--real", folder, "--without", "a", "--without", "c", "--model", "tiny", "--json")
    results = json.loads(done.stdout)
    assert (results["setups"].keys(), results["without"]) == ({"b"}, ["a", "c"])
    assert dvfb("evaluate", "--real", folder, "--without", "d", "--model", "tiny").errors == [
        f"{folder}/labels.json has no set-up 'd'; it has a, b, c"
    ]


def test_labels_are_accepted_by_the_thresholds_that_are_asked_for(dvfb, folder):
    """The model ranks as before; this one has no threshold of high precision, so that it accepts nothing."""
    usual, strict = (
        json.loads(
            dvfb("evaluate", "--real", folder, "--model", "tiny", "--thresholds", point, "--json").stdout
        )
        for point in ("best_f1", "high_precision")
    )
    assert (usual["operating_point"], strict["operating_point"]) == ("best_f1", "high_precision")
    assert strict["mean_average_precision"] == usual["mean_average_precision"]
    assert any(frame["labels"] for frame in usual["judged"])
    assert not any(frame["labels"] for frame in strict["judged"])


def test_a_frame_that_cannot_be_annotated_costs_a_line(dvfb, folder):
    change(folder, 1, dataset="frames/9")
    change(folder, 3, mask="frames/3")  # a frame is no mask
    done = dvfb("evaluate", "--real", folder, "--model", "tiny", "--json")
    assert done.status == 1
    first, second = done.errors
    assert first.startswith("frame 1: ")
    assert "frames/9" in first
    assert "looks like a frame, not a mask" in second
    results = json.loads(done.stdout)
    assert (results["frames"], results["failures"]) == (4, 2)


def test_a_mask_of_another_shape_is_refused(folder):
    with h5py.File(folder / "b.h5", "a") as file:
        file["masks/small"] = np.zeros((3, 3), np.uint8)
    change(folder, 4, mask="masks/small")
    with pytest.raises(GeometryError, match=r"\(3, 3\)"):
        read_folder(folder)[4].read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "the whole: Invalid JSON"),
        ('{"frames": []}', "the whole: Input should be a valid array"),
        ("[]", "names no frame"),
        ('[{"file": "a.h5", "setup": "a", "beam_center_x": 1}]', "0.beam_center_y: Field required"),
        (
            '[{"file": "a.h5", "setup": "", "beam_center_x": 1, "beam_center_y": 1}]',
            "0.setup: String should have",
        ),
        ('[{"file": "a.h5", "setup": "a", "beam_center_x": NaN, "beam_center_y": 1}]', "0.beam_center_x"),
    ],
)
def test_a_folder_that_is_not_laid_out_so_is_refused_in_one_line(dvfb, tmp_path, text, message):
    (tmp_path / "labels.json").write_text(text)
    done = dvfb("evaluate", "--real", tmp_path, "--model", "tiny")
    assert done.status == 1
    (error,) = done.errors
    assert message in error
    assert "`beam_center_x`" in error  # what is expected


def test_a_folder_without_a_list_or_known_labels_is_refused(dvfb, folder, tmp_path):
    (error,) = dvfb("evaluate", "--real", tmp_path, "--model", "tiny").errors
    assert f"{tmp_path} is no folder of labelled frames: {tmp_path}/labels.json cannot be read" in error
    for entry in range(6):
        change(folder, entry, labels={})
    (error,) = dvfb("evaluate", "--real", folder, "--model", "tiny").errors
    assert error == "none of the 6 frames has a known label; write true or false under `labels`"


def test_labels_of_altered_frames_are_measured_printed_and_drawn(dvfb, folder, tmp_path):
    out, figure = tmp_path / "invariance.json", tmp_path / "invariance.png"
    change(folder, 4, dataset="frames/9")
    words = (
        "--without",
        "a",
        "--quick",
        "--model",
        "tiny",
        "--device",
        "cpu",
        "--out",
        out,
        "--figure",
        figure,
    )
    done = dvfb("invariance", folder, *words)
    assert done.status == 1
    (error,) = done.errors
    assert error.startswith("frame 4: ")
    results = json.loads(out.read_text())
    assert (results["kind"], results["frames"], results["failures"]) == ("invariance", 2, 1)
    assert results["alterations"]["symmetries"]["altered"] == 4
    assert results["quick"]
    assert [outcome["name"] for outcome in results["outcomes"]] == ["frame 3", "frame 5"]
    assert "turned and mirrored, exactly" in done.stdout
    assert ">= 0.98" in done.stdout
    assert "Isotropic twins of 2 frames" in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    again = dvfb("results", out, "--figure", tmp_path / "again.png")
    assert again.stdout.splitlines()[:5] == done.stdout.splitlines()[:5]


def test_frames_are_taken_setup_by_setup_and_the_first_ones_of_each(folder):
    change(folder, 3, setup="a")
    frames = read_folder(folder)
    numbers = {most: [int(frame.name[-1]) for frame in by_setup(frames, most)] for most in (None, 2)}
    assert numbers == {None: [0, 1, 2, 3, 4, 5], 2: [0, 1, 4, 5]}
    change(folder, 1, setup="c")
    assert [int(frame.name[-1]) for frame in by_setup(read_folder(folder))] == [0, 2, 3, 1, 5, 4]


@pytest.mark.parametrize(
    ("labels", "kind", "remarks", "grazing"),
    [
        ({}, ["GISAXS: specular streak", "Yoneda"], [], True),
        ({}, "a thin film", ["seen at grazing incidence"], True),
        ({}, ["SAXS, two rings", "two rings"], ["GISAXS"], True),
        ({}, ["SAXS, two rings", "two rings"], [], False),
        ({}, ["WAXS strip: polymer"], None, False),
        ({}, ["muscle fibre"], ["saxsample"], None),
        ({"grazing": False}, ["GISAXS"], [], False),
        ({"grazing": "unsure"}, ["GISAXS"], [], None),
    ],
)
def test_words_of_people_say_whether_a_frame_is_grazing(folder, labels, kind, remarks, grazing):
    change(folder, 0, labels={"rings": True, **labels}, kind=kind, remarks=remarks)
    known = read_folder(folder)[0].labels
    assert known.get("grazing") is grazing
    assert known["rings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--real", ".", "--frames", 200), "--frames and --processes are for simulated frames"),
        (("--without", "a"), "give their folder: --real FOLDER"),
        (("--thresholds", "high_precision"), "--thresholds is for real frames"),
        (("--figures", "sheets"), "--figures shows real frames; give their folder: --real FOLDER"),
    ],
)
def test_options_of_the_other_measurement_are_refused(dvfb, words, message):
    done = dvfb("evaluate", *words)
    assert done.status == 2
    assert message in done.stderr


def test_the_shared_benchmark_is_laid_out_so(real_frames):
    """Of all its frames pixels, mask and centre fit together."""
    where = real_frames / "benchmark"
    if not where.is_dir():
        pytest.skip(
            f"no labelled frames in {where}; DVFB_REAL_FRAMES names the folder that has benchmark/ in it"
        )
    frames = read_folder(where)
    assert len({frame.setup for frame in frames}) >= 10
    for frame in frames[::9]:
        read = frame.read()
        assert read.geometry.mask.shape == read.pixels.shape
        assert frame.labels
    with pytest.raises(SettingsError, match="has no set-up"):
        read_folder(where, without=["no such"])
