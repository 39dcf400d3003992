"""Runs are annotated while they are written to Tiled; each frame has one row, whatever was heard of it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.errors import RefusedDocumentError
from dvfb_stream.tiled_stream import followed_run
from tests.catalog.tiled_process import StreamingProcess

from .conftest import Beamline, Proxy, Recorder, Start, eventually, frames_of


def test_rows_come_while_the_run_is_written(raw: Any, follow: Start):
    rows = Recorder()
    daemon = follow(rows)
    eventually(lambda: daemon.stats().streaming)
    beamline = Beamline(raw)
    beamline.take(1, 2)
    eventually(lambda: len(rows.frames(beamline.uid)) == 2)
    assert not rows.has_stop(beamline.uid)
    beamline.take(3)
    eventually(lambda: len(rows.frames(beamline.uid)) == 3)
    beamline.stop()
    eventually(lambda: daemon.stats().stored_runs == 1)
    assert rows.frames(beamline.uid) == frames_of(beamline)
    assert rows.has_stop(beamline.uid)
    daemon.stop()
    stats = daemon.stats()
    assert (stats.frames, stats.missed_updates, stats.open_runs) == (3, 0, 0)


def test_of_what_is_there_before_the_first_start_the_run_under_way_is_taken(raw: Any, follow: Start):
    ended, under_way = Beamline(raw), Beamline(raw)
    ended.take(1)
    ended.stop()
    under_way.take(2, 3)
    rows = Recorder()
    daemon = follow(rows)
    eventually(lambda: len(rows.frames(under_way.uid)) == 2)
    under_way.take(4)
    under_way.stop()
    eventually(lambda: daemon.stats().stored_runs == 1)
    daemon.stop()
    assert rows.frames(under_way.uid) == frames_of(under_way)
    assert rows.frames(ended.uid) == []


def test_runs_since_a_time_are_taken_where_the_configuration_says_so(raw: Any, follow: Start):
    ended = Beamline(raw)
    ended.take(1, 2)
    ended.stop()
    rows = Recorder()
    daemon = follow(rows, since="2020-01-01T00:00:00Z")
    eventually(lambda: daemon.stats().stored_runs == 1)
    daemon.stop()
    assert rows.frames(ended.uid) == frames_of(ended)


def test_a_daemon_that_is_started_again_takes_what_it_missed_and_nothing_twice(raw: Any, follow: Start):
    rows = Recorder()
    daemon = follow(rows)
    eventually(lambda: daemon.stats().streaming)
    stored, begun = Beamline(raw), Beamline(raw)
    stored.take(1)
    stored.stop()
    begun.take(2, 3)
    eventually(lambda: daemon.stats().stored_runs == 1 and len(rows.frames(begun.uid)) == 2)
    daemon.stop()
    begun.take(4)
    begun.stop()
    missed = Beamline(raw)
    missed.take(5, 6)
    missed.stop()
    again = Recorder()
    daemon = follow(again)
    eventually(lambda: daemon.stats().stored_runs == 2)
    daemon.stop()
    assert again.frames(stored.uid) == []
    assert again.frames(begun.uid) == frames_of(
        begun
    )  # with the uids that it had: the catalog leaves them alone
    assert again.frames(missed.uid) == frames_of(missed)


@pytest.mark.timeout(900)
def test_cut_evicted_and_restarted_every_frame_has_one_row(tmp_path: Path, follow: Start):
    server = StreamingProcess(tmp_path, readable=tmp_path)
    server.cache = {"uri": "memory", "data_ttl": 1}
    server.start()
    proxy = Proxy(server.port)
    try:
        direct = from_uri(server.uri, api_key=server.key)
        raw = direct.create_container(key="raw", specs=list(CATALOG_SPECS))
        through = from_uri(f"http://127.0.0.1:{proxy.port}/api/v1", api_key=server.key)["raw"]
        rows = Recorder()
        daemon = follow(rows, client=through)
        eventually(lambda: daemon.stats().streaming)
        beamline = Beamline(raw)
        beamline.take(1, 2)
        eventually(lambda: len(rows.frames(beamline.uid)) == 2)

        proxy.cut()
        beamline.take(3, 4, 5)
        threading.Event().wait(1.5)  # the cache forgets them: its own clock decides
        proxy.mend()
        beamline.take(6)
        eventually(lambda: len(rows.frames(beamline.uid)) == 6)
        eventually(lambda: daemon.stats().reconnections >= 1)  # rows may come before, by looking
        assert daemon.stats().images_from_nodes >= 3

        server.kill()
        server.start()
        beamline.take(7, 8)
        eventually(lambda: len(rows.frames(beamline.uid)) == 8)
        server.kill()
        server.start()
        beamline.stop()
        eventually(lambda: daemon.stats().stored_runs == 1)
        daemon.stop()
        assert rows.frames(beamline.uid) == frames_of(beamline)
        through.context.close()
        direct.context.close()
    finally:
        proxy.close()
        server.kill()


def test_a_server_that_tells_of_nothing_is_looked_at(
    tmp_path: Path, follow: Start, caplog: pytest.LogCaptureFixture
):
    server = StreamingProcess(tmp_path, readable=tmp_path)
    server.cache = None
    server.start()
    try:
        root = from_uri(server.uri, api_key=server.key)
        raw = root.create_container(key="raw", specs=list(CATALOG_SPECS))
        rows = Recorder()
        with caplog.at_level(logging.WARNING, "dvfb_stream"):
            daemon = follow(rows, client=raw)
            beamline = Beamline(raw)
            beamline.take(1, 2)
            eventually(lambda: len(rows.frames(beamline.uid)) == 2)
            beamline.take(3)
            beamline.stop()
            eventually(lambda: daemon.stats().stored_runs == 1)
        daemon.stop()
        assert rows.frames(beamline.uid) == frames_of(beamline)
        assert not daemon.stats().streaming
        assert "it needs a streaming cache" in caplog.text
        root.context.close()
    finally:
        server.kill()


def test_images_that_tiled_does_not_give_have_rows_that_say_so(
    raw: Any, follow: Start, server: StreamingProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(followed_run, "_MOST_FAULTS", 2)
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)  # of each fault; ten take 45 s
    beamline = Beamline(raw)
    beamline.take(1, 2)
    for broken in server.folder.glob(f"data/**/{beamline.uid}/primary/image/zarr.json"):
        broken.rename(broken.with_name("away"))
    beamline.stop()
    other = Beamline(raw)
    other.take(3)
    other.stop()
    server.kill()  # and with it what it remembers
    server.start()
    rows = Recorder()
    daemon = follow(rows, since="2020-01-01T00:00:00Z")
    eventually(lambda: daemon.stats().stored_runs == 2)
    daemon.stop()
    assert rows.frames(beamline.uid) == [(0, -1), (1, -1)]
    reasons = {doc["data"]["reason"] for name, doc in rows.documents if name == "event"}
    assert any("was not seen as it was written, and Tiled does not give it" in reason for reason in reasons)
    assert rows.frames(other.uid) == frames_of(other)


def test_a_run_that_is_deleted_is_let_go(raw: Any, follow: Start):
    rows = Recorder()
    daemon = follow(rows)
    eventually(lambda: daemon.stats().streaming)
    beamline, other = Beamline(raw), Beamline(raw)
    beamline.take(1)
    eventually(lambda: len(rows.frames(beamline.uid)) == 1)
    raw.delete_contents([beamline.uid], recursive=True, external_only=False)
    other.take(2)
    other.stop()
    eventually(lambda: daemon.stats().stored_runs == 1)
    if (run := daemon.daemon._runs.get(beamline.uid)) is not None:
        run.look_soon()  # as half a minute later
    eventually(lambda: daemon.stats().abandoned_runs == 1)
    daemon.stop()
    assert rows.frames(other.uid) == frames_of(other)


def test_a_run_that_a_store_refuses_is_a_dead_letter_and_done(raw: Any, follow: Start):
    def refusing(name: str, doc: dict[str, Any]) -> None:
        raise RefusedDocumentError("no such tag")

    rows = Recorder()
    daemon = follow(refusing, rows)
    beamline = Beamline(raw)
    beamline.take(1, 2)
    beamline.stop()
    eventually(lambda: daemon.stats().stored_runs == 1)
    daemon.stop()
    assert rows.frames(beamline.uid) == frames_of(beamline)
    (letter,) = daemon.daemon.dead_letters.folder.letters()
    assert (letter.kind, letter.run, letter.reason) == ("refused", beamline.uid, "no such tag")
    assert daemon.stats().open_runs == 0
