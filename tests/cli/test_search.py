"""``dvfb search`` answers from a real Tiled server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvfb_stream.catalog import embedded_server


@pytest.fixture(scope="module")
def catalog_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address, with its key in the environment, of a catalog with three annotated runs."""
    folder: Path = tmp_path_factory.mktemp("tiled")
    with embedded_server(folder) as client, pytest.MonkeyPatch.context() as patch:
        for uid, frames in (("many", 5), ("few", 1), ("none", 0)):
            client.create_container(
                key=f"annotation-{uid}",
                metadata={
                    "start": {"analysis": {"kind": "dvfb-annotation", "parent": uid}},
                    "stop": {
                        "summary": {"frames": 9, "four_fold": {"count": frames, "doubtful": 5 - frames}}
                    },
                },
            )
        patch.setenv("TILED_API_KEY", client.context.api_key)
        yield client.uri


def test_runs_are_printed_one_a_line(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", catalog_uri, "four_fold")
    assert outcome.status == 0
    assert outcome.stderr == ""
    assert sorted(outcome.stdout.split()) == ["few", "many"]


def test_min_frames_and_json(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", catalog_uri, "Four-Fold", "--min-frames", 2, "--json")
    assert outcome.rows == [{"label": "four_fold", "min_frames": 2, "doubtful": False, "runs": ["many"]}]


def test_runs_to_look_at_are_those_with_doubtful_frames(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", catalog_uri, "four_fold", "--doubtful")
    assert (outcome.status, sorted(outcome.stdout.split())) == (0, ["few", "none"])
    outcome = dvfb("search", catalog_uri, "four_fold", "--doubtful", "--min-frames", 5, "--json")
    assert outcome.rows == [{"label": "four_fold", "min_frames": 5, "doubtful": True, "runs": ["none"]}]


def test_further_labels_are_searched_like_the_ten(dvfb, catalog_uri: str) -> None:
    assert dvfb("search", catalog_uri, "grazing").status == 0


def test_finding_nothing_is_no_error(dvfb, catalog_uri: str) -> None:
    outcome = dvfb("search", catalog_uri, "halo")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")


def test_an_unknown_label_is_answered_with_the_known_ones(dvfb) -> None:
    outcome = dvfb("search", "http://localhost:1", "five_fold")
    assert outcome.status == 2
    assert "unknown label 'five_fold', did you mean six_fold? there are diffuse_low_q" in outcome.errors[0]


@pytest.mark.parametrize("number", ["1e21", "1" + 21 * "0", "0", "-3"])
def test_a_number_of_frames_without_sense_is_refused_by_name(dvfb, number: str) -> None:
    outcome = dvfb("search", "http://localhost:1", "halo", "--min-frames", number)
    assert outcome.status == 2
    (error,) = outcome.errors
    assert "--min-frames" in error


def test_a_server_that_is_not_there(dvfb_process) -> None:
    outcome = dvfb_process("search", "http://127.0.0.1:1/api/v1", "four_fold")
    assert outcome.status == 1
    (error,) = outcome.errors
    assert "the catalog http://127.0.0.1:1/api/v1 cannot be opened" in error


def test_neither_an_address_nor_a_folder(dvfb) -> None:
    outcome = dvfb("search", "four_fold", "rings")
    assert outcome.status == 1
    (error,) = outcome.errors
    assert "no catalog 'four_fold'" in error
    assert "dvfb search CATALOG LABEL" in error


def test_it_imports_tiled_and_nothing_heavier(imported_by, catalog_uri: str) -> None:
    imported = imported_by("search", catalog_uri, "four_fold")
    assert "tiled" in imported
    assert not imported & {"torch", "scipy", "sklearn", "matplotlib", "bluesky", "databroker"}
