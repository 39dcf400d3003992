"""Raw runs with annotations, on an embedded Tiled server and on servers of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.newest import supersede
from dvfb_stream.catalog.place import CATALOG_SPECS, place_of
from dvfb_stream.catalog.run_table import RunDocuments, RunTable

from ..tiled_process import KEY, TiledProcess, on_postgresql

RUN = "11111111-aaaa-4bbb-8ccc-000000000001"
OTHER = "22222222-aaaa-4bbb-8ccc-000000000002"

Annotate = Callable[..., str]


@pytest.fixture(scope="package")
def annotate(analysis_documents) -> Annotate:
    """Store a raw run's start, and annotations of it; returns the uid of the analysis run."""

    def store(raw: Any, *scores: float | None, raw_uid: str = RUN, scan_id: int = 7, **how: Any) -> str:
        if raw_uid not in raw.keys():  # noqa: SIM118 - Bluesky's client takes a key for a part of a uid
            start = {"uid": raw_uid, "time": 1000.0, "scan_id": scan_id}
            raw.create_container(raw_uid, metadata={"start": start})
        documents = [doc for _, doc in analysis_documents(*scores, raw_uid=raw_uid, **how)]
        start, descriptor, *events, stop = documents
        runs, _ = place_of(raw).make()
        # As AnnotationStore lays it out; its leases are not needed here.
        table = RunTable(runs, RunDocuments.checked(start, descriptor))
        table.append(events)
        table.run.update_metadata({"stop": stop}, drop_revision=True)
        supersede(runs, start)
        return start["uid"]

    return store


@pytest.fixture
def raw(server: Any, request: pytest.FixtureRequest) -> Any:
    """Container of raw runs of this test."""
    key = request.node.name.translate(str.maketrans("[]/ ", "----"))
    return server.create_container(key, specs=list(CATALOG_SPECS))


@pytest.fixture(scope="package")
def annotated(server: Any, annotate: Annotate) -> Any:
    """Two raw runs; frames 0 to 3 of the first have rings, none, none and no row that says anything."""
    raw = server.create_container("annotated", specs=list(CATALOG_SPECS))
    annotate(raw, 0.9, 0.1, 0.4, None)
    annotate(raw, 0.9, 0.9, raw_uid=OTHER, scan_id=8)
    return raw


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def real_raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Container of raw runs on a server process, its tables in DuckDB, where everybody may read, or PostgreSQL."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "postgresql":
            address = request.getfixturevalue("postgresql_address")
            server = stack.enter_context(on_postgresql(folder, address))
        else:
            server = TiledProcess(folder, f"duckdb:///{folder / 'tables.duckdb'}")
            server.public = True
            stack.callback(server.kill)
            server.start()
        client = from_uri(server.uri, api_key=KEY)
        stack.callback(client.context.close)
        yield client.create_container("raw", specs=list(CATALOG_SPECS))


@pytest.fixture(autouse=True)
def _one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiled's client tries ten times otherwise."""
    import tiled.client.utils

    monkeypatch.setattr(tiled.client.utils, "TILED_RETRY_ATTEMPTS", 1)
    assert "TILED_API_KEY" not in os.environ
