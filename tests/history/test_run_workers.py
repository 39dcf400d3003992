"""Worker processes annotate runs as one process does, and what ends one of them costs one run."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dvfb_stream.catalog import read_annotations
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.run_workers import RunWorkers
from dvfb_stream.history.settings import HistorySettings

from .conftest import PATIENCE, SHAPES, Recorded
from .history_annotators import FACTORY

pytestmark = pytest.mark.usefixtures("forked_services")

DETECTORS = {key: {"center_x": 2.5, "center_y": 1.5, "shape": shape} for key, shape in SHAPES.items()}


def workers(raw: Any, folder: Path, number: int = 2, **options: Any) -> RunWorkers:
    settings = HistorySettings(detectors=DETECTORS, model=str(folder), annotator=FACTORY)
    return RunWorkers(raw.uri, settings, workers=number, api_key=raw.context.api_key, **options)


def frames(raw: Any, uid: str) -> Counter[tuple[str, int]]:
    return Counter((row["data_key"], row["frame"]) for row in read_annotations(raw, uid))


def pids_in(folder: Path) -> set[int]:
    """Of the processes that have annotated a frame."""
    log = folder / "log"
    return {int(line.split()[0]) for line in log.read_text().splitlines()} if log.exists() else set()


def test_a_crash_costs_a_run_one_retry_and_no_other_run_anything(
    raw: Any, recorded: Recorded, tmp_path: Path
):
    (tmp_path / "grief").write_text(f"{recorded.uid} crash once\n{recorded.other} crash\n")
    history = workers(raw, tmp_path)
    assert set(history.annotate([recorded.uid, recorded.other])) == {recorded.uid, recorded.other}
    assert history.pids == []
    (failure,) = history.report.failures
    assert re.match(
        rf"run {recorded.other}: the process of worker \d ended by the signal SIGSEGV; so did", failure
    )
    assert history.report.rows == Counter(ok=9)
    assert len(pids_in(tmp_path)) >= 3
    stored = frames(raw, recorded.uid)
    assert len(stored) == 9
    assert set(stored.values()) == {1}


def test_a_process_that_does_nothing_is_ended(raw: Any, recorded: Recorded, tmp_path: Path):
    (tmp_path / "grief").write_text(f"{recorded.uid} hang")
    history = workers(raw, tmp_path, number=1)

    def look() -> None:
        hangs = pids_in(tmp_path).intersection(history.pids)
        history.seconds_without_a_row = 0.1 if hangs else PATIENCE

    list(history.annotate([recorded.uid, recorded.other], on_look=look))
    (failure,) = history.report.failures
    assert failure.startswith(f"run {recorded.uid}: the process of worker 1 made no row for 0.1 s")
    assert history.report.rows == Counter(ok=2)


def test_who_leaves_early_leaves_no_process(raw: Any, recorded: Recorded, tmp_path: Path):
    (tmp_path / "grief").write_text(f"{recorded.uid} hang")
    history = workers(raw, tmp_path)
    seen: set[int] = set()

    def leave() -> None:
        seen.update(history.pids)
        if pids_in(tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(history.annotate([recorded.uid, recorded.other], on_look=leave))
    assert len(seen) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


def test_what_no_worker_can_do_is_said_once(raw: Any, recorded: Recorded, tmp_path: Path):
    settings = HistorySettings(detectors=DETECTORS, model=str(tmp_path / "none"))
    history = RunWorkers(raw.uri, settings, workers=2, api_key=raw.context.api_key)
    with pytest.raises(DvfbError, match="none"):
        list(history.annotate([recorded.uid, recorded.other]))
    with pytest.raises(SettingsError, match="workers must be a number of at least 1"):
        RunWorkers(raw.uri, settings, workers=0)


def test_reports_add_up():
    one = HistoryReport(runs=1, rows=Counter(ok=2), seconds={"read": 1.0}, failures=["a"])
    one.add(HistoryReport.from_json(one.as_json()))
    assert one == HistoryReport(runs=2, rows=Counter(ok=4), seconds={"read": 2.0}, failures=["a", "a"])
