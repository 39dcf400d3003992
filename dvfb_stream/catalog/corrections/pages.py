"""Reads the metadata of many nodes in few requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, urlparse

from tiled.client.utils import MSGPACK_MIME_TYPE, handle_error, retry_context
from tiled.query_registration import default_query_registry

_PAGE = 300
"""Nodes, the most that Tiled gives in an answer."""


def nodes_in(
    context: Any, path: Sequence[str], *queries: Any, select: str | None = None
) -> Iterator[dict[str, Any]]:
    """Give what Tiled says of each node in a container, in the order they were made; nothing if it is not there.

    Tiled's own client asks for the structure of each, too, for which the server counts what is in it.

    Parameters
    ----------
    context
        Of a Tiled client.
    path
        Of the container, from the server's root.
    queries
        That a node has to fulfil, all of them.
    select
        JMESPath expression of what is wanted of the metadata; None: all.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    params: dict[str, Any] = {"fields": ["metadata", "access_tags"], "omit_links": True, "page[limit]": _PAGE}
    if select is not None:
        params["select_metadata"] = select
    for query in queries:
        name = default_query_registry.query_type_to_name[type(query)]
        for field, value in query.encode().items():
            params.setdefault(f"filter[{name}][condition][{field}]", []).append(value)
    place: dict[str, list[str]] = {}
    while True:
        for attempt in retry_context(context):
            with attempt:
                response = context.http_client.get(
                    address_of(context, "search", path),
                    headers={"Accept": MSGPACK_MIME_TYPE},
                    params=params | place,
                )
                if response.status_code == HTTPStatus.NOT_FOUND:
                    return
                page = handle_error(response).json()
        yield from page["data"]
        if page["links"]["next"] is None:
            return
        # The address of the next page says where it begins, and not what is asked for.
        place = parse_qs(urlparse(page["links"]["next"]).query)


def address_of(context: Any, kind: str, path: Sequence[str]) -> str:
    """Return the address under which a server gives one kind of answer about a node."""
    return f"{context.api_uri}{kind}/{'/'.join(quote(part, safe='') for part in path)}"
