"""What stays open from frame to frame: HDF5 files and handlers, for the runs that speak of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dvfb_stream.bounded_cache import BoundedCache

_Key = TypeVar("_Key", bound=Hashable)
_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True, eq=False)
class _Kept(Generic[_Opened]):
    opened: _Opened
    runs: set[str]


class KeptOpen(Generic[_Key, _Opened]):
    """Keeps things open, each for the runs that speak of it; the least recently used is closed for one more.

    Parameters
    ----------
    max_open
        Kept at a time.
    close
        Closes one; what it raises is ignored, as nobody uses it any more.
    """

    def __init__(self, max_open: int, close: Callable[[_Opened], Any]) -> None:
        self._close = close
        self._kept: BoundedCache[_Key, _Kept[_Opened]] = BoundedCache(
            max_open, on_evict=lambda key, kept: self._end(kept)
        )

    def __len__(self) -> int:
        return len(self._kept)

    def get(
        self,
        key: _Key,
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
            return known.opened
        self.drop(key)
        made = _Kept(make(), {run} if known is None else known.runs | {run})
        self._kept.put(key, made)
        return made.opened

    def drop(self, key: _Key) -> None:
        """Close what is open under a key."""
        kept = self._kept.pop(key)
        if kept is not None:
            self._end(kept)

    def drop_where(self, condition: Callable[[_Opened], bool]) -> None:
        """Close what meets a condition."""
        self._drop_where(lambda kept: condition(kept.opened))

    def release(self, run: str) -> None:
        """Close what is open for that run alone."""
        for kept in self._kept.values():
            kept.runs.discard(run)
        self._drop_where(lambda kept: not kept.runs)

    def close(self) -> None:
        """Close all."""
        self._kept.clear()

    def _drop_where(self, condition: Callable[[_Kept[_Opened]], bool]) -> None:
        for key, kept in zip(self._kept.keys(), self._kept.values(), strict=True):
            if condition(kept):
                self.drop(key)

    def _end(self, kept: _Kept[_Opened]) -> None:
        with suppress(Exception):
            self._close(kept.opened)
