"""Asks a Tiled server whether it is there, cheaply, and not more often than every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

_SECONDS_TO_ANSWER = 3.0
_TRUSTED_SECONDS = 10.0
"""For which an answer is good: supervisors and Prometheus ask every few seconds each."""


class StoreReach:
    """Whether the server behind an address answers; from any thread.

    Parameters
    ----------
    uri
        Address of a container on it.
    clock
        Seconds, monotonic.
    """

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(uri)
        self._address = (
            f"{parts.scheme}://{parts.netloc}{parts.path.partition('/api/')[0].rstrip('/')}/healthz"
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = -_TRUSTED_SECONDS
        self._trouble = ""

    def trouble(self) -> str:
        """Return why nothing can be asked of it; empty where it answers."""
        with self._lock:
            if self._clock() - self._asked >= _TRUSTED_SECONDS:
                self._trouble = self._ask()
                self._asked = self._clock()
            return self._trouble

    def _ask(self) -> str:
        try:
            answer = httpx.get(self._address, timeout=_SECONDS_TO_ANSWER, trust_env=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return f"does not answer ({type(error).__name__}: {error})"
        # Whatever it says of that page, somebody is there; what is overloaded or starting says 502 to 504.
        return f"answers with status {answer.status_code}" if answer.status_code >= 500 else ""
