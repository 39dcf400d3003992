"""Plans kept for the geometries seen last, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from dvfb_stream.fbt.plan import FourierBessel


class PlanCache:
    """Least recently used plans, bounded in bytes; safe to share between threads.

    Parameters
    ----------
    max_bytes
        Plans used least recently are let go while the sum of `FourierBessel.nbytes` is above this; the plan
        asked for last is kept in any case. One plan of a 256 x 256 view takes some 60 MB.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self._plans: OrderedDict[Hashable, FourierBessel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], FourierBessel]) -> FourierBessel:
        """Return the plan of `key`, built by `build` where there is none yet.

        Exceptions of `build` pass through and leave the cache as it was.
        """
        with self._lock:
            plan = self._plans.pop(key, None)
            if plan is None:
                plan = build()
            self._plans[key] = plan
            while len(self._plans) > 1 and self.nbytes > self.max_bytes:
                self._plans.popitem(last=False)
            return plan

    @property
    def nbytes(self) -> int:
        """Bytes held by all plans."""
        # A copy taken at once: another thread may add a plan while this one adds up.
        return sum(plan.nbytes for plan in tuple(self._plans.values()))

    def __len__(self) -> int:
        return len(self._plans)
