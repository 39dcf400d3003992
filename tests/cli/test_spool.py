"""``dvfb spool`` beside a process that keeps rows, and after it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvfb_stream.catalog.spool import Pace, Spool
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError

PATIENCE = 30.0
QUICK = Pace(max_age=0.01, first_pause=0.01, longest_pause=0.05)


class Refuses:
    """A store that is away, refuses the run "bad" until it is mended, and has what it took."""

    def __init__(self) -> None:
        self.away, self.mended = False, False
        self.frames: dict[str, list[int]] = {}
        self.stopped: list[str] = []

    def write(self, start: Any, descriptor: Any, events: Any) -> None:
        if self.away:
            raise StoreUnavailableError("nobody answers")
        if start["uid"] == "bad" and not self.mended:
            raise StoreRefusedError("a column is missing", everything=False)
        self.frames.setdefault(start["uid"], []).extend(event["data"]["frame"] for event in events)

    def finish(self, start: Any, descriptor: Any, stop: Any) -> None:
        self.stopped.append(start["uid"])

    def close(self) -> None:
        pass


def put(spool: Spool, uid: str, frames: int = 3) -> None:
    spool("start", {"uid": uid, "analysis": {"parent": f"raw-{uid}"}})
    spool("descriptor", {"uid": f"{uid}-d", "run_start": uid})
    for frame in range(frames):
        data = {"frame": frame, "rings": math.nan, "features": np.arange(3.0)}
        spool("event", {"uid": f"{uid}-{frame}", "descriptor": f"{uid}-d", "data": data})
    spool("stop", {"uid": f"{uid}-s", "run_start": uid})


def until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


@pytest.fixture
def store() -> Refuses:
    return Refuses()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVFB_SPOOL", str(tmp_path / "spools"))
    return tmp_path / "spools" / "there"


@pytest.fixture
def spool(store: Refuses, folder: Path):
    """A spool in which "bad" is quarantined, and "late" waits for a store that is away."""
    address = "http://there/api/v1?api_key=secret"
    spool = Spool(store, folder, pace=QUICK, address=address)
    put(spool, "bad")
    until(lambda: spool.stats().quarantined_runs)
    store.away = True
    put(spool, "late", 5)
    until(lambda: spool.stats().trouble)
    yield spool
    spool.close(0.0)


def test_what_waits_and_why_is_listed(dvfb, spool):
    outcome = dvfb("spool", "list", "--json")
    bad, late = outcome.rows
    assert (bad["uid"], bad["raw_uid"], bad["rows"], bad["reason"]) == (
        "bad",
        "raw-bad",
        3,
        "a column is missing",
    )
    assert (late["uid"], late["rows"], late["reason"]) == ("late", 5, None)
    assert bad["in_use"]
    assert bad["stopped"]
    assert 0 <= time.time() - late["came"] < PATIENCE
    table = dvfb("spool", "list").stdout
    assert "quarantined" in table
    assert "a column is missing" in table
    assert "secret" not in outcome.stdout + table


def test_nothing_waits_in_an_empty_spool(dvfb, folder):
    outcome = dvfb("spool", "list")
    assert outcome.status == 0
    assert "nothing waits" in outcome.stdout
    assert dvfb("spool", "list", "--json").stdout == ""
    assert dvfb("spool", "retry").status == 0


def test_what_a_process_that_has_ended_left_is_told_apart(dvfb, spool):
    spool.close(0.0)
    assert not any(run["in_use"] for run in dvfb("spool", "list", "--json").rows)
    assert "left" in dvfb("spool", "list").stdout


def test_a_quarantined_run_is_delivered_by_its_process_once_it_is_let_go(dvfb, spool, store):
    store.away, store.mended = False, True
    until(lambda: "late" in store.stopped)
    assert "bad" not in store.frames
    outcome = dvfb("spool", "retry", "bad")
    assert outcome.status == 0
    until(lambda: "bad" in store.stopped)
    assert store.frames["bad"] == [0, 1, 2]
    assert spool.stats().quarantined_runs == 0
    assert spool.wait(PATIENCE)


def test_a_run_that_is_still_refused_is_quarantined_again(dvfb, spool, store):
    store.away = False
    dvfb("spool", "retry", "raw-bad")
    until(lambda: all(run["reason"] for run in dvfb("spool", "list", "--json").rows))
    assert [run["uid"] for run in dvfb("spool", "list", "--json").rows] == ["bad"]


def test_documents_are_exported_in_order_as_strict_json(dvfb, spool, tmp_path):
    out = tmp_path / "out.jsonl"
    assert dvfb("spool", "export", str(out), "late").status == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [name for name, _ in lines] == ["start", "descriptor", *["event"] * 5, "stop"]
    assert lines[0][1]["uid"] == "late"
    assert lines[3][1]["data"] == {"frame": 1, "rings": None, "features": [0.0, 1.0, 2.0]}
    assert len(dvfb("spool", "list", "--json").rows) == 2


def test_only_what_is_quarantined_is_taken_out_and_its_process_sees_it(dvfb, spool, tmp_path):
    out = tmp_path / "out.jsonl"
    assert dvfb("spool", "export", str(out), "--remove").status == 0
    assert {line.split('"')[1] for line in out.read_text().splitlines()} == {
        "start",
        "descriptor",
        "event",
        "stop",
    }
    assert [run["uid"] for run in dvfb("spool", "list", "--json").rows] == ["late"]
    until(lambda: spool.stats().quarantined_runs == 0)
    assert spool.stats().spooled_rows == 5


@pytest.mark.parametrize("command", [("retry", "nobody"), ("export", "/dev/stdout", "nobody")])
def test_a_run_that_is_not_there_is_an_error(dvfb, spool, command):
    outcome = dvfb("spool", *command)
    assert outcome.status == 1
    assert "dvfb spool list" in outcome.errors[0]


def test_a_folder_that_is_not_there_is_an_error(dvfb, tmp_path):
    outcome = dvfb("spool", "list", "--folder", str(tmp_path / "nowhere"))
    assert outcome.status == 1
    assert "nowhere" in outcome.errors[0]


def test_a_catalog_that_does_not_answer_is_said_and_nothing_is_lost(dvfb, spool, store, monkeypatch):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    spool.close(0.0)
    outcome = dvfb("spool", "retry", "late", "--timeout", "1")
    assert outcome.status == 1
    assert "secret" not in outcome.stderr
    assert len(dvfb("spool", "list", "--json").rows) == 2
