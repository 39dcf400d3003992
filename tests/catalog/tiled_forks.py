"""Starts Tiled servers by forking: what a server imports takes three seconds, and is imported once for all.

Run as a script by `tiled_process`. Each line of its standard input is an order, ``{"argv": ..., "env": ...,
"log": ...}``; it answers with the pid of a process that runs ``tiled`` with these arguments, as if it had been
started by itself.
"""

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
    sys.argv = ["tiled", *order["argv"]]
    main()


if __name__ == "__main__":
    # Nobody waits for what was forked: it is gone as soon as it ends.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in ("adapters.sql", "adapters.zarr", "catalog.adapter", "commandline._serve", "server.app"):
        importlib.import_module(f"tiled.{name}")
    from tiled.commandline.main import main

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _run(json.loads(line))
            finally:
                os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
