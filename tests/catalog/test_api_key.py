from __future__ import annotations

import logging

import pytest

from dvfb_stream.catalog.api_key import api_key, goes_in_the_clear, without_key
from dvfb_stream.catalog.connection import connect
from dvfb_stream.errors import SettingsError

KEY = "0123456789abcdef"


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o640)
    monkeypatch.setenv("TILED_API_KEY_FILE", str(path))
    return path


def test_the_key_is_in_the_environment_or_in_a_file(key_file, monkeypatch):
    assert api_key() == KEY
    monkeypatch.setenv("TILED_API_KEY", "another")
    assert api_key() == "another"
    monkeypatch.delenv("TILED_API_KEY")
    monkeypatch.delenv("TILED_API_KEY_FILE")
    assert api_key() is None


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_file_that_everybody_may_read_or_change_is_refused_with_the_cure(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod o=") as refusal:
        api_key()
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"\xff\xfe"])
def test_what_is_no_key_is_refused(key_file, content):
    key_file.write_bytes(content)
    with pytest.raises(SettingsError, match="TILED_API_KEY_FILE"):
        api_key()
    key_file.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        api_key()


@pytest.mark.parametrize(
    ("address", "readable"),
    [
        ("https://tiled.example/api", False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1:8000/api", False),
        ("http://[::1]:8000", False),
        ("http://tiled.example/api", True),
    ],
)
def test_a_key_on_its_way_is_seen_by_others_without_tls(address, readable):
    assert goes_in_the_clear(address) is readable


def test_no_text_has_the_key():
    text = f"GET http://x/?a=1&api_key={KEY}&b=2 failed\n  Apikey {KEY} refused; {KEY}"
    assert KEY not in without_key(text, KEY)
    assert "failed Apikey ... refused" in without_key(text, KEY)
    assert "b=2" in without_key(text)


def test_neither_error_nor_log_has_the_key_of_an_address(monkeypatch, caplog):
    monkeypatch.setenv("TILED_RETRY_ATTEMPTS", "1")
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError) as refusal:
        connect(f"http://127.0.0.1:1/api/v1?api_key={KEY}")
    assert KEY not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert KEY not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("dvfb")
    )
