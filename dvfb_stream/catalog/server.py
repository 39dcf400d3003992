"""A Tiled server inside this process, for the demo, the beamline profile and the tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dvfb_stream.catalog.cache_folder import remember_served_folder
from dvfb_stream.errors import MissingExtraError

logger = logging.getLogger(__name__)


@contextmanager
def embedded_server(folder: str | Path, *, readable: Sequence[str | Path] = ()) -> Iterator[Any]:
    """Serve `folder` while the context lasts, and give a client of it.

    What is stored stays in the folder (an SQLite catalog, DuckDB tables), and is there again the next time. The
    server listens on localhost alone and ends with the context: its thread would keep the process from ending.
    One at a time in a process: of two, Tiled 0.2 lets in the clients of the newer one only.

    Parameters
    ----------
    folder
        Made where there is none.
    readable
        Further folders, of files that runs name, which the server may read.

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
    with SimpleTiledServer(directory=str(folder), readable_storage=[str(one) for one in readable]) as server:
        _give_each_request_a_connection(server)
        client = from_uri(server.uri)
        remember_served_folder(client, Path(folder))
        with closing(client.context):
            yield client


def _give_each_request_a_connection(server: Any) -> None:
    """Keep reading a table from rolling back, or hanging, the append of rows that goes on meanwhile.

    In Tiled 0.2 all requests of this server share one DuckDB connection; readers and writers at the same time are
    what a live run is about.
    """
    import sqlalchemy.pool

    storage = server.storage
    try:
        clone = storage._adbc_connection.adbc_clone
    except AttributeError:
        logger.warning("this Tiled keeps its tables in another way; its pool of connections is left as it is")
        return
    storage.__dict__["_connection_pool"] = sqlalchemy.pool.QueuePool(clone)
