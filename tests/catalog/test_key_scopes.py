"""Which scopes of a key writing takes, on a server with users who make keys, and where a key is never found."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiled.client import from_uri

from benchmarks.tiled_server import TiledServer, serving
from dvfb_stream.catalog import TiledSink, connect
from dvfb_stream.catalog.place import CATALOG_SPECS, find_place
from dvfb_stream.catalog.spool import Pace
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError
from dvfb_stream.errors import SettingsError

SCOPES = (
    "read:metadata",
    "read:data",
    "write:metadata",
    "write:data",
    "create:node",
    "delete:node",
    "delete:revision",
)
"""As docs/storage.md has them."""
QUICK = Pace(max_age=0.02, first_pause=0.02, longest_pause=0.2, refused_pause=0.2)
PATIENCE = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the server."""
    return tmp_path_factory.mktemp("tiled-with-users")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TiledServer]:
    with serving(folder, with_users=True) as server:
        yield server


@pytest.fixture(scope="module")
def whole_client(server: TiledServer) -> Iterator[Any]:
    """Of the container of raw runs, with all that its user may do, in which annotations were stored already."""
    client = from_uri(server.address, api_key=server.api_key()["secret"])
    raw = client.create_container("raw", specs=list(CATALOG_SPECS))
    AnnotationStore(raw).probe()
    yield raw
    client.context.close()


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiled's own client does not ask again after a refusal anyway; after anything else it would wait for 45 s."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)


def store_with(server: TiledServer, monkeypatch: pytest.MonkeyPatch, *scopes: str) -> AnnotationStore:
    monkeypatch.setenv("TILED_API_KEY", server.api_key(scopes)["secret"])
    return AnnotationStore(connect(f"{server.address}/metadata/raw"))


def test_seven_scopes_are_enough(server, whole_client, analysis_documents, monkeypatch):
    store = store_with(server, monkeypatch, *SCOPES)
    start, descriptor, *events, stop = (doc for _, doc in analysis_documents(0.9, 0.1, 0.9))
    store.probe()
    store.write(start, descriptor, events[:2])
    store.replace(start, descriptor, events[1:2])
    store.write(start, descriptor, events)
    store.finish(start, descriptor, stop)
    store.close()
    run = find_place(whole_client)[start["uid"]]
    assert run["annotations"]["frame"].read().tolist() == [0, 1, 2]
    assert run.metadata["stop"]["summary"]["frames"] == 3


@pytest.mark.parametrize("without", SCOPES)
def test_without_any_one_of_them_the_key_is_refused_at_the_start(server, whole_client, monkeypatch, without):
    with pytest.raises((StoreRefusedError, SettingsError), match="TILED_API_KEY") as refused:
        store_with(server, monkeypatch, *(scope for scope in SCOPES if scope != without)).probe()
    assert getattr(refused.value, "everything", True)


def test_the_key_is_nowhere_but_in_requests(
    server, folder, whole_client, analysis_documents, monkeypatch, tmp_path, caplog, capfd
):
    """Neither while it is good nor when it is revoked in the middle of a run."""
    caplog.set_level(logging.DEBUG)
    key = server.api_key(SCOPES)
    monkeypatch.setenv("TILED_API_KEY", key["secret"])
    documents = analysis_documents(*[0.9] * 12, raw_uid="with a key of its own")
    sink = TiledSink(connect(f"{server.address}/metadata/raw"), spool=tmp_path / "spool", pace=QUICK)
    for name, doc in documents[:8]:
        sink(name, doc)
    assert sink.wait(PATIENCE)
    server.revoke(key["first_eight"])
    for name, doc in documents[8:]:
        sink(name, doc)
    assert not sink.wait(1.0)
    said = [str(sink.stats())]
    with pytest.raises(SettingsError) as refused:
        sink.probe()
    sink.close(0.0)
    said += [str(refused.value), *capfd.readouterr()]
    said += [
        f"{record.getMessage()} {record.exc_text or ''}"
        for record in caplog.records
        if record.name.startswith("dvfb")
    ]
    assert any("lets us write nothing" in text for text in said)
    assert key["secret"] not in "".join(said)
    kept = [path for below in (folder, tmp_path) for path in below.rglob("*") if path.is_file()]
    assert {".sqlite", ".db", ".duckdb", ".log"} <= {path.suffix for path in kept}
    assert [path for path in kept if key["secret"].encode() in path.read_bytes()] == []
    with TiledSink(whole_client, spool=tmp_path / "spool", pace=QUICK) as other:
        for name, doc in documents:
            other(name, doc)
        assert other.wait(PATIENCE)
    rows = find_place(whole_client)[documents[0][1]["uid"]]["annotations"]["frame"].read()
    assert rows.tolist() == list(range(12))
