"""Processes that compute for this one, and end when it does, whatever ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection


@contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Lend processes of one thread each. They end at once when the block is left, and when this process is killed.

    A task that runs then is lost, so that tasks must leave nothing half done that counts as done. Ctrl-C reaches this
    process alone, which leaves the block. This module imports nothing heavy: each process imports it first, and until
    then does not notice the end of this one.

    Parameters
    ----------
    processes
        How many, at least 1.
    """
    watched, held = Pipe(duplex=False)
    # Not forked: a forked child of a process that has used torch's threads can hang.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(watched,)
    )
    try:
        # What is blocked here stays blocked in the processes, and comes here when it no longer is.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(processes):
                pool.submit(_nothing)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        yield pool
    finally:
        held.close()
        watched.close()
        pool.shutdown(cancel_futures=True)


def _nothing() -> None:
    """Have a process started."""


def _begin(watched: Connection) -> None:
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch = sys.modules.get("torch")  # there already where the main module imports it
    if torch is not None:
        torch.set_num_threads(1)


def _end_with(watched: Connection) -> None:
    """End this process when the other end of the connection is closed: the system does that for a dead process."""
    try:
        watched.recv_bytes()
    except OSError:  # EOFError among them
        pass
    finally:
        os._exit(1)
