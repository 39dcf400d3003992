"""Plans kept for the geometries seen last, bounded in bytes."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from dvfb_stream.fbt.plan import FourierBessel

REMEMBERED = 4096
"""Plans let go whose keys' hashes are remembered, to notice that they come back."""


class PlanCache:
    """Plans for many geometries, bounded in bytes; safe to share between threads.

    The plan used least recently goes first. Should plans that went come back, the stream goes round more
    geometries than fit, and that rule would let go of each just before it is needed: any one goes then, so that
    most of what fits is found again. Threads that ask for different plans build them side by side, those that ask
    for the same wait for one of them to build it.

    Parameters
    ----------
    max_bytes
        Plans are let go while the sum of `FourierBessel.nbytes` is above this; the plan asked for last is kept in
        any case. One plan of a 256 x 256 view takes some 15 to 25 MB.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self._plans: OrderedDict[Hashable, FourierBessel] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._building: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        self._choice = random.Random(0)

    def get(self, key: Hashable, build: Callable[[], FourierBessel]) -> FourierBessel:
        """Return the plan of `key`, built by `build` where there is none yet.

        Exceptions of `build` pass through and leave the cache as it was.
        """
        while True:
            with self._lock:
                plan = self._plans.get(key)
                if plan is not None:
                    self._plans.move_to_end(key)
                    # Plans grow when a type or a penalty is first used.
                    self._let_go(came_back=False)
                    return plan
                finished = self._building.get(key)
                if finished is None:
                    finished = self._building[key] = threading.Event()
                    break
            finished.wait()
        try:
            plan = build()
            with self._lock:
                self._plans[key] = plan
                self._let_go(came_back=hash(key) in self._gone)
            return plan
        finally:
            with self._lock:
                del self._building[key]
            finished.set()

    @property
    def nbytes(self) -> int:
        """Bytes held by all plans."""
        # A copy taken at once: another thread may add a plan while this one adds up.
        return sum(plan.nbytes for plan in tuple(self._plans.values()))

    def __len__(self) -> int:
        return len(self._plans)

    def _let_go(self, *, came_back: bool) -> None:
        while len(self._plans) > 1 and self.nbytes > self.max_bytes:
            keys = list(self._plans)[:-1]
            key = self._choice.choice(keys) if came_back else keys[0]
            del self._plans[key]
            self._gone[hash(key)] = None
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)
