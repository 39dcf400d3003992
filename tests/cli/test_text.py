"""Text of the world: names that are no UTF-8, terminals that have few characters, readers that have gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CENTRE

COMMAND = (sys.executable, "-c", "from dvfb_stream.cli import main; main()")


def run(
    *words: object, stdout: object = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *(os.fsencode(str(word)) for word in words)],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_a_terminal_of_few_characters_gets_similar_ones(environment: dict[str, str]) -> None:
    for words in (("--help",), ("models", "show"), ("tables", "4")):
        done = run(*words, **environment)
        assert (done.returncode, done.stderr) == (0, b""), words
        done.stdout.decode("ascii" if "latin" not in str(environment) else "latin-1")


def test_a_name_that_is_no_utf8_is_written_as_it_is(files, tiny_bundle: Path, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/frame-\xff-\xe9.tif")
    shutil.copy(files["a.tif"], name)
    words = ("annotate", name, *CENTRE, "--model", tiny_bundle)
    rows, figure = tmp_path / "rows.csv", tmp_path / "frame.png"
    table, drawn = run(*words), run(*words, "--output", rows, "--plot", figure)
    for done in (table, drawn):
        assert done.returncode == 0, done.stderr
    assert b"frame-\xff-\xe9.tif" in table.stdout
    assert b"frame-\xff-\xe9.tif" in rows.read_bytes()
    assert figure.read_bytes().startswith(b"\x89PNG")
    absent = run("annotate", name, name + ".gone", *words[2:], "--json")
    assert absent.returncode == 1
    (row,) = map(json.loads, absent.stdout.splitlines())
    assert os.fsencode(row["file"]).endswith(b"frame-\xff-\xe9.tif")
    assert absent.stderr.count(b"\n") == 1
    assert b"frame-\xff-\xe9.tif.gone" in absent.stderr


def test_a_reader_that_has_gone_is_no_error_to_tell() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run("models", "show", stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_stdout_is_not_mistaken_for_a_file() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *COMMAND, "models"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = run("models", "show", stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "dvfb: error: input or output failed: No space left on device"
    ]


def test_a_terminal_of_60_columns_cuts_no_number(dvfb, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = dvfb("tables", "2").stdout.split()
    monkeypatch.setenv("COLUMNS", "60")
    for table in ("1", "2", "4"):
        assert "\N{HORIZONTAL ELLIPSIS}" not in dvfb("tables", table).stdout
    narrow = dvfb("tables", "2").stdout.split()
    numbers = [word for word in wide if word.replace(".", "").isdigit()]
    assert len(numbers) > 70
    assert sorted(numbers) == sorted(word for word in narrow if word.replace(".", "").isdigit())
    for line in dvfb("models", "show").stdout.splitlines():
        if line.startswith(" "):
            assert len(line) <= 60


def test_flags_show_no_value_and_options_what_it_means(dvfb, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        "annotate",
        "search",
        "demo",
        "adapt",
        "evaluate",
        "novelty",
        "train",
        "simulate",
        "reproduce",
    ):
        shown = dvfb(command, "--help").stdout
        for kind in ("<bool>", "<int>", "<float>", "<str>", "<Path>"):
            assert kind not in shown, command
