"""Outages of a real Tiled server, and what an ordinary client reads after each: every frame once, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import httpx
import pytest

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.catalog import TiledSink, connect
from dvfb_stream.catalog.connection import CatalogAwayError
from dvfb_stream.catalog.later import LaterCatalog
from dvfb_stream.catalog.spool import Pace
from dvfb_stream.cli import main
from dvfb_stream.errors import SettingsError

from .conftest import until
from .putting_process import documents
from .test_killed import stored

FRAMES = 30
PATIENCE = 120.0
QUICK = Pace(max_age=0.02, first_pause=0.02, longest_pause=0.2, refused_pause=0.2)


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch):
    """Tiled's own client gives up at once: its waiting is not what is tested, and takes 45 s."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)


@pytest.fixture
def sink(raw_container, tmp_path):
    sink = TiledSink(raw_container, spool=tmp_path / "spool", batch_size=8, pace=QUICK)
    yield sink
    sink.close(0.0)


def put(sink, docs):
    for name, doc in docs:
        sink(name, doc)


def dvfb(arguments):
    """Return the exit status of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code or 0


class Faulty(httpx.BaseTransport):
    """Between Tiled's client and its server: what happens to a request is decided by a plan."""

    def __init__(self, way: httpx.BaseTransport) -> None:
        self._way = way
        self.plan: Callable[[httpx.Request], Callable[[Answer], httpx.Response] | None] = lambda request: None
        self.faults = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        fault = self.plan(request)
        if fault is None:
            return self._way.handle_request(request)
        self.faults += 1
        return fault(lambda: self._way.handle_request(request))

    def close(self) -> None:
        self._way.close()


Answer = Callable[[], httpx.Response]


def status(code: int) -> Callable[[Answer], httpx.Response]:
    return lambda answer: httpx.Response(code, json={"detail": f"a proxy says {code}"})


def nobody(answer: Answer) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def hangs(answer: Answer) -> httpx.Response:
    raise httpx.ReadTimeout("timed out")


def lost(answer: Answer) -> httpx.Response:
    answer().read()
    raise httpx.RemoteProtocolError("the server disconnected without an answer")


def slow(answer: Answer) -> httpx.Response:
    time.sleep(0.3)
    return answer()


FAULTS = {"409": status(409), "429": status(429), "500": status(500), "503": status(503)} | {
    function.__name__: function for function in (nobody, hangs, lost, slow)
}


@pytest.fixture
def faulty(raw_container):
    client = raw_container.context.http_client
    before = client._transport
    client._transport = Faulty(before)
    yield client._transport
    client._transport = before


@pytest.mark.parametrize("fault", FAULTS)
def test_each_frame_is_there_once_whatever_happens_to_requests(sink, faulty, raw_container, fault):
    requests = 0

    def plan(request):
        nonlocal requests
        requests += 1
        return FAULTS[fault] if faulty.faults < 8 and requests % 3 == 0 else None

    faulty.plan = plan
    put(sink, documents(fault, FRAMES))
    assert sink.wait(PATIENCE)
    assert faulty.faults > 0
    frames, stop = stored(raw_container, fault)
    assert frames == list(range(FRAMES))
    assert stop["summary"]["frames"] == FRAMES
    assert sink.stats().quarantined_rows == sink.stats().lost_rows == 0


@pytest.mark.parametrize("when", [0, 12, FRAMES + 2])
def test_a_server_that_is_killed_and_comes_back_has_each_frame_once(
    sink, tiled_process, raw_container, when, caplog
):
    """At the start, in the middle, at the stop."""
    uid = f"killed-{when}"
    docs = documents(uid, FRAMES)
    put(sink, docs[:when])
    assert sink.wait(PATIENCE)
    tiled_process.kill()
    try:
        began = time.monotonic()
        put(sink, docs[when:])
        took = time.monotonic() - began
        assert not sink.wait(1.0)
        stats = sink.stats()
        assert stats.spooled_rows == len([name for name, _ in docs[when:] if name == "event"])
        assert stats.trouble
        assert took < 5.0  # an attempt alone would take longer, on a machine that is busy with other things
    finally:
        tiled_process.start()
    assert sink.wait(PATIENCE)
    frames, stop = stored(raw_container, uid)
    assert frames == list(range(FRAMES))
    assert stop["summary"]["frames"] == FRAMES
    assert "takes rows again" in caplog.text


def test_a_key_that_is_revoked_holds_rows_back_until_there_is_another(
    sink, tiled_process, raw_container, tmp_path, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    docs = documents("revoked", FRAMES)
    put(sink, docs[:10])
    assert sink.wait(PATIENCE)
    key = tiled_process.key
    tiled_process.kill()
    tiled_process.key = "another0key0altogether"
    tiled_process.start()
    try:
        put(sink, docs[10:])
        until(lambda: "401" in sink.stats().trouble or "403" in sink.stats().trouble, PATIENCE)
        assert not sink.wait(0.5)
        assert sink.stats().quarantined_rows == 0
        assert sink.stats().spooled_rows == FRAMES - 8
        assert any("lets us write nothing" in record.getMessage() for record in caplog.records)
        with pytest.raises(SettingsError, match="TILED_API_KEY"):
            LiveAnnotator(_Never(), sinks=[sink])
    finally:
        tiled_process.kill()
        tiled_process.key = key
        tiled_process.start()
    assert sink.wait(PATIENCE)
    assert stored(raw_container, "revoked")[0] == list(range(FRAMES))
    said = "".join(
        f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records if _ours(record)
    )
    written = b"".join(path.read_bytes() for path in (tmp_path / "spool").iterdir())
    assert key not in said + "".join(capfd.readouterr())
    assert key.encode() not in written
    assert key not in str(sink.stats())


def test_a_server_that_lets_us_read_alone_is_told_at_the_start(
    tiled_process, raw_container, monkeypatch, tmp_path
):
    """Without a key, on a server that everybody may read."""
    tiled_process.kill()
    tiled_process.public = True
    tiled_process.start()
    try:
        monkeypatch.delenv("TILED_API_KEY", raising=False)
        reader = connect(raw_container.uri.partition("?")[0])
        with TiledSink(reader, spool=tmp_path, pace=QUICK) as sink:
            with pytest.raises(SettingsError, match="TILED_API_KEY"):
                sink.probe()
            put(sink, documents("readonly", 5))
            assert not sink.wait(1.0)
            assert sink.stats().quarantined_rows == 0
        reader.context.close()
    finally:
        tiled_process.kill()
        tiled_process.public = False
        tiled_process.start()
    with TiledSink(raw_container, spool=tmp_path, pace=QUICK) as sink:
        until(lambda: not sink.stats().inherited_rows and stored(raw_container, "readonly")[1], PATIENCE)
    assert stored(raw_container, "readonly")[0] == list(range(5))


def test_a_server_that_is_away_when_the_session_starts_gets_the_rows_when_it_comes(
    tiled_process, raw_container, tmp_path, monkeypatch
):
    address = raw_container.uri.partition("?")[0]
    monkeypatch.setenv("TILED_API_KEY", tiled_process.key)
    tiled_process.kill()
    try:
        with pytest.raises(CatalogAwayError, match="cannot be opened"):
            connect(address)
        sink = TiledSink(LaterCatalog(address), spool=tmp_path, pace=QUICK)
        sink.probe()
        put(sink, documents("early", FRAMES))
        until(lambda: "cannot be opened" in sink.stats().trouble, PATIENCE)
        assert sink.stats().spooled_rows == FRAMES
    finally:
        tiled_process.start()
    assert sink.close(PATIENCE)
    assert stored(raw_container, "early")[0] == list(range(FRAMES))


def test_what_was_left_is_delivered_by_hand(tiled_process, raw_container, tmp_path, monkeypatch, capsys):
    tiled_process.kill()
    try:
        sink = TiledSink(raw_container, spool=tmp_path, pace=QUICK)
        put(sink, documents("left", FRAMES))
        assert not sink.close(0.5)
        monkeypatch.delenv("TILED_API_KEY", raising=False)
        assert dvfb(["spool", "retry", "--folder", str(tmp_path)]) == 1
        assert "error" in capsys.readouterr().err
    finally:
        tiled_process.start()
    assert dvfb(["spool", "retry", "--folder", str(tmp_path)]) == 1, "without a key"
    key_file = tmp_path / "key"
    key_file.write_text(tiled_process.key)
    key_file.chmod(0o600)
    monkeypatch.setenv("TILED_API_KEY_FILE", str(key_file))
    assert dvfb(["spool", "retry", "--folder", str(tmp_path)]) == 0
    assert stored(raw_container, "left")[0] == list(range(FRAMES))
    capsys.readouterr()
    assert dvfb(["spool", "list", "--folder", str(tmp_path)]) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_a_server_that_is_away_at_the_start_is_a_warning(sink, tiled_process, caplog):
    tiled_process.kill()
    try:
        sink.probe()
    finally:
        tiled_process.start()
    assert "rows wait on this machine's disk" in caplog.text


def _ours(record: logging.LogRecord) -> bool:
    """What httpx logs at its lowest level, headers included, is not ours."""
    return record.name.startswith("dvfb")


class _Never:
    """An annotator that is never asked."""

    identity = None
