"""Starts Tiled servers by forking: what a server imports takes three seconds, and is imported once for all.

Run as a script by `tiled_process`. Each line of its standard input is an order, ``{"argv": ..., "env": ...,
"log": ...}``; it answers with the pid of a process that runs ``tiled`` with these arguments, as if it had been
started by itself.
"""

import functools
import importlib
import json
import os
import signal
import sys


def _run(order: dict) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    os.environ.clear()
    os.environ.update(order["env"])
    argv = list(order["argv"])
    if "--init" in argv:
        # A server would start one more interpreter for it.
        argv.remove("--init")
        initialising = os.fork()
        if initialising == 0:
            _tiled("catalog", "init", "--if-not-exists", argv[argv.index("catalog") + 1])
        assert os.waitpid(initialising, 0)[1] == 0
    _tiled(*argv)


def _tiled(*argv: str) -> None:
    sys.argv = ["tiled", *argv]
    try:
        main()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 0)


def _give_each_request_a_connection() -> None:
    """Keep Tiled 0.2 from sharing one DuckDB connection among its threads: now and then that ends the server."""
    pool = functools.cached_property(
        lambda storage: sqlalchemy.pool.QueuePool(storage._adbc_connection.adbc_clone)
    )
    pool.__set_name__(SQLStorage, "_connection_pool")
    SQLStorage._connection_pool = pool


if __name__ == "__main__":
    # Nobody waits for what was forked: it is gone as soon as it ends.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in ("adapters.sql", "adapters.zarr", "catalog.adapter", "commandline._serve", "server.app"):
        importlib.import_module(f"tiled.{name}")
    import sqlalchemy.pool
    from tiled.commandline.main import main
    from tiled.storage import SQLStorage

    _give_each_request_a_connection()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _run(json.loads(line))
            finally:
                os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
