"""A mapping that forgets: what documents leave behind for others, bounded however many come."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """Keeps what was put last. One thread puts; any may ask meanwhile.

    Parameters
    ----------
    most
        Entries kept; of more, the oldest go.
    most_bytes
        Bytes kept, as stated with each entry; None: the number alone bounds them.
    """

    def __init__(self, most: int, *, most_bytes: int | None = None) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: dict[_Key, tuple[_Value, int]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: _Key) -> bool:
        return key in self._kept

    def put(self, key: _Key, value: _Value, *, n_bytes: int = 0) -> None:
        """Keep an entry; one under the same key goes."""
        self.discard(key)
        self._kept[key] = (value, n_bytes)
        self._bytes += n_bytes
        while len(self._kept) > self._most or (
            self._most_bytes is not None and self._bytes > self._most_bytes
        ):
            self.discard(next(iter(self._kept)))

    def get(self, key: _Key) -> _Value | None:
        """Return what is kept under a key; None where nothing is."""
        found = self._kept.get(key)
        return None if found is None else found[0]

    def discard(self, key: _Key) -> None:
        """Keep an entry no longer."""
        found = self._kept.pop(key, None)
        self._bytes -= 0 if found is None else found[1]
