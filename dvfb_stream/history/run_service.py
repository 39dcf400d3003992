"""What a worker process of history does: annotates the raw runs that it is asked for, one after the other."""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from dvfb_stream.isolation.frame_memory import MappedFrames, Place


class Sign(IntEnum):
    """Signs of life in the memory that both processes see, by their places."""

    ROWS = 0
    """Rows made since the process began."""
    ANNOTATING = 1
    """1 while rows should be made; 0 while there is nothing to do but to wait for the catalog to have them, which may
    take as long as an outage."""


class RunService:
    """See `dvfb_stream.isolation.messages.Service`.

    Parameters
    ----------
    memory
        Descriptor of the shared memory.
    address, api_key
        Of the container of raw runs, and how to get in; without a key, as `dvfb_stream.catalog.connect` finds it.
    settings
        Of `HistorySettings`.
    signs
        Place of as many integers as `Sign` has members.
    folder
        For what has to be on a disk meanwhile; who has started this process deletes it.
    threads
        Of torch.
    log_level
        Of what libraries log, to stderr; None: nothing.
    """

    def __init__(
        self,
        memory: int,
        *,
        address: str,
        api_key: str | None,
        settings: Mapping[str, Any],
        signs: Place,
        folder: str,
        threads: int,
        log_level: int | None,
    ) -> None:
        _say_no_more_than(log_level)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch, which reads it at its import
        from tiled.client import from_uri

        from dvfb_stream.catalog import connect
        from dvfb_stream.history.settings import HistorySettings

        self._signs = MappedFrames(memory, mmap.ACCESS_WRITE).array(signs)
        client = connect(address) if api_key is None else from_uri(address, api_key=api_key)
        self._history = HistorySettings(**settings).history(
            client,
            # Of this process alone: what it leaves when it is killed is made again, and nobody need deliver it.
            spool=tempfile.mkdtemp(prefix="spool-", dir=folder),
            on_row=self._row_was_made,
            on_storing=self._is_storing,
        )
        self._wanted: deque[str] = deque()
        self._done = self._begun()

    def _begun(self) -> Iterator[str]:
        return self._history.annotate(iter(self._wanted.popleft, None))

    def describe(self) -> dict[str, Any]:
        """Return nothing that need be known."""
        return {}

    def notify(self, note: Mapping[str, Any]) -> None:
        """Nothing helps beforehand."""

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Annotate a raw run, ``uid``; return its report."""
        self._signs[Sign.ANNOTATING] = 1
        self._history.report = type(self._history.report)()
        self._wanted.append(request["uid"])
        try:
            next(self._done)
        except BaseException:  # what has raised gives nothing any more, to the runs behind this one neither
            self._wanted.clear()
            self._done = self._begun()
            raise
        self._signs[Sign.ANNOTATING] = 0
        return self._history.report.as_json()

    def _row_was_made(self, status: str) -> None:
        self._signs[Sign.ROWS] += 1

    def _is_storing(self) -> None:
        self._signs[Sign.ANNOTATING] = 0


def _say_no_more_than(log_level: int | None) -> None:
    if log_level is not None:
        logging.basicConfig(
            level=log_level, format="%(levelname)s %(name)s (process %(process)d): %(message)s"
        )
        return
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
