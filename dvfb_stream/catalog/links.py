"""Links analysis runs to their raw runs in Tiled's graph of links, where a server has it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx

from dvfb_stream.catalog.place import RUN_SPEC, Place

logger = logging.getLogger(__name__)

DERIVED_FROM = "http://www.w3.org/ns/prov#wasDerivedFrom"
"""Predicate of the link from an analysis run to its raw run, by the provenance ontology of the W3C."""

_GRAPH = "graphql"
"""Where the graph is asked, beside ``/api/v1``."""
_SECONDS = 10.0
"""That an answer may take: rows wait for it."""
_PAUSE = 60.0
"""Seconds without another try after one that failed, so that a graph that hangs costs one run a minute."""

_LOOK = """query ($raw: [String!], $ours: [String!], $predicate: String) {
  raw: entities(nodePathParts: $raw) { id }
  ours: entities(nodePathParts: $ours) { id outgoingLinks(predicate: $predicate) { object { id } } }
}"""
_ENTITY = "mutation ($input: CreateEntityInput!) { createEntity(input: $input) { id } }"
_LINK = "mutation ($input: CreateLinkInput!) { createLink(input: $input) { id } }"


class _NotLinkedError(Exception):
    """What the graph answers in place of doing it."""


class RawLinks:
    """The links of the analysis runs of a place to the raw runs beside it.

    Tiled 0.2.20 calls its graph an experiment: no row depends on it. What fails there is logged, the run is stored.

    Parameters
    ----------
    place
        Where the analysis runs lie.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._next_try = 0.0

    def link(self, start: Mapping[str, Any]) -> None:
        """Link a stored analysis run to its raw run, unless it is linked, or that lies elsewhere."""
        raw = self._place.raw_path
        parent = (start.get("analysis") or {}).get("parent")
        if raw is None or parent is None or time.monotonic() < self._next_try:
            return
        try:
            self._link([*raw, str(parent)], [*self._place.path, str(start["uid"])], start)
        except _NotLinkedError as error:
            logger.info(
                "analysis run %s is not linked to its raw run in Tiled's graph: %s", start["uid"], error
            )
        except (httpx.HTTPError, LookupError, TypeError, ValueError, AttributeError) as error:
            # Whatever a server without it, or another version, answers.
            self._next_try = time.monotonic() + _PAUSE
            logger.info("Tiled's graph of links does not answer (%r); runs are stored without", error)

    def _link(self, raw: list[str], ours: list[str], start: Mapping[str, Any]) -> None:
        seen = self._ask(_LOOK, raw=raw, ours=ours, predicate=DERIVED_FROM)
        raws = [entity["id"] for entity in seen["raw"]]
        linked = {link["object"]["id"] for entity in seen["ours"] for link in entity["outgoingLinks"]}
        if linked & set(raws):
            return
        # The raw run's first: it may not be there, or not ours to link to.
        subject_of = raws[0] if raws else self._made("BlueskyRun", raw)
        subject = seen["ours"][0]["id"] if seen["ours"] else self._made(RUN_SPEC, ours)
        link = {"subjectId": subject, "predicate": DERIVED_FROM, "objectId": subject_of}
        if tags := start.get("tiled_access_tags"):
            link["accessTags"] = list(tags)
        self._ask(_LINK, input=link)

    def _made(self, kind: str, path: list[str]) -> str:
        entity = {"entityType": kind, "name": path[-1], "nodePathParts": path}
        made = self._ask(_ENTITY, input=entity)
        return str(made["createEntity"]["id"])

    def _ask(self, query: str, **variables: Any) -> Any:
        context = self._place.parent.context
        response = context.http_client.post(
            str(context.api_uri).rstrip("/").rpartition("/")[0] + f"/{_GRAPH}",
            json={"query": query, "variables": variables},
            timeout=_SECONDS,
        )
        response.raise_for_status()
        answer = response.json()
        if errors := answer.get("errors"):
            raise _NotLinkedError(str(errors[0].get("message"))[:500])
        return answer["data"]
