"""``dvfb search`` answers from a real Tiled server, and from folders that it does not touch."""

from __future__ import annotations

import csv
import io
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.catalog import TiledSink, embedded_server
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import LABELS

MANY, FEW, NONE = (f"{letter}000{letter}000-0000-4000-8000-000000000000" for letter in "abc")


def store(
    sink: TiledSink,
    raw_uid: str,
    *frames: tuple[str, ...],
    scan_id: int,
    sample: str,
    data_key: str = "image",
    version: str = "1",
    started: float = 0.0,
) -> None:
    """Store an annotated run, each of whose frames shows labels, with a probability of 0.8."""
    identity = ModelIdentity(name="small", version=version, sha256=version * 64)
    run = AnalysisRun(
        {"uid": raw_uid, "time": 1000.0 * scan_id, "scan_id": scan_id, "sample_name": sample},
        stream="primary",
        data_key=data_key,
        provenance={
            "model": {"name": "small", "version": version, "sha256": version * 64},
            "labels": list(LABELS),
        },
        geometry=Geometry(shape=(90, 80), center_x=40.5, center_y=44.0),
        started=1000.0 * scan_id + started,
        described=1000.0 * scan_id,
    )
    sink("start", run.start())
    sink("descriptor", run.descriptor())
    for index, labels in enumerate(frames):
        scores = dict.fromkeys(LABELS, 0.1) | dict.fromkeys(labels, 0.8)
        annotation = Annotation(
            status="ok", model=identity, scores=scores, labels=labels, doubtful=("two_fold",), novelty=0.5
        )
        row = Row(
            index=index,
            time=1000.0 * scan_id + index,
            annotation=annotation,
            geometry=Geometry(shape=(90, 80), center_x=40.5, center_y=44.0),
        )
        sink("event", run.event(row))
    sink("stop", run.stop(1000.0 * scan_id + 10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a catalog with three annotated runs, one with pixels; in `apart`, of one run analysed three times."""
    folder: Path = tmp_path_factory.mktemp("tiled")
    with embedded_server(folder) as root:
        raw = root.create_container(key="raw", specs=list(CATALOG_SPECS))
        of_few = raw.create_container(key=FEW, metadata={"start": {"uid": FEW, "plan_name": "scan"}})
        images = np.random.default_rng(0).poisson(9, (2, 90, 80)).astype(np.uint16)
        of_few.create_container(key="primary").write_array(images, key="image")
        sink = TiledSink(raw)
        store(sink, MANY, *[("four_fold", "halo")] * 5, scan_id=1, sample="lamella")
        store(sink, FEW, ("four_fold",), ("rings",), scan_id=2, sample="=powder")
        store(sink, NONE, ("rings",), scan_id=3, sample="glass\x1b[31m")
        assert sink.close(120)
        sink = TiledSink(root.create_container(key="apart", specs=list(CATALOG_SPECS)))
        for data_key, version, started in (("saxs", "1", 0.0), ("waxs", "1", 0.0), ("waxs", "2", 9.0)):
            store(
                sink,
                MANY,
                ("rings",),
                scan_id=1,
                sample="a",
                data_key=data_key,
                version=version,
                started=started,
            )
        assert sink.close(120)
    return folder


@pytest.fixture(scope="module")
def catalog_uri(folder: Path) -> Iterator[str]:
    """Address, with its key in the environment."""
    with embedded_server(folder) as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILED_API_KEY", root.context.api_key)
        yield root["raw"].uri


def test_a_table_has_runs_newest_first_and_their_labels(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", "four_fold or rings", "--tiled", catalog_uri)
    assert (outcome.status, outcome.stderr) == (0, "")
    heads, _, *rows = (line.split() for line in outcome.stdout.strip().splitlines())
    assert heads == ["run", "scan", "sample", "time", "frames", "found", "four_fold", "best", "four_fold", "rings",
                     "best", "rings"]  # fmt: skip
    assert [row[0] for row in rows] == [NONE[:8], FEW[:8], MANY[:8]]
    assert rows[-1][-6:] == ["5", "5", "5", "0.80", "0", "0.10"]
    assert "\x1b" not in outcome.stdout


@pytest.mark.parametrize("form", [(), ("--frames",)])
def test_lines_of_one_run_say_in_what_they_differ(dvfb, catalog_uri: str, form: tuple[str, ...]) -> None:
    def columns(*options: str) -> dict[str, list[str]]:
        outcome = dvfb(
            "search", "rings", "--tiled", catalog_uri.removesuffix("raw") + "apart", *form, *options
        )
        heads, _, *rows = (re.split(r" {2,}", line.strip()) for line in outcome.stdout.strip().splitlines())
        assert len({tuple(row) for row in rows}) == len(rows) == 3
        return {name: sorted(row[k] for row in rows) for k, name in enumerate(heads) if name in heads[:8]}

    said = columns("--all-models")
    assert said["detector"] == ["saxs", "waxs", "waxs"]
    assert said["model"] == ["small@1", "small@1", "small@2"]
    assert not said.keys() & {"stream", "analysis"}


def test_runs_as_uids_json_csv_and_parquet(dvfb, catalog_uri: str, tmp_path: Path) -> None:
    asked = ("search", "Four-Fold", "--tiled", catalog_uri)
    assert dvfb(*asked, "--uids").stdout.split() == [FEW, MANY]
    assert [
        (row["run_uid"], row["found"], row["four_fold_count"]) for row in dvfb(*asked, "--json").rows
    ] == [
        (FEW, 1, 1),
        (MANY, 5, 5),
    ]
    rows = list(csv.DictReader(io.StringIO(dvfb(*asked, "--csv").stdout)))
    assert [row["scan_id"] for row in rows] == ["2", "1"]
    assert rows[0]["sample_name"] == "'=powder"
    assert dvfb(*asked, "--parquet", tmp_path / "runs.parquet").status == 0
    assert pyarrow.parquet.read_table(tmp_path / "runs.parquet")["found"].to_pylist() == [1, 5]


def test_frames_in_all_forms(dvfb, catalog_uri: str, tmp_path: Path) -> None:
    asked = ("search", "four_fold", "--tiled", catalog_uri, "--frames")
    table = [line.split()[:2] for line in dvfb(*asked).stdout.strip().splitlines()[2:]]
    assert table == [[FEW[:8], "0"], *([MANY[:8], str(k)] for k in range(5))]
    rows = dvfb(*asked, "--json").rows
    assert [(row["run_uid"], row["frame"]) for row in rows][:2] == [(FEW, 0), (MANY, 0)]
    assert rows[0]["grazing"] is None
    assert len(list(csv.DictReader(io.StringIO(dvfb(*asked, "--csv").stdout)))) == 6
    assert dvfb(*asked, "--uids").stdout.split() == [FEW, MANY]
    dvfb(*asked, "--parquet", tmp_path / "frames.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "frames.parquet").num_rows == 6


def test_a_sheet_shows_the_frames(dvfb, catalog_uri: str, tmp_path: Path) -> None:
    outcome = dvfb(
        "search",
        "four_fold or rings",
        "--tiled",
        catalog_uri,
        "--frames",
        "--json",
        "--sheet",
        tmp_path / "a.png",
    )
    assert outcome.status == 0
    assert "contact sheet of 8 of 8 frames" in outcome.stderr
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_which_runs_are_searched(dvfb, catalog_uri: str) -> None:
    def uids(*options: str) -> list[str]:
        return dvfb("search", "four_fold", "--tiled", catalog_uri, "--uids", *options).stdout.split()

    assert uids("--min-frames", "2") == uids("--fraction", "0.6") == [MANY]
    assert uids("--min-score", "0.9") == uids("--model", "other") == []
    assert uids("--since", "1970-01-01T00:30:00+00:00") == [FEW]
    assert uids("--until", "1970-01-01T00:30:00+00:00") == [MANY]
    assert uids("--where", "plan_name == 'scan'") == [FEW]
    assert uids("--all-models", "--source", "human") == [FEW, MANY]


def test_start_documents_are_asked_of_all_raw_runs_below_a_root(dvfb, catalog_uri: str) -> None:
    root = catalog_uri.removesuffix("/raw")
    for below in (root, catalog_uri + "_annotations"):
        asked = ("search", "four_fold", "--tiled", below, "--uids", "--where")
        assert dvfb(*asked, "plan_name == 'scan'").stdout.split() == [FEW]
        assert dvfb(*asked, "plan_name == 'count'").stdout == ""


def test_the_order_of_before_and_doubtful_labels(dvfb, catalog_uri: str) -> None:
    assert dvfb("search", catalog_uri, "four_fold", "--uids").stdout.split() == [FEW, MANY]
    assert len(dvfb("search", "doubtful(two_fold)", "--tiled", catalog_uri, "--uids").stdout.split()) == 3
    assert dvfb("search", "grazing", "--tiled", catalog_uri).status == 0


def test_finding_nothing_is_no_error(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", "six_fold", "--tiled", catalog_uri)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "nothing was found\n")
    outcome = dvfb("search", "six_fold", "--tiled", catalog_uri, "--json")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")


def test_it_imports_tiled_and_nothing_heavier(imported_by, catalog_uri: str) -> None:
    imported = imported_by("search", "four_fold", "--tiled", catalog_uri)
    assert "tiled" in imported
    # Bluesky's clients of catalogs import databroker where it is installed, and what that draws with.
    assert not imported & {"torch", "sklearn"}


def test_an_expression_that_cannot_be_understood_is_shown(dvfb) -> None:
    outcome = dvfb("search", "halo and five_fold", "--tiled", "http://localhost:1")
    assert outcome.status == 2
    *shown, error = outcome.stderr.splitlines()
    assert shown == ["halo and five_fold", "         ^"]
    assert "understood at line 1, column 10: unknown label 'five_fold'; did you mean six_fold" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("halo",), "which catalog? give --tiled"),
        (("halo", "--tiled", "http://a/?api_key=secret"), "TILED_API_KEY"),
        (("halo", "and", "--tiled", "x"), "put quotes around it"),
        (("halo", "--tiled", "x", "--json", "--csv"), "give one of --json and --csv"),
        (("halo", "--tiled", "x", "--source", "cat"), "there are model, human"),
        (("halo", "--tiled", "x", "--min-frames", "0"), "--min-frames"),
        (("halo", "--tiled", "x", "--min-frames", "1" + 21 * "0"), "--min-frames"),
        (("halo", "--tiled", "x", "--min-score", "2"), "--min-score"),
    ],
)
def test_a_wrong_call_is_refused_by_name(dvfb, arguments: tuple[str, ...], said: str) -> None:
    outcome = dvfb("search", *arguments)
    assert outcome.status == 2
    assert said in outcome.errors[-1]
    assert "secret" not in outcome.stderr


def test_a_server_that_is_not_there_is_told_at_once(dvfb_process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Nobody accepts, and nobody answers; then nobody listens at all.
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1"
    begun = time.monotonic()
    outcome = dvfb_process("search", "four_fold", "--tiled", address)
    assert outcome.status == 1
    (error,) = outcome.errors
    assert f"the catalog {address} cannot be opened" in error
    assert time.monotonic() - begun < 40  # with Tiled's ten attempts it takes 45 s, besides the start


def test_what_is_no_catalog_is_none_and_nothing_is_made(dvfb, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "catalog.db").write_text("no database")
    for name in ("empty", "other", "not-there"):
        outcome = dvfb("search", "four_fold", "--tiled", tmp_path / name)
        assert outcome.status == 1
        (error,) = outcome.errors
        assert f"'{tmp_path / name}' is no catalog" in error
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["catalog.db", "empty", "other"]


def test_a_folder_is_searched_and_stays_as_it_was(dvfb, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(folder, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    outcome = dvfb("search", "four_fold and halo", "--tiled", copy, "--frames", "--json")
    assert [row["frame"] for row in outcome.rows] == [0, 1, 2, 3, 4]
    assert outcome.stderr == ""
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
