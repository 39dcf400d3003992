from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import urlparse

from dvfb_stream.catalog.cache_folder import cache_folder, caches_folder


def at(uri: str) -> SimpleNamespace:
    return SimpleNamespace(uri=uri, context=SimpleNamespace())


def test_each_container_has_a_folder_for_this_user_and_no_key_is_in_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("DVFB_CACHE", str(tmp_path / "caches"))
    address = "https://tiled.beamline.example/api/v1/metadata/smi/raw"
    folder = cache_folder(at(f"{address}?api_key=secret"))
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.name.startswith("tiled.beamline.example-smi-raw-")
    assert "secret" not in str(folder)
    assert cache_folder(at(address)) == folder
    assert cache_folder(at(f"{address}_annotations")) != folder
    monkeypatch.delenv("DVFB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert caches_folder() == tmp_path / "cache" / "dvfb_stream" / "catalogs"


def test_a_served_folder_has_the_same_one_whatever_the_servers_port(server):
    container = server.create_container(key="cached")
    folder = cache_folder(container)
    assert str(urlparse(container.uri).port) not in folder.name
    assert cache_folder(server["cached"]) == folder
    assert cache_folder(server) != folder
