"""What a process does for the one that has started it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Service(Protocol):
    """What a process does for the one that has started it; made as ``Service(memory, **settings)``."""

    def introduction(self) -> Mapping[str, Any]:
        """Return what it says of itself once it is ready; JSON-ready."""
        ...

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is asked for; JSON-ready. May raise: the request has failed then."""
        ...
