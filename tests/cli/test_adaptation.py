"""Adapting from ``LABELS.csv``: frames of another domain, end to end; and tables that say something wrong."""

from __future__ import annotations

import json
import re

import fabio.tifimage
import h5py
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.cli.labelled.table import read_label_table
from dvfb_stream.cli.terminal import WrongCallError
from dvfb_stream.cli.train.adapt import adapt_from_csv, show_adaptation
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS

SHAPE = (96, 80)
CENTRE = {"center_x": 40.5, "center_y": 44.0}


def shifted(seed, *, ring, center=(40.5, 44.0)):
    """A frame of no simulator of ours: readout noise on a tilted pedestal, rings as flat as a step, or none."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - center[1], columns - center[0])
    counts = 300 + 2 * rows + rng.normal(0, 8, SHAPE) + 400 / (1 + (radius / 12) ** 2)
    if ring:
        counts[np.abs(radius - rng.uniform(18, 30)) < 2] += rng.uniform(150, 400)
    return counts.astype(np.int32)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """24 frames as TIFF and 24 in an HDF5 stack, every second with a ring; the table knows not all of them."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "tif").mkdir()
    lines = ["file,index,rings,halo,four_fold"]
    stack = []
    for number in range(48):
        ring = number % 2 == 1
        pixels = shifted(number, ring=ring)
        halo = "" if number % 3 else "0"
        fold = "1" if number in (1, 3, 5) else "0"
        if number < 24:
            fabio.tifimage.TifImage(data=pixels).write(str(folder / "tif" / f"{number}.tif"))
            lines.append(f"tif/{number}.tif,,{int(ring)},{halo},{fold}")
        else:
            lines.append(f"scan.h5::/entry/data,{len(stack)},{int(ring)},{halo},{fold}")
            stack.append(pixels)
    with h5py.File(folder / "scan.h5", "w") as file:
        file["entry/data"] = np.stack(stack)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture
def user_models(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "dvfb_stream" / "models"


def test_a_beamlines_frames_make_a_model_that_judges_them_better(
    labelled, tiny_bundle, user_models, dvfb, capfd
):
    result = adapt_from_csv(labelled, model=str(tiny_bundle), device="cpu", **CENTRE)
    assert result.frames == 48
    assert not result.failures
    outcomes = {outcome.label: outcome for outcome in result.outcomes}
    assert list(outcomes) == ["halo", "rings", "four_fold"]
    assert outcomes["rings"].kept
    assert outcomes["rings"].adapted > max(0.8, outcomes["rings"].base)
    assert "only 0 positive frames of halo" in str(outcomes["halo"])
    assert "only 3 positive frames of four_fold" in str(outcomes["four_fold"])

    # Found by its name, because it lies where a user's own bundles are.
    assert result.folder == user_models / "tiny-labels"
    adapted = Annotator(result.bundle, device="cpu")
    assert (adapted.identity.name, adapted.identity.version) == ("tiny-labels", "0.0.2")
    truth = np.arange(60) % 3 == 0
    geometry = Geometry(shape=SHAPE, **CENTRE)
    frames = [Frame(shifted(1000 + k, ring=ring), geometry) for k, ring in enumerate(truth)]
    base = Annotator.load(tiny_bundle, device="cpu")
    precision = {
        model: average_precision_score(truth, [a.scores["rings"] for a in model.annotate(frames)])
        for model in (base, adapted)
    }
    assert precision[adapted] > max(0.8, precision[base])
    untouched = [label for label in LABELS if label != "rings"]
    for before, after in zip(base.annotate(frames[:3]), adapted.annotate(frames[:3]), strict=True):
        for label in untouched:
            assert after.scores[label] == pytest.approx(before.scores[label], abs=1e-6)

    assert dvfb("models", "verify", "tiny-labels").status == 0
    shown = dvfb("models", "show", "tiny-labels").stdout
    assert "Rings (adapted)" in shown
    assert "adapted from: tiny 0.0.1" in shown
    assert "| rings | 24 | 24 |" in dvfb("models", "show", "tiny-labels", "--card").stdout

    assert show_adaptation(result)
    assert "rings: average precision" in capfd.readouterr().out
    assert show_adaptation(result, json=True)
    assert [o["label"] for o in json.loads(capfd.readouterr().out)["outcomes"]] == list(outcomes)


def test_the_command_adapts_and_says_what_came_of_it(labelled, tiny_bundle, dvfb, tmp_path):
    words = (labelled, "--model", tiny_bundle, "--center-x", 40.5, "--center-y", 44)
    done = dvfb("adapt", *words, "--bundle", tmp_path / "adapted", "--no-augment", "--device", "cpu")
    assert done.status == 0, done.stderr
    assert "only 3 positive frames of four_fold" in done.stdout + done.stderr
    assert Annotator.load(tmp_path / "adapted").identity.name == "tiny-labels"
    assert "beam centre" in dvfb("adapt", labelled, "--bundle", tmp_path / "other").stderr


def test_each_line_may_have_a_beam_centre_of_its_own(tiny_bundle, tmp_path):
    """The second half of the frames was taken after the detector was moved."""
    lines = ["file,center_x,center_y,rings"]
    for number in range(32):
        center = (40.5, 44.0) if number < 16 else (50.0, 30.0)
        pixels = shifted(number, ring=number % 2 == 1, center=center)
        fabio.tifimage.TifImage(data=pixels).write(str(tmp_path / f"{number}.tif"))
        lines.append(f"{number}.tif,{center[0]},{center[1]},{number % 2}")
    table = tmp_path / "moved.csv"
    table.write_text("\n".join(lines))
    words = {"model": str(tiny_bundle), "device": "cpu", "augment": False}
    moved = adapt_from_csv(table, bundle=tmp_path / "moved", **words)
    (rings,) = moved.outcomes
    assert (rings.positive, rings.negative) == (16, 16)
    # Centres in the table are not those of the options, which only stand in where the table says none.
    again = adapt_from_csv(table, bundle=tmp_path / "again", center_x=0.0, center_y=0.0, **words)
    assert again.outcomes == moved.outcomes
    assert again.bundle.identity.sha256 == moved.bundle.identity.sha256


def test_frames_that_cannot_be_used_cost_a_line_each(tiny_bundle, labelled, tmp_path, capsys):
    lines = labelled.read_text().splitlines()
    folder = labelled.parent
    blank = np.full(SHAPE, -1, dtype=np.int32)
    fabio.tifimage.TifImage(data=blank).write(str(folder / "blank.tif"))
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    table = folder / "faults.csv"
    extra = [
        "blank.tif,,1,,",
        "broken.tif,,1,,",
        "scan.h5::/entry/data,99,1,,",
        "scan.h5::/entry/dada,0,1,,",
    ]
    table.write_text("\n".join(lines + extra))
    result = adapt_from_csv(
        table, model=str(tiny_bundle), device="cpu", augment=False, bundle=tmp_path / "out", **CENTRE
    )
    assert result.frames == 48
    errors = capsys.readouterr().err.splitlines()
    assert result.failures == len(errors) == 4
    for words in ("no valid pixel", "broken.tif", "line 52: .*none with index 99", "entry/dada"):
        assert any(re.search(words, error) for error in errors), (words, errors)
    assert not show_adaptation(result)


def test_a_stack_needs_an_index(tiny_bundle, labelled, tmp_path, capsys):
    table = labelled.parent / "no-index.csv"
    table.write_text("file,rings\nscan.h5::/entry/data,1\n")
    with pytest.raises(SettingsError, match="none of the 1 frames"):
        adapt_from_csv(table, model=str(tiny_bundle), bundle=tmp_path / "out", **CENTRE)
    assert "has 24 frames; say which in the column index" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_nothing_gets_better(tiny_bundle, labelled, tmp_path, capsys):
    table = labelled.parent / "few.csv"
    table.write_text("\n".join(labelled.read_text().splitlines()[:10]))
    result = adapt_from_csv(
        table, model=str(tiny_bundle), bundle=tmp_path / "out", device="cpu", augment=False, **CENTRE
    )
    assert result.bundle is None
    assert not (tmp_path / "out").exists()
    assert not show_adaptation(result)
    shown = capsys.readouterr()
    assert "only 4 positive frames of rings; at least 8 are needed" in shown.out
    assert "no bundle was written" in shown.err


def test_calls_that_cannot_end_well_are_refused_before_work(labelled, tiny_bundle, user_models, tmp_path):
    def adapted(**words):
        return adapt_from_csv(labelled, **{"model": str(tiny_bundle), **CENTRE, **words})

    with pytest.raises(WrongCallError, match=r"line 2 has no beam centre: give --center-x"):
        adapted(center_x=None, center_y=None)
    with pytest.raises(WrongCallError, match="--center-y is missing"):
        adapted(center_y=None)
    with pytest.raises(WrongCallError, match="a bundle's name has letters"):
        adapted(name="../elsewhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="exists already"):
        adapted(bundle=tmp_path / "full")
    with pytest.raises(SettingsError, match="cannot be made"):
        adapted(bundle=tmp_path / "full" / "thesis.tex" / "bundle")
    assert not user_models.exists()


@pytest.fixture
def table_of(tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()

    def write(*lines):
        path = tmp_path / "labels.csv"
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        (["file,rings"], "names no frames"),
        (["file,ring", "a.tif,1"], r"column 'ring', which is no label; did you mean rings\?"),
        (["file,4-fold symetry", "a.tif,1"], r"did you mean four_fold\?"),
        (["file,Rings", "a.tif,1"], r"did you mean rings\?"),
        (["file,texture", "a.tif,1"], "the labels are fixed, no others can be learnt"),
        (["file,rings,rings", "a.tif,1,1"], "the column rings 2 times"),
        (["rings", "1"], "no column 'file'"),
        (["file,index", "a.tif,0"], "no column with a label"),
        (["file,center_x,rings", "a.tif,1,1"], "both center_x and center_y"),
        (["file,rings", "a.tif,1", "c.tif,1"], "line 3: there is no file .*c.tif"),
        (["file,rings", ",1"], "line 2: the file is missing"),
        (["file,rings", ".,1"], "line 2: there is no file"),
        (["file,rings", "a.tif,yes"], "line 2: rings is 'yes'; write 1, 0"),
        (["file,rings", "a.tif,yes", "b.tif,2", "a.tif,3"], "'yes'.*and 2 further lines are wrong"),
        (["file,rings", "a.tif"], "line 2: has 1 cells, but there are 2 columns"),
        (["file,index,rings", "a.tif,-1,1"], "index is '-1'"),
        (["file,index,rings", "a.tif,1.0,1"], "index is '1.0'"),
        (["file,center_x,center_y,rings", "a.tif,1,,1"], "write two numbers"),
        (["file,center_x,center_y,rings", "a.tif,1,nan,1"], "must be finite"),
        (["file,rings", "a.tif,1", "a.tif,0"], "line 3: the same frame as in line 2, but rings is 0 here"),
        (["file,rings", "a.tif,1", "./x/../a.tif,0"], "the same frame as in line 2"),
        (["file,center_x,center_y,rings", "a.tif,1,2,1", "a.tif,1,3,1"], "with another beam centre"),
        (["file,halo,symmetry_halo", "a.tif,0,1"], "symmetry_halo is 1, so that halo cannot be 0"),
        (["file,halo,symmetry_halo", "a.tif,0,", "a.tif,,1"], "so that halo cannot be 0|symmetry_halo is 1 here"),
        (['file,rings', '"a.tif,1'], "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused_with_the_line(table_of, lines, message):
    with pytest.raises(SettingsError, match=message):
        read_label_table(table_of(*lines))


def test_tables_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        read_label_table(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_label_table(tmp_path / "binary.csv")


def test_a_frame_named_twice_is_one_frame_of_which_both_lines_are_known(table_of):
    table = read_label_table(
        table_of("file,index,rings,halo", "a.tif,,1,", "b.tif,,0,0", "a.tif,0,,1", "./a.tif,,1,1")
    )
    assert len(table.frames) == 2
    assert table.repeated == 2
    assert table.frames[0].labels == {"rings": 1, "halo": 1}
    assert table.frames[0].line == 2


def test_what_follows_by_definition_is_known(table_of):
    table = read_label_table(
        table_of("file,rings,symmetry_rings,symmetry_halo", "a.tif,,1,1", "b.tif,0,,", "")
    )
    assert table.frames[0].labels == {"rings": 1, "symmetry_rings": 1, "symmetry_halo": 1}
    assert table.frames[1].labels == {"rings": 0, "symmetry_rings": 0}
    assert table.labels == ("rings", "symmetry_halo", "symmetry_rings")


def test_tables_as_spreadsheets_write_them(tmp_path):
    (tmp_path / "a.tif").touch()
    path = tmp_path / "labels.csv"
    path.write_bytes("\ufefffile;center_x;center_y;rings\r\n a.tif ; 1.5 ; 2 ; 1 \r\n;;;\r\n".encode())
    (frame,) = read_label_table(path).frames
    assert frame.center == (1.5, 2.0)
    assert frame.labels == {"rings": 1}
