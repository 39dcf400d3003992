"""Rows become better where somebody asks for it, and what they were before can be seen."""

from __future__ import annotations

from typing import Any

import pytest

from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreUnavailableError

from .test_store import Cut

BEFORE = (0.1, None, 0.9, None, None, 0.2)
AFTER = (0.6, 0.7, 0.4, 0.8, 0.1, 0.6)
"""Of the same frames; where there was no row before, or none that said anything, there is one now."""


class Run:
    """Two annotations of one raw run."""

    def __init__(self, before: list[tuple[str, dict[str, Any]]], after: list[tuple[str, dict[str, Any]]]):
        self.start, self.descriptor, *self.before, self.stop = (doc for _, doc in before)
        _, _, *self.after, _ = (doc for _, doc in after)
        self.uid = self.start["uid"]

    def store_before(self, store: AnnotationStore) -> None:
        store.write(self.start, self.descriptor, self.before)
        store.finish(self.start, self.descriptor, self.stop)

    def replace(self, store: AnnotationStore, *frames: int) -> dict[str, Any]:
        store.replace(self.start, self.descriptor, [self.after[frame] for frame in frames])
        return store.finish(self.start, self.descriptor, self.stop)

    def expected(self, *frames: int) -> list[Any]:
        return [(self.after if n in frames else self.before)[n]["data"]["rings"] for n in range(len(BEFORE))]

    def rings(self, client: Any) -> list[Any]:
        return [row["rings"] for row in read_annotations(client, "raw-1")]


@pytest.fixture
def run(analysis_documents) -> Run:
    return Run(analysis_documents(*BEFORE), analysis_documents(*AFTER))


def test_rows_of_failed_frames_are_replaced_and_counted(run, client):
    store = AnnotationStore(client)
    run.store_before(store)
    assert find_runs(client, "rings", min_frames=3) == []
    summary = run.replace(store, 1, 3, 4)["summary"]
    assert summary["failed"] == 0
    assert summary["rings"]["count"] == 3
    assert summary["reannotated"] == 3
    assert run.rings(client) == pytest.approx(run.expected(1, 3, 4))
    assert find_runs(client, "rings", min_frames=3) == ["raw-1"]
    stored = find_place(client)[run.uid]
    assert stored.metadata["reannotated"] == {"failed": [[1, 2], [3, 5]]}
    assert stored.metadata["stop"]["summary"] == summary
    assert stored["annotations"]["frame"].read().tolist() == list(range(6))


def test_replacing_once_more_adds_to_what_is_kept(run, client):
    store = AnnotationStore(client)
    run.store_before(store)
    run.replace(store, 1)
    assert run.replace(store, 1, 2, 3)["summary"]["reannotated"] == 3
    kept = find_place(client)[run.uid].metadata["reannotated"]
    assert kept == {"failed": [[1, 2], [3, 4]], "ok": [[1, 3]]}
    assert run.rings(client) == pytest.approx(run.expected(1, 2, 3), nan_ok=True)


def test_a_replaced_run_tells_the_geometry_of_its_rows_and_the_one_before(run, client):
    store = AnnotationStore(client)
    run.store_before(store)
    before = run.start["analysis"]["geometry"]
    moved = before | {"center_x": 1.25}
    run.start = run.start | {"analysis": run.start["analysis"] | {"geometry": moved}}
    run.replace(store, 1, 3)  # the other rows have the old one
    assert find_place(client)[run.uid].metadata["start"]["analysis"]["geometry"] == before
    run.replace(store, *range(6))
    stored = find_place(client)[run.uid].metadata
    assert stored["start"]["analysis"]["geometry"] == moved
    assert stored["earlier_geometries"] == [before]


@pytest.mark.parametrize("answered", [False, True])
def test_whatever_request_or_answer_is_lost_the_same_call_again_completes_it(
    client, analysis_documents, answered
):
    for number in range(1, 90, 7):
        raw_uid = f"{number} {answered}"
        run = Run(analysis_documents(*BEFORE, raw_uid=raw_uid), analysis_documents(*AFTER, raw_uid=raw_uid))
        run.store_before(AnnotationStore(client))
        with Cut(client) as cut:
            cut.answered, cut.left = answered, number
            store = AnnotationStore(client)
            try:
                run.replace(store, 1, 3, 4)
            except StoreUnavailableError:
                stored = find_place(client)[run.uid].metadata
                summary = (stored.get("stop") or {}).get("summary")
                assert summary is None or summary["failed"] in (0, 3), "of rows from before and of new ones"
                run.replace(store, 1, 3, 4)
            is_beyond_the_last = cut.left > 0
            store.close()
        rows = read_annotations(client, raw_uid)
        assert [row["rings"] for row in rows] == pytest.approx(run.expected(1, 3, 4)), number
        stored = find_place(client)[run.uid].metadata
        assert stored["reannotated"]["failed"] == [[1, 2], [3, 5]]
        assert stored["stop"]["summary"]["rings"]["count"] == 3
        if is_beyond_the_last:
            break
    assert is_beyond_the_last
