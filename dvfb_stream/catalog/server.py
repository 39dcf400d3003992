"""A Tiled server inside this process, for the demo, the beamline profile and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvfb_stream.errors import MissingExtraError


@contextmanager
def embedded_server(folder: str | Path) -> Iterator[Any]:
    """Serve `folder` while the context lasts, and give a client of it.

    What is stored stays in the folder (an SQLite catalog, DuckDB tables), and is there again the next time. The
    server listens on localhost alone and ends with the context: its thread would keep the process from ending.
    One at a time in a process: of two, Tiled 0.2 lets in the clients of the newer one only.

    Yields
    ------
    tiled.client.container.Container
        Client of the root. ``client.uri`` tells where the server listens.

    Raises
    ------
    MissingExtraError
        When Tiled's server is not installed.
    """
    try:
        from tiled.client import from_uri
        from tiled.server import SimpleTiledServer
    except ImportError as error:
        raise MissingExtraError(error.name or "tiled", "tiled") from error
    with SimpleTiledServer(directory=str(folder)) as server:
        client = from_uri(server.uri)
        try:
            yield client
        finally:
            client.context.close()
