"""A batch divided among the cores of a processor, each part done from end to end by one thread.

torch would divide every step of a batch among its threads, which then wait for one another some hundred times a
batch, and nothing of what numpy does. Parts have one step less to wait for: the end. Where there are too few items
to divide, one thread of one core is quicker than all of torch's, too: by a third for one frame of the default model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

FEWEST_TOGETHER = 8
"""Items of a part. Each of its steps takes some time whatever is in it, and one thread of Python's waits for another
at each: two parts of four take as long as one of eight, and half as much again of the processor's time."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ProcessorLanes:
    """As many threads as torch has in the thread that asks, each of which computes on one core.

    They start when there is first something to divide. Several threads may ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: _Threads | None = None

    def map(
        self, work: Callable[[Sequence[_Item]], Sequence[_Result]], items: Sequence[_Item]
    ) -> list[_Result]:
        """Return what `work` returns for all items, in their order.

        Parameters
        ----------
        work
            Given some items that lie together, returns one result for each; called by several threads at a time.
        items
            Any number.

        Raises
        ------
        Exception
            What `work` raised for the first part that failed, once all parts have ended.
        """
        cores = torch.get_num_threads()
        if cores == 1 or not items:
            return list(work(items))
        parts = max(1, min(cores, len(items) // FEWEST_TOGETHER))
        pool = self._started(cores)
        bounds = [len(items) * k // parts for k in range(parts + 1)]
        futures = [pool.submit(work, items[bounds[k] : bounds[k + 1]]) for k in range(parts)]
        wait(futures)
        return [result for future in futures for result in future.result()]

    def _started(self, cores: int) -> ThreadPoolExecutor:
        with self._lock:
            known = self._threads
            if known is None or known.cores != cores or known.process != os.getpid():
                # A forked process has none of its parent's threads.
                known = self._threads = _Threads(cores)
            return known.pool


class _Threads:
    def __init__(self, cores: int) -> None:
        self.cores, self.process = cores, os.getpid()
        self.pool = ThreadPoolExecutor(cores, "dvfb-lane", initializer=_take_one_core)
        # What one thread sets for itself, torch takes for those that begin later, too: set back once all have begun.
        all_have_begun = threading.Barrier(cores + 1)
        for _ in range(cores):
            self.pool.submit(all_have_begun.wait)
        all_have_begun.wait()
        torch.set_num_threads(cores)


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread's own number is set when it first asks, and again by nobody else
    torch.set_num_threads(1)
