"""A mapping that forgets: bounded in entries, in bytes or in both, and safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Generic, TypeVar, overload

from dvfb_stream.errors import SettingsError

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")
_Default = TypeVar("_Default")


class Evict(Enum):
    """Which entry goes first when there are too many."""

    OLDEST_USED = "oldest used"
    """The one that was put, got or made longest ago: for what costs time to make."""
    OLDEST_PUT = "oldest put"
    """The one that was put or made longest ago, however often it is asked for: for a history."""


class BoundedCache(Generic[_Key, _Value]):
    """Keeps the entries of last use, or of last arrival.

    No function of the caller runs under the cache's lock: `make`, `n_bytes_of` and `on_evict` may take their time,
    and may use the cache.

    Parameters
    ----------
    max_entries
        Entries kept; None: only bytes bound them.
    max_bytes
        Bytes kept, as stated with each entry; None: only the number bounds them.
    evict
        Which entry goes first.
    on_evict
        Called with the key and value of each entry that leaves in any other way than by `pop`: it closes a file.

    Raises
    ------
    SettingsError
        When there is no bound, or one is not positive.
    """

    def __init__(
        self,
        max_entries: int | None = None,
        *,
        max_bytes: int | None = None,
        evict: Evict = Evict.OLDEST_USED,
        on_evict: Callable[[_Key, _Value], None] | None = None,
    ) -> None:
        bounds = [bound for bound in (max_entries, max_bytes) if bound is not None]
        if not bounds or not all(bound > 0 for bound in bounds):
            raise SettingsError(
                f"a cache needs a positive bound, not max_entries={max_entries!r}, max_bytes={max_bytes!r}"
            )
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._evict = evict
        self._on_evict = on_evict
        self._lock = threading.Lock()
        self._kept: dict[_Key, tuple[_Value, int]] = {}  # with its bytes, the next to go first
        self._bytes = 0
        self._making: dict[_Key, threading.Event] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    @property
    def n_bytes(self) -> int:
        """Bytes of all entries, as stated with them."""
        return self._bytes

    def keys(self) -> list[_Key]:
        """Return the keys, the next to go first."""
        with self._lock:
            return list(self._kept)

    def values(self) -> list[_Value]:
        """Return the values, the next to go first."""
        with self._lock:
            return [value for value, _ in self._kept.values()]

    @overload
    def get(self, key: _Key) -> _Value | None: ...
    @overload
    def get(self, key: _Key, default: _Default) -> _Value | _Default: ...
    def get(self, key: _Key, default: _Default | None = None) -> _Value | _Default | None:
        """Return what is kept under a key; `default` where nothing is."""
        with self._lock:
            found = self._found(key)
        return default if found is None else found[0]

    def put(self, key: _Key, value: _Value, *, n_bytes: int = 0) -> None:
        """Keep an entry; one under the same key goes. One that alone exceeds `max_bytes` is not kept."""
        with self._lock:
            gone = self._put(key, value, n_bytes, least_kept=0)
        self._tell(gone)

    def get_or_make(
        self, key: _Key, make: Callable[[], _Value], *, n_bytes_of: Callable[[_Value], int] = lambda value: 0
    ) -> _Value:
        """Return what is kept under a key, made by `make` where nothing is.

        Threads that ask for different keys make side by side; of those that ask for the same, one makes and the
        others wait. What was made last stays, even if it alone exceeds `max_bytes`: it would be made anew each time
        otherwise. What `make` raises passes through, and nothing is kept.
        """
        while True:
            with self._lock:
                found = self._found(key)
                if found is not None:
                    return found[0]
                made = self._making.get(key)
                if made is None:
                    made = self._making[key] = threading.Event()
                    break
            made.wait()
        gone: list[tuple[_Key, _Value]] = []
        try:
            value = make()
            n_bytes = n_bytes_of(value)
            with self._lock:
                gone = self._put(key, value, n_bytes, least_kept=1)
            return value
        finally:
            with self._lock:
                del self._making[key]
            made.set()
            self._tell(gone)

    def pop(self, key: _Key) -> _Value | None:
        """Keep an entry no longer and return it, without `on_evict`; None where there is none."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self._bytes -= found[1]
            return found[0]

    def clear(self) -> None:
        """Keep nothing any longer."""
        with self._lock:
            gone = [(key, value) for key, (value, _) in self._kept.items()]
            self._kept.clear()
            self._bytes = 0
        self._tell(gone)

    def _found(self, key: _Key) -> tuple[_Value, int] | None:
        found = self._kept.get(key)
        if found is not None and self._evict is Evict.OLDEST_USED:
            self._kept[key] = self._kept.pop(key)
        return found

    def _put(self, key: _Key, value: _Value, n_bytes: int, *, least_kept: int) -> list[tuple[_Key, _Value]]:
        """Keep an entry, and return those that had to go for it."""
        gone = []
        replaced = self._kept.pop(key, None)
        if replaced is not None:
            self._bytes -= replaced[1]
            if replaced[0] is not value:
                gone.append((key, replaced[0]))
        self._kept[key] = (value, n_bytes)
        self._bytes += n_bytes
        while len(self._kept) > least_kept and self._is_too_much:
            oldest = next(iter(self._kept))
            other, size = self._kept.pop(oldest)
            self._bytes -= size
            gone.append((oldest, other))
        return gone

    @property
    def _is_too_much(self) -> bool:
        return (self.max_entries is not None and len(self._kept) > self.max_entries) or (
            self.max_bytes is not None and self._bytes > self.max_bytes
        )

    def _tell(self, gone: list[tuple[_Key, _Value]]) -> None:
        if self._on_evict is not None:
            for key, value in gone:
                self._on_evict(key, value)
