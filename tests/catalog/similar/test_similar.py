"""Frames that look like one are found in what real servers have stored."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from dvfb_stream.catalog import similar
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.cache_folder import cache_folder
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.similar_frames import SimilarFrame, stored_features
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.cli import main
from dvfb_stream.errors import SettingsError

from ..test_store import Run

WIDTH = 24
SCORES = (0.1, 0.9, None, 0.8)
"""Frame 2 failed."""


def features(seed: int, frame: int) -> np.ndarray:
    """Return those of a frame, in a direction of its own."""
    return np.random.default_rng((seed, frame)).normal(size=WIDTH).astype("<f4")


class Storing:
    """Stores annotated runs whose frames have features."""

    def __init__(self, container: Any, analysis_documents: Any) -> None:
        self._container, self._documents = container, analysis_documents

    def __call__(
        self,
        raw_uid: str,
        seed: int,
        *,
        frames: range | None = None,
        finish: bool = True,
        with_features: bool = True,
        replace_by: int | None = None,
        uid: str | None = None,
        container: Any = None,
        **description: str,
    ) -> Run:
        run = Run(self._documents(*SCORES, raw_uid=raw_uid, **description))
        if uid is not None:
            run.uid = run.start["uid"] = run.descriptor["run_start"] = run.stop["run_start"] = uid
        run.start["analysis"]["raw"] = {"scan_id": seed, "sample_name": f"sample {seed}"}
        if with_features:
            run.descriptor["data_keys"]["features"] = {
                "source": "dvfb_stream", "dtype": "array", "shape": [WIDTH], "dtype_numpy": "<f4",
            }  # fmt: skip
            for event in run.events:
                frame = event["data"]["frame"]
                failed = event["data"]["status"] != "ok"
                direction = features(seed, frame) if replace_by is None else features(replace_by, 0)
                event["data"]["features"] = np.full(WIDTH, np.nan, "<f4") if failed else direction
                event["timestamps"]["features"] = event["time"]
        store = AnnotationStore(self._container if container is None else container)
        if replace_by is None:
            run.write(store, *(frames or range(len(SCORES))))
        else:
            store.replace(run.start, run.descriptor, run.events)
        if finish:
            run.finish(store)
        return run


@pytest.fixture
def stored(client, analysis_documents):
    return Storing(client, analysis_documents)


@pytest.fixture(scope="module")
def catalog(server, analysis_documents):
    """Container that no test changes: three runs, one of them with two detectors, and some without features."""
    catalog = server.create_container(key="similar")
    catalog.create_container("raw-0-of-people", metadata={"start": {"uid": "raw-0-of-people", "scan_id": 12}})
    stored = Storing(catalog, analysis_documents)
    for number, raw_uid in enumerate(("raw-0-of-people", "raw-1", "raw-2")):
        stored(raw_uid, number)
    stored("raw-2", 3, data_key="waxs")
    stored("without", 4, with_features=False)
    stored("partly", 5, frames=range(2), finish=False, with_features=False)
    stored("partly", 5)
    catalog.create_container("raw-5-alone", metadata={"start": {"uid": "raw-5-alone", "scan_id": 5}})
    return catalog


DIRECTIONS = {
    **{("raw-0-of-people", "image", k): (0, k) for k in (0, 1, 3)},
    **{("raw-1", "image", k): (1, k) for k in (0, 1, 3)},
    **{("raw-2", "image", k): (2, k) for k in (0, 1, 3)},
    **{("raw-2", "waxs", k): (3, k) for k in (0, 1, 3)},
    ("partly", "image", 3): (5, 3),
}
"""What `catalog` has features of."""


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """uids of the analysis runs whose features are read from the server."""
    uids: list[str] = []

    def read(client, uid, *given):
        uids.append(uid)
        return read_array(client, uid, *given)

    monkeypatch.setattr(stored_features, "read_array", read)
    return uids


@pytest.fixture
def no_index_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("DVFB_CACHE", str(tmp_path / "caches"))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def nearest(asked: tuple[str, str, int], without_run: str = "") -> dict[tuple[str, str, int], float]:
    """Return all other frames of `catalog` with their cosines, the most similar first."""
    known = {one: cosine(features(*DIRECTIONS[asked]), features(*DIRECTIONS[one])) for one in DIRECTIONS}
    return {
        one: known[one]
        for one in sorted(known, key=known.__getitem__, reverse=True)
        if one != asked and one[0] != without_run
    }


def places(frames: list[SimilarFrame]) -> list[tuple[str, str, int]]:
    return [(one.raw_uid, one.data_key, one.frame) for one in frames]


def test_frames_of_all_runs_are_found_the_most_similar_first(catalog):
    expected = nearest(("raw-1", "image", 3))
    frames = similar(catalog, "raw-1", 3, n=50)
    assert places(frames) == list(expected)
    assert [one.cosine for one in frames] == pytest.approx(list(expected.values()), abs=2e-3)
    first = frames[0]
    analysis = find_place(catalog)[first.analysis_uid].metadata["start"]["analysis"]
    assert (analysis["parent"], analysis["data_key"]) == (first.raw_uid, first.data_key)
    assert first.scan_id == DIRECTIONS[first.raw_uid, first.data_key, first.frame][0]
    assert (first.sample_name, first.stream) == (f"sample {first.scan_id}", "primary")
    assert places(similar(catalog, "raw-1", 3, 2)) == list(expected)[:2]
    assert places(similar(find_place(catalog), "raw-1", np.int64(3), 2)) == list(expected)[:2]
    without = nearest(("raw-1", "image", 3), without_run="raw-1")
    assert places(similar(catalog, "raw-1", 3, 50, other_runs_only=True)) == list(without)


def test_of_several_detectors_one_is_named(catalog):
    with pytest.raises(
        SettingsError, match="'image' of stream 'primary', 'waxs' of stream 'primary'; say which"
    ):
        similar(catalog, "raw-2", 0)
    expected = nearest(("raw-2", "waxs", 0))
    assert places(similar(catalog, "raw-2", 0, 50, data_key="waxs")) == list(expected)
    with pytest.raises(SettingsError, match="say which with data_key"):
        similar(catalog, "raw-2", 0, data_key="saxs")


def test_runs_are_named_as_people_do(catalog):
    expected = list(nearest(("raw-0-of-people", "image", 0)))[:3]
    for name in ("raw-0-of-people", "raw-0", 12, "12", -2, "-2"):
        assert places(similar(catalog, name, 0, 3)) == expected


@pytest.mark.parametrize(
    ("run", "frame", "n", "message"),
    [
        ("raw-1", 4, 10, "'image' of run raw-1 has no annotated frame 4; the last one is 3"),
        ("raw-1", 2, 10, "frame 2 of 'image' of run raw-1 has no features, since it was not annotated: nothing is"),
        ("raw-1", -1, 10, "frames count from 0; there is no frame -1"),
        ("raw-1", 0.5, 10, "frame and n are integers, not 0.5 and 10"),
        ("raw-1", 0, 0, "n must be from 1 to 10000, not 0"),
        ("without", 0, 10, r'no features are stored, only annotations; store them .*arrays=."features",'),
        ("partly", 1, 10, "frame 1 of 'image' of run partly was annotated when nobody asked for features"),
        ("raw-nobody", 0, 10, "there is no raw run with the uid 'raw-nobody'"),
        ("nope", 0, 10, "'nope' names no run"),
        (5, 0, 10, r"run raw-5-alone is not annotated, .* --uid raw-5-alone --arrays features"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_told(catalog, run, frame, n, message):
    with pytest.raises(SettingsError, match=message):
        similar(catalog, run, frame, n)


def test_features_of_other_models_are_not_asked_for(catalog):
    with pytest.raises(SettingsError, match="model 'huge' has no features of run raw-1, but small 1"):
        similar(catalog, "raw-1", 0, model="huge")
    for model in ("small", "000000"):
        assert len(similar(catalog, "raw-1", 0, 3, model=model)) == 3


def test_where_no_index_can_be_kept_it_is_told(catalog, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DVFB_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match=r"the index of features cannot be kept .* in DVFB_CACHE"):
        similar(catalog, "raw-1", 0)


@pytest.mark.usefixtures("no_index_yet")
def test_progress_is_told_and_a_damaged_index_is_made_anew(catalog, caplog):
    told: list[tuple[str, int, int]] = []
    frames = similar(catalog, "raw-1", 0, progress=lambda *what: told.append(what))
    assert told == [("features of runs", 0, 5), ("features of runs", 5, 5)]
    for path in (cache_folder(find_place(catalog)) / "features").rglob("*.outlines"):
        path.write_bytes(b"\0" * path.stat().st_size)
    with caplog.at_level(logging.WARNING):
        assert similar(catalog, "raw-1", 0) == frames
    assert "is damaged" in caplog.text


def test_only_what_is_new_is_read_and_what_is_gone_is_left_out(client, stored, reads):
    ours, other = stored("raw-0", 0), stored("raw-1", 1)
    similar(client, "raw-0", 0)
    assert sorted(reads) == sorted([ours.uid, ours.uid, other.uid]), "the frame, and both runs"
    reads.clear()
    new = stored("raw-2", 2)
    assert len(similar(client, "raw-0", 0)) == 8
    assert reads == [ours.uid, new.uid]
    reads.clear()
    find_place(client).delete_contents(other.uid, recursive=True, external_only=False)
    assert {one.raw_uid for one in similar(client, "raw-0", 0)} == {"raw-0", "raw-2"}
    assert reads == [ours.uid], "the frame alone"


def test_a_run_that_goes_on_is_read_as_it_grows_and_again_when_its_rows_are_replaced(client, stored):
    stored("raw-0", 0)
    for frames, known in ((range(2), 2), (range(2, 4), 3)):
        stored("raw-1", 1, frames=frames, finish=False)
        assert sum(one.raw_uid == "raw-1" for one in similar(client, "raw-0", 0)) == known
    stored("raw-1", 1)
    assert sorted(places(similar(client, "raw-0", 0))) == [
        *(("raw-0", "image", k) for k in (1, 3)),
        *(("raw-1", "image", k) for k in (0, 1, 3)),
    ]
    stored("raw-1", 1, replace_by=0)
    same = [one for one in similar(client, "raw-0", 0) if one.cosine > 0.9999]
    assert sorted(places(same)) == [("raw-1", "image", k) for k in (0, 1, 3)]


def test_of_two_analyses_of_the_same_frames_by_one_model_the_newest_counts(client, stored):
    stored("raw-0", 0)
    stored("raw-1", 1)
    assert len(similar(client, "raw-1", 0)) == 5
    newer = stored("raw-1", 6, uid="b6b23d1e-9f43-4b53-a0a3-0a4a3c1d6f2a")
    frames = similar(client, "raw-1", 0)
    directions = {
        ("raw-0", 1): (0, 1),
        ("raw-0", 0): (0, 0),
        ("raw-0", 3): (0, 3),
        ("raw-1", 1): (6, 1),
        ("raw-1", 3): (6, 3),
    }
    assert {(one.raw_uid, one.frame) for one in frames} == set(directions)
    assert {one.analysis_uid for one in frames if one.raw_uid == "raw-1"} == {newer.uid}
    for one in frames:
        exact = cosine(features(6, 0), features(*directions[one.raw_uid, one.frame]))
        assert one.cosine == pytest.approx(exact, abs=2e-3)


def test_places_of_a_beamline_are_searched_together(client, stored):
    one, other = (client.create_container(key) for key in ("one", "other"))
    stored("raw-0", 0, container=one)
    stored("raw-1", 1, container=other)
    assert {found.raw_uid for found in similar(client, "raw-0", 0)} == {"raw-0", "raw-1"}
    assert {found.raw_uid for found in similar(one, "raw-0", 0)} == {"raw-0"}


@pytest.fixture
def dvfb(monkeypatch, capsys, catalog):
    """Run the command on the catalog, and return its status, lines of stdout and of stderr."""

    def run(*arguments: Any) -> tuple[int, list[str], list[str]]:
        monkeypatch.setenv("TILED_API_KEY", catalog.context.api_key)
        with pytest.raises(SystemExit) as left:
            main(["similar", "--tiled", catalog.uri, *map(str, arguments)])
        said = capsys.readouterr()
        return left.value.code, said.out.splitlines(), said.err.splitlines()

    return run


def test_the_command_prints_them(dvfb):
    expected = list(nearest(("raw-1", "image", 3)))[:4]
    status, lines, errors = dvfb("raw-1", 3, "-n", 4)
    assert (status, errors) == (0, [])
    head, _, *rows = [line for line in lines if line.strip()]
    assert head.split() == ["raw", "run", "frame", "cosine", "detector", "scan", "sample"]
    assert [(row.split()[0], row.split()[3], int(row.split()[1])) for row in rows] == expected
    status, lines, _ = dvfb("raw-1", 3, "-n", 4, "--other-runs", "--json")
    found = [json.loads(line) for line in lines]
    without = list(nearest(("raw-1", "image", 3), without_run="raw-1"))[:4]
    assert [(one["raw_uid"], one["data_key"], one["frame"]) for one in found] == without
    assert dvfb("-2", 0, "-n", 1, "--json")[0] == 0


def test_the_command_says_what_is_wrong_in_a_line(dvfb):
    for arguments, message in (
        (("without", 0), "no features are stored"),
        (("raw-1", 7), "has no annotated frame 7"),
        (("raw-2", 0), "say which with data_key"),
        (("nobody-knows", 0), "there is no raw run with the uid 'nobody-knows'"),
    ):
        status, lines, (error,) = dvfb(*arguments)
        assert (status, lines) == (1, [])
        assert error.startswith("dvfb: error: ")
        assert message in error
