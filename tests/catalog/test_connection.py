"""Whatever keeps a catalog from being opened is one line that says what to do."""

from __future__ import annotations

import pytest

from dvfb_stream.catalog import connect
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
