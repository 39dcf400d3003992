"""Says in the log what is left out of the annotations, and why, without filling the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

from dvfb_stream.callbacks.documents import DocumentError

logger = logging.getLogger(__name__)

MOST_LOGGED = 100
"""A daemon that joins in the middle of a run meets thousands of documents that it cannot place."""


class RejectedDocuments:
    """Documents that could not be taken, and images that nobody described as a detector's; for any thread."""

    def __init__(self) -> None:
        # Reentrant, as the handler of a signal may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._documents = 0
        self._data_keys: set[str] = set()

    @property
    def documents(self) -> int:
        """How many documents were left out, logged or not."""
        with self._lock:
            return self._documents

    def document(self, name: object, doc: object, error: Exception) -> None:
        """Count a document, and log why it is left out."""
        with self._lock:
            self._documents += 1
            count = self._documents
        if count > MOST_LOGGED:
            return
        known = isinstance(error, DocumentError)
        uid = doc.get("uid") if isinstance(doc, Mapping) else None
        logger.warning(
            "a document (%r, uid %r) is left out: %s", name, uid, error, exc_info=None if known else error
        )
        if count == MOST_LOGGED:
            logger.warning("further documents that are left out are only counted")

    def images(self, data_keys: Iterable[str], *, described: Iterable[str]) -> None:
        """Log, once each, data keys with images that are none of the `described` detectors."""
        with self._lock:
            news = [key for key in data_keys if key not in self._data_keys]
            news = news[: MOST_LOGGED - len(self._data_keys)]
            self._data_keys.update(news)
        if news:
            logger.warning(
                "images under %s are not annotated: only %s are described as detectors; give these data keys a "
                "geometry, or correct the names",
                ", ".join(map(repr, news)),
                ", ".join(map(repr, described)) or "no data keys",
            )
