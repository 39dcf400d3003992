"""What stays from frame to frame: open HDF5 files and handlers, and the frames of what holds several."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from dvfb_stream.bounded_cache import BoundedCache

MOST_KEPT_BYTES = 256 * 2**20
"""Of the frames of a chunk or a datum: 16 of a 4-megapixel detector. Larger ones are read once a frame."""


_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    opened: Any
    runs: set[str]


class KeptOpen:
    """Keeps things open, each for the runs that speak of it; the least recently used is closed for one more.

    Parameters
    ----------
    max_open
        Kept at a time.

    Attributes
    ----------
    stacks
        The frames of what was read last and holds several, with what tells whether they are still so.
    """

    def __init__(self, max_open: int) -> None:
        self._kept: BoundedCache[Hashable, _Kept] = BoundedCache(
            max_open, on_evict=lambda key, kept: _close(kept.opened)
        )
        self.stacks: BoundedCache[Hashable, tuple[Any, NDArray[Any]]] = BoundedCache(
            1, max_bytes=MOST_KEPT_BYTES
        )

    def __len__(self) -> int:
        return len(self._kept)

    def get(
        self,
        key: Hashable,
        run: str,
        make: Callable[[], _Opened],
        is_outdated: Callable[[_Opened], bool] = lambda opened: False,
    ) -> _Opened:
        """Return what is open under a key, for a run.

        It is made anew when it is outdated, and when a run speaks of it for the first time: the file may have been
        written anew in place.
        """
        known = self._kept.get(key)
        if known is not None and run in known.runs and not is_outdated(known.opened):
            return cast(_Opened, known.opened)
        self.drop(key)
        made = make()
        self._kept.put(key, _Kept(made, {run} if known is None else known.runs | {run}))
        return made

    def drop(self, key: Hashable) -> None:
        """Close what is open under a key."""
        kept = self._kept.pop(key)
        if kept is not None:
            _close(kept.opened)

    def drop_where(self, condition: Callable[[Any], bool]) -> None:
        """Close what meets a condition."""
        for key, kept in zip(self._kept.keys(), self._kept.values(), strict=True):
            if condition(kept.opened):
                self.drop(key)

    def release(self, run: str) -> None:
        """Close what is open for that run alone."""
        for key, kept in zip(self._kept.keys(), self._kept.values(), strict=True):
            kept.runs.discard(run)
            if not kept.runs:
                self.drop(key)
        self.stacks.clear()

    def close(self) -> None:
        """Close all."""
        self._kept.clear()
        self.stacks.clear()


def _close(opened: Any) -> None:
    with suppress(
        Exception
    ):  # whatever state it is in, and whether it can be closed: nobody uses it any more
        opened.close()
