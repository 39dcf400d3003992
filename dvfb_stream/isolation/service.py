"""What a process does for the one that has started it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Service(Protocol):
    """What a process does for the one that has started it; made as ``Service(memory, **settings)``."""

    def introduction(self) -> Mapping[str, Any]:
        """Return what it says of itself once it is ready; JSON-ready.

        ``device``, unless it is the CPU: where it computes, which is lost when it does not answer.
        """
        ...

    def hear(self, note: Mapping[str, Any]) -> None:
        """Take note of what is to be known before a request; while another is answered, on another thread.

        What it raises is logged, and the note is lost.
        """
        ...

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is asked for; JSON-ready. May raise: the request has failed then."""
        ...
