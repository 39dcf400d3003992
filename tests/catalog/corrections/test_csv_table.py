"""A table of corrections is read line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvfb_stream.catalog.corrections.csv_table import labels_in, read_corrections_table
from dvfb_stream.catalog.corrections.wanted import CorrectionsRefusedError, WantedCorrection
from dvfb_stream.errors import SettingsError


def read(tmp_path: Path, text: str | bytes) -> list[WantedCorrection]:
    path = tmp_path / "said.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_corrections_table(path)


@pytest.mark.parametrize(
    "text",
    [
        "run,frame,add,remove\n7,3,rings halo,weak\n",
        "\ufeffrun;frame;add;remove\r\n7;3;rings, halo;weak\r\n",
        'Run,Frame,Remove,Add\n\n7,3,weak,"rings,halo"\n,,,\n',
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path, text):
    (one,) = read(tmp_path, text)
    assert (one.run, one.frame, one.add, one.remove) == ("7", 3, ["rings", "halo"], ["weak"])


def test_a_line_may_name_detector_model_and_reason(tmp_path):
    (one,) = read(tmp_path, "run,frame,add,note,stream,data_key,model\n-1,0,rings,why,primary,saxs,small\n")
    assert one == WantedCorrection(
        run="-1", frame=0, add=["rings"], remove=[], note="why",
        stream="primary", data_key="saxs", model="small", line=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty; it needs a line of column names: run, frame, add, remove"),
        ("run,frame,add\n", "names no frames"),
        ("run,add\n1,rings\n", "has no column 'frame'; it has run, add"),
        ("run,frame\n1,2\n", "neither a column 'add' nor 'remove'"),
        ("run,frame,ad\n1,2,rings\n", "column 'ad'; did you mean add?"),
        ("run,frame,add,add\n1,2,rings,\n", "the column add 2 times"),
        (b"run,frame,add\n1,2,\xff\n", "cannot be read"),
        ('run,frame,add\n1,2,"rings\n', "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, reason):
    with pytest.raises(SettingsError, match=reason.replace("?", r"\?")):
        read(tmp_path, text)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.csv cannot be read .* No such file"):
        read_corrections_table(tmp_path / "nowhere.csv")


def test_all_wrong_lines_are_told(tmp_path):
    text = "run,frame,add\n1,2\n,3,rings\n1,x,rings\n1,-1,rings\n1,4,rings\n1,99999999999999999999,rings\n"
    with pytest.raises(CorrectionsRefusedError, match="line 2: has 2 cells, but there are 3") as refused:
        read(tmp_path, text)
    assert [line for line, _ in refused.value.problems] == [2, 3, 4, 5, 7]


def test_labels_are_written_one_after_the_other():
    assert labels_in(" Four-Fold, halo;rings|weak+empty  ") == ["four_fold", "halo", "rings", "weak", "empty"]
    assert labels_in("") == []
