"""Catalogs that an earlier version has written are read on, and put in order without losing anything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.moving import misplaced_runs, move_run
from dvfb_stream.catalog.old_folder import move_into, runs_in_root
from dvfb_stream.catalog.place import CATALOG_SPECS, find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.catalog.stored_runs import RunState, Stored
from dvfb_stream.errors import SettingsError

from .test_place import take_runs, walk
from .test_sink import as_before
from .test_store import repeat_rows

SCORES = (0.1, 0.9, None, 0.8)


def documents_before(documents: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return documents as earlier versions wrote them: with the raw run's scan_id as if it were their own."""
    start = dict(documents[0][1])
    analysis = dict(start["analysis"])
    return [as_before("start", start | {"analysis": analysis} | analysis.pop("raw")), *(
        as_before(*document) for document in documents[1:]
    )]  # fmt: skip


def write_as_before(catalog: Any, documents: list[tuple[str, dict[str, Any]]]) -> str:
    writer = TiledWriter(catalog, normalizer=None, batch_size=2)
    for name, doc in documents_before(documents):
        writer(name, doc)
    return documents[0][1]["uid"]


@pytest.fixture
def raw(server: Any, request: pytest.FixtureRequest) -> Any:
    parent = server.create_container(request.node.name)
    return parent.create_container("raw", specs=list(CATALOG_SPECS))


def test_runs_of_an_earlier_version_are_found_and_read_where_they_lie(raw, analysis_documents):
    write_as_before(raw, analysis_documents(*SCORES, raw_uid="old"))
    assert find_runs(raw, "rings") == ["old"]
    assert [row["frame"] for row in read_annotations(raw, "old")] == [0, 1, 2, 3]


def test_runs_move_to_their_place_whole_and_the_raw_runs_are_walked_as_if_they_had_never_been(
    raw, analysis_documents
):
    first, second = take_runs(raw, 7, 8)
    before = walk(raw)
    finished = write_as_before(raw, analysis_documents(*SCORES, raw_uid=first))
    unfinished = write_as_before(raw, analysis_documents(*SCORES, raw_uid=second)[:-1])
    table = raw[finished]["annotations"].base["internal"]
    repeat_rows(table, range(3))  # an answer was lost
    rows = read_annotations(raw, first)
    assert (len(raw), raw[7].metadata["start"]["uid"]) == (4, unfinished), "they pass for raw runs"

    found = {run.uid: run for run in misplaced_runs(raw)}
    assert found.keys() == {finished, unfinished}
    assert (found[finished].rows, found[finished].frames, found[finished].complete) == (7, 4, True)
    assert (found[unfinished].parent, found[unfinished].complete) == (second, False)
    for uid in found:
        move_run(raw, uid, AnnotationStore(raw))

    assert walk(raw) == before
    place = find_place(raw)
    assert place[finished]["annotations"]["frame"].read().tolist() == [0, 1, 2, 3]
    np.testing.assert_equal(read_annotations(raw, first), rows)
    stop = place[finished].metadata["stop"]
    assert (stop["summary"]["frames"], stop["summary"]["failed"], stop["summary"]["rings"]["count"]) == (
        4,
        1,
        2,
    )
    assert "measured_order" not in stop["summary"], "the earlier version measured none"
    assert "doubtful" not in stop["summary"]["rings"]
    assert place[finished].metadata["start"]["analysis"]["raw"] == {"scan_id": 7}
    assert not place[unfinished].metadata.get("stop")
    assert list(misplaced_runs(raw)) == []


def test_a_move_that_was_interrupted_goes_on(raw, analysis_documents, monkeypatch):
    uid = write_as_before(raw, analysis_documents(*SCORES, raw_uid="old"))
    with monkeypatch.context() as patch:
        patch.setattr("dvfb_stream.catalog.moving._ROWS_AT_A_TIME", 2)
        patch.setattr(AnnotationStore, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            move_run(raw, uid, AnnotationStore(raw))
    assert [run.uid for run in misplaced_runs(raw)] == [uid]
    move_run(raw, uid, AnnotationStore(raw))
    assert list(misplaced_runs(raw)) == []
    assert len(read_annotations(raw, "old")) == 4
    assert find_runs(raw, "rings") == ["old"]


def test_a_run_without_rows_is_written_with_its_stop_before_the_old_one_is_deleted(raw, analysis_documents):
    """Of a raw run without frames, or of which none came: its stop says so."""
    finished = write_as_before(raw, analysis_documents(raw_uid="no frames"))
    unfinished = write_as_before(raw, analysis_documents(raw_uid="nor an end")[:-1])
    store = AnnotationStore(raw)
    for uid in (finished, unfinished):
        move_run(raw, uid, store)
    assert len(raw) == 0
    place = find_place(raw)
    assert place[finished].metadata["stop"]["summary"]["frames"] == 0
    assert place[finished].metadata["start"]["analysis"]["parent"] == "no frames"
    assert store.state(unfinished).stored is Stored.OPEN


def test_a_run_without_a_descriptor_is_left_where_it_is(raw, analysis_documents):
    start, *_, stop = analysis_documents(raw_uid="nothing")
    uid = write_as_before(raw, [start, stop])
    with pytest.raises(StoreRefusedError, match=r"no descriptor.*lies where it was") as refused:
        move_run(raw, uid, AnnotationStore(raw))
    assert not refused.value.everything
    assert list(raw) == [uid]


def test_a_run_that_is_not_whole_in_its_new_place_is_not_deleted(raw, analysis_documents, monkeypatch):
    uid = write_as_before(raw, analysis_documents(*SCORES, raw_uid="old"))
    monkeypatch.setattr(AnnotationStore, "state", lambda *_: RunState(Stored.COMPLETE, frozenset({0, 1, 3})))
    with pytest.raises(StoreUnavailableError, match="not whole"):
        move_run(raw, uid, AnnotationStore(raw))
    assert list(raw) == [uid]


def test_a_copy_that_an_earlier_move_left_is_not_written_over(tmp_path):
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database, database:
        database.execute("CREATE TABLE nodes (id, parent, key, metadata)")
        database.execute("CREATE TABLE nodes_closure (ancestor, descendant, depth)")
        database.execute("INSERT INTO nodes VALUES (1, 0, 'raw', '{}')")
    (tmp_path / "catalog-before-move.db").write_bytes(b"the first")
    assert move_into(tmp_path, "raw") == 0
    assert (tmp_path / "catalog-before-move.db").read_bytes() == b"the first"
    assert (tmp_path / "catalog-before-move-2.db").exists()


@pytest.mark.parametrize("content", [b"no database at all, " * 100, b""], ids=["broken", "foreign"])
def test_a_folder_whose_catalog_is_none_of_tiled_s_is_refused_by_name(tmp_path, content):
    (tmp_path / "catalog.db").write_bytes(content)
    for call in (lambda: runs_in_root(tmp_path), lambda: move_into(tmp_path, "raw")):
        with pytest.raises(SettingsError, match=r"catalog\.db cannot be read"):
            call()
