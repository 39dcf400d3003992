"""Tiled's graph of links leads from a raw run to its analyses and back, and no row depends on it."""

from __future__ import annotations

from typing import Any

import pytest

from dvfb_stream.catalog.links import DERIVED_FROM
from dvfb_stream.catalog.place import CATALOG_SPECS, find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.stored_runs import Stored

from .test_place import take_runs
from .test_store import Run

LEAD = """query ($path: [String!]) { entities(nodePathParts: $path) {
  name entityType
  incomingLinks { predicate subject { name } }
  outgoingLinks { predicate object { name } } } }"""


@pytest.fixture
def raw(server: Any, request: pytest.FixtureRequest) -> Any:
    return server.create_container(request.node.name).create_container("raw", specs=list(CATALOG_SPECS))


def entities(client: Any, *path: str) -> list[dict[str, Any]]:
    """Ask as docs/storage.md does."""
    root = str(client.context.api_uri).removesuffix("v1/")
    answer = client.context.http_client.post(
        f"{root}graphql", json={"query": LEAD, "variables": {"path": list(path)}}
    ).json()
    assert "errors" not in answer
    return answer["data"]["entities"]


def store_run(raw: Any, run: Run) -> None:
    store = AnnotationStore(raw)
    run.write(store, 0)
    run.finish(store)


def test_the_graph_leads_from_a_raw_run_to_its_analyses_and_back(raw, analysis_documents):
    (uid,) = take_runs(raw, 7)
    runs = [Run(analysis_documents(0.9, raw_uid=uid, model=model)) for model in ("small", "better")]
    for run in [*runs, *runs]:
        store_run(raw, run)
    path = [part for part in raw.path_parts if part]
    (of_raw,) = entities(raw, *path, uid)
    links = {link["subject"]["name"] for link in of_raw["incomingLinks"]}
    assert (links, len(of_raw["incomingLinks"])) == ({run.uid for run in runs}, 2)
    (of_run,) = entities(raw, *path[:-1], "raw_annotations", runs[0].uid)
    assert of_run["outgoingLinks"] == [{"predicate": DERIVED_FROM, "object": {"name": uid}}]
    find_place(raw).delete_contents([runs[0].uid], recursive=True, external_only=False)
    (of_raw,) = entities(raw, *path, uid)
    assert [link["subject"]["name"] for link in of_raw["incomingLinks"]] == [runs[1].uid]


def test_a_run_whose_raw_run_lies_elsewhere_is_not_linked(raw, analysis_documents):
    run = Run(analysis_documents(0.9, raw_uid="of another server"))
    store_run(raw, run)
    path = [part for part in raw.parent.path_parts if part]
    assert entities(raw, *path, "raw_annotations", run.uid) == []


@pytest.mark.parametrize("answer", [404, 500, "a page"])
def test_a_server_without_a_graph_that_answers_stores_as_well(raw, analysis_documents, monkeypatch, answer):
    (uid,) = take_runs(raw, 7)
    asked = []
    post = raw.context.http_client.post

    def instead(url: Any, **how: Any) -> Any:
        if not str(url).endswith("/graphql"):
            return post(url, **how)
        import httpx

        asked.append(url)
        request = httpx.Request("POST", url)
        if isinstance(answer, int):
            return httpx.Response(answer, request=request)
        return httpx.Response(200, text="<html>", request=request)

    monkeypatch.setattr(raw.context.http_client, "post", instead)
    store = AnnotationStore(raw)
    for model in ("small", "better"):
        run = Run(analysis_documents(0.9, raw_uid=uid, model=model))
        run.write(store, 0)
        run.finish(store)
        assert store.state(run.uid).stored is Stored.COMPLETE
    assert len(asked) == 1, "the second run is not held up"
