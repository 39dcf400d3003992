"""Whatever keeps a catalog from being opened is one line that says what to do, and so is an address in its place."""

from __future__ import annotations

import pytest

from dvfb_stream.catalog import TiledSink, connect, find_runs, read_annotations
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
