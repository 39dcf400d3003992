"""What a container of runs holds, page by page, as Tiled lists it: in the order in which runs were made.

Never in another order: of a container that is sorted, Tiled 0.2.20 gives two pages and no further one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlparse

from tiled.client.container import Container
from tiled.client.utils import MSGPACK_MIME_TYPE, handle_error, retry_context
from tiled.queries import KeysFilter

from dvfb_stream.catalog.changes import notes_beside

PAGE = 300
"""Nodes of a page: the most that Tiled gives."""
_KEYS_A_REQUEST = 100
"""They stand in the address, which servers in between bound to 8 kB."""

Node = tuple[str, dict[str, Any]]
"""Key and metadata."""


def nodes_from(client: Container, first: int, *, keys_only: bool = False) -> Iterator[list[Node]]:
    """Give pages of the nodes from a position on; none where the container ends before it.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    yield from _pages(client, client.item["links"]["search"], first, keys_only=keys_only)


def selected(client: Container, expression: str) -> Iterator[list[tuple[str, Any]]]:
    """Give pages of keys, and what a JMESPath expression selects of each node's metadata; raises as `nodes_from`.

    Of a client that is narrowed down by searches, those nodes alone.
    """
    for page in _pages(client, client.item["links"]["search"], 0, select=expression):
        yield [(key, said.get("selected")) for key, said in page]


def nodes_called(client: Container, keys: Iterable[str]) -> Iterator[Node]:
    """Give the nodes with these keys, those that are there; raises as `nodes_from`."""
    wanted = list(keys)
    for start in range(0, len(wanted), _KEYS_A_REQUEST):
        some = client.search(KeysFilter(keys=wanted[start : start + _KEYS_A_REQUEST]))
        for page in _pages(some, client.item["links"]["search"], 0):
            yield from page


def notes_from(client: Container, first: int) -> Iterator[list[Node]]:
    """Give pages of the notes of changes from a position on; raises as `nodes_from`."""
    yield from _pages(client, notes_beside(client.item["links"]["search"]), first, filters={})


def _pages(
    client: Container,
    address: str | None,
    first: int,
    *,
    keys_only: bool = False,
    filters: dict[str, Any] | None = None,
    select: str = "",
) -> Iterator[list[Node]]:
    wanted: dict[str, Any] = {
        "page[offset]": first,
        "page[limit]": PAGE,
        "fields": "" if keys_only else "metadata",
        "omit_links": True,
        **(client._queries_as_params if filters is None else filters),
    }
    if select:
        wanted["select_metadata"] = select
    while address is not None:
        answer = _answer(client, address, wanted)
        if answer is None:
            return
        yield [(node["id"], node["attributes"].get("metadata") or {}) for node in answer["data"]]
        address = answer["links"]["next"]
        if address is not None:
            wanted.pop("page[offset]", None)
            wanted |= parse_qs(urlparse(address).query)
            address = address.partition("?")[0]


def _answer(client: Container, address: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    for attempt in retry_context():
        with attempt:
            answer = client.context.http_client.get(
                address, headers={"Accept": MSGPACK_MIME_TYPE}, params=parameters
            )
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            found: dict[str, Any] = handle_error(answer).json()
    return found
