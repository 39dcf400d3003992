"""A beamline's description, a catalog on a real Tiled server, a RunEngine that goes away again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine

from dvfb_stream.profiles.catalogs import served_folder

PATIENCE = 240.0


@pytest.fixture
def describe(tmp_path: Path) -> Callable[[str], Path]:
    """Write a beamline's TOML file."""

    def write(text: str, name: str = "beamline.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with served_folder(tmp_path_factory.mktemp("catalog")) as client:
        yield client


@pytest.fixture
def run_engine() -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=False)
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(PATIENCE)
    engine.loop.close()
