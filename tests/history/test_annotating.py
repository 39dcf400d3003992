"""History gives the rows that annotating live gave, and rows become better only where somebody asks for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.sink import TiledSink
from dvfb_stream.errors import DvfbError
from dvfb_stream.files.allowed_roots import AllowedRoots
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.history import annotating
from dvfb_stream.history.annotating import HistoryAnnotator
from dvfb_stream.history.due import Again
from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.selection import raw_runs
from dvfb_stream.history.stored_documents import documents_of
from dvfb_stream.isolation.file_settings import FileSettings

from .conftest import DETECTORS, MeanAnnotator, Recorded

NOT_KEPT = {"event_uid"}
"""By Tiled."""


def annotate(raw: Any, uids: Sequence[str], annotator: Any = None, **settings: Any) -> HistoryReport:
    history = HistoryAnnotator(raw, annotator or MeanAnnotator(), **{"detectors": DETECTORS, **settings})
    assert list(history.annotate(uids)) == list(uids)
    return history.report


def of_history(raw: Any, uid: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in read_annotations(raw, uid):
        found.setdefault(row["analysis_uid"], []).append(row)
    return found


def as_text(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """To the last bit; NaN equals NaN."""
    return repr([[float(v).hex() if isinstance(v := row[c], float) else v for c in columns] for row in rows])


def test_history_gives_the_analysis_runs_of_live_annotation(raw, recorded: Recorded, files_folder: Path):
    files = FileSettings(allowed_roots=[str(files_folder)])
    report = annotate(raw, [recorded.uid, recorded.other], files=files)
    assert report.failures == []
    assert (report.runs, report.annotated, report.rows) == (2, 2, Counter(ok=11))
    live = recorded.runs()
    stored = of_history(raw, recorded.uid) | of_history(raw, recorded.other)
    assert stored.keys() == live.keys()
    assert len(live) == 4
    assert len({row["rings"] for rows in live.values() for row in rows}) >= 7, "the frames differ"
    for uid, rows in live.items():
        columns = sorted(rows[0].keys() - NOT_KEPT)
        assert as_text(stored[uid], columns) == as_text(rows, columns)


def test_files_below_no_allowed_root_are_not_opened_here(
    raw, recorded: Recorded, files_folder: Path, tmp_path: Path, monkeypatch
):
    come = Counter(name for name, _ in documents_of(raw[recorded.uid], data_keys=DETECTORS))
    assert come["stream_resource"] == 4, "one of HDF5, and a file for each frame"
    elsewhere = AllowedRoots([str(tmp_path)])
    come = Counter(
        name for name, _ in documents_of(raw[recorded.uid], data_keys=DETECTORS, permits=elsewhere.permits)
    )
    assert come == Counter(start=1, descriptor=1, event=3, stop=1), "the server reads them"
    # Where it cannot, either, rows say why nothing is read; below what `root_map` leads to, it is.
    monkeypatch.setattr("dvfb_stream.history.stored_images._can_be_read", lambda _: False)
    assert annotate(raw, [recorded.uid]).rows == Counter(ok=3, failed=6)
    refused = [row["reason"] for row in read_annotations(raw, recorded.uid) if row["status"] == "failed"]
    assert all("add allowed_roots in [files] of the configuration" in reason for reason in refused)
    failed = Again(frozenset({Status.FAILED}))
    mounted = {str(files_folder): str(files_folder)}
    assert annotate(raw, [recorded.uid], again=failed, root_map=mounted).rows["ok"] >= 6


def test_files_that_are_not_mounted_here_are_read_by_the_server(raw, recorded: Recorded, monkeypatch):
    monkeypatch.setattr("dvfb_stream.history.stored_images._are_mounted", lambda *_: False)
    come = Counter(name for name, _ in documents_of(raw[recorded.uid], data_keys=DETECTORS))
    assert come == Counter(start=1, descriptor=1, event=3, stop=1)
    assert annotate(raw, [recorded.uid]).rows == Counter(ok=9)
    live, stored = recorded.runs(), of_history(raw, recorded.uid)
    assert len(stored) == 3
    for uid, rows in stored.items():
        assert [row["rings"] for row in rows] == [row["rings"] for row in live[uid]]


def test_what_is_annotated_is_passed_over_and_stays(raw, recorded: Recorded):
    annotate(raw, [recorded.other])
    elsewhere = {key: Geometry(shape=g.shape, center_x=1.0, center_y=1.0) for key, g in DETECTORS.items()}
    report = annotate(raw, [recorded.other], detectors=elsewhere)
    assert (report.skipped, report.other_geometry, report.rows) == (1, 1, Counter())
    assert {row["center_x"] for row in read_annotations(raw, recorded.other)} == {2.5}


class Forgetful(MeanAnnotator):
    """Fails the second frame of each run."""

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        return [
            Annotation.failed("forgotten", model=self.identity, origin=frame.origin)
            if frame.origin is not None and frame.origin.index == 1
            else annotation
            for frame, annotation in zip(frames, super().annotate(frames), strict=True)
        ]


class Brighter(MeanAnnotator):
    """Would change each row that it is let."""

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        return super().annotate(
            [Frame(frame.pixels + 100.0, frame.geometry, frame.origin) for frame in frames]
        )


@pytest.mark.parametrize("again", [None, Again(frozenset({Status.FAILED}))])
def test_no_spool_is_left_open_and_none_is_opened_where_rows_are_replaced(
    raw, recorded: Recorded, monkeypatch, again
):
    opened: list[TiledSink] = []

    class Counted(TiledSink):
        def __init__(self, client: Any, **options: Any) -> None:
            super().__init__(client, **options)
            opened.append(self)

    monkeypatch.setattr(annotating, "TiledSink", Counted)
    annotate(raw, [recorded.other], again=again)
    assert len(opened) == (again is None)
    for one in opened:
        with pytest.raises(DvfbError, match="closed"):
            one("start", {"uid": "late"})


def test_failed_rows_become_better_on_request_and_no_others(raw, recorded: Recorded):
    assert annotate(raw, [recorded.other], Forgetful()).rows == Counter(ok=1, failed=1)
    first, second = read_annotations(raw, recorded.other)
    assert annotate(raw, [recorded.other]).skipped == 1
    failed = Again(frozenset({Status.FAILED, Status.DROPPED}))
    assert annotate(raw, [recorded.other], Forgetful(), again=failed).replaced == 0
    report = annotate(raw, [recorded.other, recorded.uid], Brighter(), again=failed)
    assert (report.annotated, report.skipped, report.replaced) == (1, 1, 1)
    same, better = read_annotations(raw, recorded.other)
    assert same == pytest.approx(first, nan_ok=True)
    assert (second["status"], better["status"]) == ("failed", "ok")
    assert math.isclose(better["rings"], 0.102)
    (run,) = find_place(raw).values()
    assert run.metadata["reannotated"] == {"failed": [[1, 2]]}
    assert run.metadata["stop"]["summary"]["failed"] == 0
    assert run.metadata["stop"]["summary"]["reannotated"] == 1
    assert annotate(raw, [recorded.other], again=failed).skipped == 1


def test_a_run_begun_and_not_ended_is_completed(raw, recorded: Recorded):
    history = HistoryAnnotator(raw, MeanAnnotator(), detectors=DETECTORS)
    list(history.annotate([recorded.uid]))
    run = next(run for run in find_place(raw).values())
    run.update_metadata({"stop": None}, drop_revision=True)
    report = annotate(raw, [recorded.uid, recorded.other])
    assert (report.annotated, report.skipped, report.failures) == (2, 0, [])
    assert all(run.metadata.get("stop") for run in find_place(raw).values())


def test_all_runs_of_a_large_catalog_are_found_in_the_order_they_were_begun(raw, monkeypatch):
    """Of a container that is sorted, Tiled gives two pages of a hundred."""
    monkeypatch.setattr("dvfb_stream.catalog.listing.PAGE", 100)
    many, count = raw.parent.create_container(f"{raw.path_parts[-1]}-many"), 202
    for number in range(count):
        start = {"uid": f"run-{number}", "time": float(count - number)}
        many.create_container(f"run-{number}", metadata={"start": start})
    many.create_container("no run", metadata={"what": "something else"})
    many.create_container("run-no-time", metadata={"start": {"uid": "run-no-time"}})
    found = raw_runs(many)
    assert found == ["run-no-time", *(f"run-{number}" for number in reversed(range(count)))]
    many.parent.delete_contents(many.path_parts[-1], recursive=True)


def test_runs_are_chosen_by_uid_time_and_what_their_start_says(raw, recorded: Recorded):
    one, other = recorded.uid, recorded.other
    began = [raw[uid].metadata["start"]["time"] for uid in (one, other)]
    between = datetime.fromtimestamp(sum(began) / 2, UTC)
    assert raw_runs(raw) == [one, other]
    assert raw_runs(raw, uids=[other[:8]]) == [other]
    assert raw_runs(raw, since=between) == [other]
    assert raw_runs(raw, until=between) == [one]
    assert raw_runs(raw, where="sample_name == 'lamella' and scan_id >= 1") == [one]
    assert raw_runs(raw, where="sample_name in ['water', 'oil']") == [other]
    assert raw_runs(raw, where="num_points < 3") == [other]
    assert find_runs(raw, "rings") == []
