"""``dvfb annotate --tiled``: a catalog's raw runs, as somebody at a terminal annotates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from event_model import compose_run

from dvfb_stream.catalog import embedded_server, read_annotations
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.errors import SettingsError

from .conftest import SHAPE, Outcome, pattern

pytestmark = pytest.mark.usefixtures("forked_services")

GEOMETRY = ("--data-key", "image", "--center-x", 40.5, "--center-y", 44, "--model", "tiny", "--device", "cpu")


def write_run(raw: Any, sample: str, *frames: np.ndarray) -> str:
    writer = TiledWriter(raw)
    run = compose_run(metadata={"sample_name": sample})
    writer("start", run.start_doc)
    image = {"source": "camera", "dtype": "array", "dtype_numpy": "<f8", "shape": list(SHAPE)}
    stream = run.compose_descriptor(name="primary", data_keys={"image": image})
    writer("descriptor", stream.descriptor_doc)
    for frame in frames:
        writer("event", stream.compose_event(data={"image": frame.tolist()}, timestamps={"image": 1.0}))
    writer("stop", run.compose_stop())
    return str(run.start_doc["uid"])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Client of three raw runs, their server's key in the environment."""
    with embedded_server(tmp_path_factory.mktemp("tiled")) as client, pytest.MonkeyPatch.context() as patch:
        client.create_container(key="raw", specs=list(CATALOG_SPECS))
        patch.setenv("TILED_API_KEY", client.context.api_key)
        patch.delenv("DVFB_BEAMLINE", raising=False)
        yield client["raw"]


@pytest.fixture(scope="module")
def uids(raw: Any) -> list[str]:
    frames = [np.abs(pattern(seed)).astype(float) for seed in range(4)]
    dark = np.full(SHAPE, np.nan)
    return [
        write_run(raw, "lamella", frames[0], frames[1]),
        write_run(raw, "water", frames[2], dark),
        write_run(raw, "lamella", frames[3]),
    ]


@pytest.fixture
def annotate(dvfb: Callable[..., Outcome], raw: Any, uids: list[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        return dvfb("annotate", "--tiled", raw.uri, *GEOMETRY, "--json", *arguments)

    return run


def test_runs_are_annotated_once_and_passed_over_then(annotate, raw: Any, uids: list[str]) -> None:
    (first,) = annotate("--where", "sample_name == 'lamella'").rows
    assert (first["runs"], first["annotated"], first["rows"]) == (2, 2, {"ok": 3})
    outcome = annotate()
    (rest,) = outcome.rows
    assert outcome.status == 1, "a frame failed"
    assert (rest["runs"], rest["annotated"], rest["passed_over"]) == (3, 1, 2)
    assert rest["rows"] == {"ok": 1, "failed": 1}
    (again,) = annotate("--only", "failed,dropped", "--uid", uids[1][:8]).rows
    assert (again["annotated"], again["rows"], again["replaced"]) == (1, {"ok": 1, "failed": 1}, 0)
    assert [row["status"] for uid in uids for row in read_annotations(raw, uid)].count("ok") == 4


def test_another_geometry_is_told_and_changes_nothing_unless_asked(
    annotate, raw: Any, uids: list[str]
) -> None:
    elsewhere = ("--uid", uids[0], "--center-x", 30)
    outcome = annotate(*elsewhere)
    if outcome.rows[0]["annotated"]:  # where this test runs alone
        outcome = annotate("--uid", uids[0])
        elsewhere = ("--uid", uids[0])
    assert outcome.rows[0]["other_geometry"] == 1
    assert "--again makes an analysis with this one beside them" in outcome.stderr
    assert len({row["center_x"] for row in read_annotations(raw, uids[0])}) == 1
    (again,) = annotate(*elsewhere, "--again").rows
    assert (again["annotated"], again["beside"], again["replaced"]) == (1, 1, 0)
    assert {row["center_x"] for row in read_annotations(raw, uids[0])} == {30, 40.5}
    (same,) = annotate(*elsewhere, "--again").rows
    assert (same["annotated"], same["passed_over"]) == (0, 1)


def test_arrays_are_kept_where_they_are_asked_for_and_added_where_somebody_insists(
    annotate, raw: Any, uids: list[str], tmp_path: Path
) -> None:
    annotate("--uid", uids[2])
    uid = read_annotations(raw, uids[2])[0]["analysis_uid"]
    outcome = annotate("--uid", uids[2], "--arrays", "features, coefficients")
    assert outcome.rows[0]["without_arrays"] == 1
    assert "1 of the runs that were passed over are annotated without these arrays; --again" in outcome.stderr
    with pytest.raises(SettingsError, match="keeps no 'features', but no arrays"):
        read_array(raw, uid, "features")
    assert annotate("--uid", uids[2], "--arrays", "features,coefficients", "--again").rows[0]["replaced"] == 1
    frames, coefficients = read_array(raw, uid, "coefficients")
    assert frames.tolist() == [0]
    assert coefficients.shape == (1, 40, 11, 2)
    assert np.isfinite(coefficients).all()
    assert np.isfinite(read_array(raw, uid, "features")[1]).all()
    outcome = annotate("--uid", uids[2], "--arrays", "features")
    assert (outcome.rows[0]["passed_over"], outcome.rows[0]["without_arrays"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--arrays", "feature"),
            "unknown array 'feature', did you mean features? there are coefficients, features",
        ),
        (("--uid", "00000000"), "there is no raw run with the uid '00000000'"),
        (("--where", "sample_name == water"), "at character 16 ('water')"),
        (("--where", "sample_name == 'oil'"), "no raw run in"),
        (("--until", "1990-01-01"), "no raw run in"),
        (("--only", "late"), "unknown status 'late'"),
        (("--only", "failed", "--again"), "give one of --only and --again"),
        (("--plot", "x.png"), "give no FILES"),
        (("--allowed-root", "/proc"), "a folder of data, such as /data, not '/proc'"),
        (("frame.tif",), "give no FILES"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(annotate, arguments: tuple[str, ...], said: str) -> None:
    outcome = annotate(*arguments)
    assert outcome.status > 0
    assert said in outcome.errors[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tiled", "nowhere", *GEOMETRY), "neither an address"),
        (("--tiled", "http://127.0.0.1:1/?api_key=secret", *GEOMETRY), "TILED_API_KEY"),
        (("--tiled", "http://127.0.0.1:1"), "which data key is a detector"),
        (("--uid", "1234567", "frame.tif"), "need --tiled"),
        (("--allowed-root", "/data", "frame.tif"), "--allowed-root, --only"),
        (("--arrays", "features", "frame.tif"), "--arrays and --workers need --tiled"),
        ((), "give detector files, or --tiled URI"),
    ],
)
def test_what_cannot_be_begun_is_said_in_a_line(
    dvfb, arguments: tuple[object, ...], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVFB_BEAMLINE", raising=False)
    outcome = dvfb("annotate", *arguments)
    assert outcome.status > 0
    assert said in outcome.errors[0]
    assert "secret" not in outcome.stderr


def test_a_server_that_does_not_answer_is_named(dvfb_process) -> None:
    outcome = dvfb_process("annotate", "--tiled", "http://127.0.0.1:1/api/v1", *GEOMETRY)
    assert outcome.status == 1
    assert "the catalog http://127.0.0.1:1/api/v1 cannot be opened" in outcome.stderr
