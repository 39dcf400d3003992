"""Whatever keeps a catalog from being opened is one line that says what to do, and so is an address in its place."""

from __future__ import annotations

import pytest
from tiled.structures.core import Spec

from dvfb_stream.catalog import TiledSink, connect, find_runs, read_annotations
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.errors import SettingsError


@pytest.mark.parametrize(
    ("path", "key", "reason"),
    [
        ("", None, "requires API key"),
        ("", "abad1dea", "401"),
        ("/nothing", "abad1dea", "401"),
    ],
)
def test_a_catalog_that_does_not_let_us_in_is_said_so(server, monkeypatch, path, key, reason):
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("TILED_API_KEY", key)
    with pytest.raises(SettingsError, match=r"cannot be opened .*TILED_API_KEY") as refused:
        connect(server.uri.partition("?")[0].rstrip("/") + path)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "abad1dea" not in str(refused.value)


def test_an_address_that_is_none_is_said_so():
    with pytest.raises(SettingsError, match="Invalid port"):
        connect("http://127.0.0.1:port")


@pytest.mark.parametrize(
    "use",
    [lambda client: find_runs(client, "rings"), lambda client: read_annotations(client, "raw"), TiledSink],
)
@pytest.mark.parametrize(
    ("client", "cure"),
    [
        (
            "http://localhost:8000?api_key=abad1dea",
            r"not 'http://localhost:8000'; connect\('http://localhost:8000'\)",
        ),
        (None, "not None; see connect"),
        ({"search": 1}, r"not \{'search': 1\}; see connect"),
    ],
)
def test_what_is_no_client_is_refused_where_it_is_passed_in(use, client, cure):
    with pytest.raises(SettingsError, match=cure) as refused:
        use(client)
    assert "abad1dea" not in str(refused.value)


def test_embedded_and_remote_catalogs_have_the_same_client(server, monkeypatch):
    """Bluesky's own, which takes scan numbers, -1 and short uids."""
    embedded = server.create_container(key="same-client", specs=list(CATALOG_SPECS))
    start = {"uid": "8a31f0c2-7b1d-4d7e-8b0c-6f2a9d3e5c10", "scan_id": 7, "time": 1.0}
    specs = [Spec("BlueskyRun", version="3.0")]
    embedded.create_container(key=start["uid"], metadata={"start": start}, specs=specs)
    address, _, _ = embedded.uri.partition("?")
    monkeypatch.setenv("TILED_API_KEY", server.context.api_key)
    remote = connect(address)
    try:
        assert type(embedded) is type(remote)
        assert type(embedded).__name__ == "CatalogOfBlueskyRuns"
        for catalog in (embedded, remote):
            for name in (-1, 7, start["uid"][:8], start["uid"]):
                assert catalog[name].metadata["start"]["uid"] == start["uid"]
    finally:
        remote.context.close()
