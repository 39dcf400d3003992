"""Runs ``tiled``, as a process that was forked from one that has imported it: see `tests.forked_processes`."""

from __future__ import annotations

import functools
import os
import sys


def tiled(*argv: str) -> None:
    """Run ``tiled`` with these arguments, as if it had been started by itself."""
    _give_each_request_a_connection()
    from tiled.commandline.main import main

    sys.argv = ["tiled", *argv]
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    os._exit(status)


def _give_each_request_a_connection() -> None:
    """Keep Tiled 0.2 from sharing one DuckDB connection among its threads: now and then that ends the server."""
    import sqlalchemy.pool
    from tiled.storage import SQLStorage

    pool = functools.cached_property(
        lambda storage: sqlalchemy.pool.QueuePool(storage._adbc_connection.adbc_clone)
    )
    pool.__set_name__(SQLStorage, "_connection_pool")
    SQLStorage._connection_pool = pool
