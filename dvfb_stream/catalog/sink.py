"""Stores the documents of analysis runs in Tiled, such that storing them again changes nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.errors import DvfbError, check_at_least

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

PATIENCE = 45.0
"""Seconds for which a call is tried again while Tiled is not available: what Tiled's own client takes by default."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries; each pause is twice the one before."""


@dataclass(slots=True, eq=False)
class _OpenRun:
    """An analysis run whose stop has not come yet."""

    start: dict[str, Any]
    descriptor: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    """That are not stored yet."""


class TiledSink:
    """A sink that writes analysis runs into Tiled, beside the raw runs, each frame once however often it comes.

    - A run that is not there is written as it comes.
    - A run that is there gets the rows that are missing, and its stop; the rows that are there stay, whatever they
      say. If it was made with another geometry, a warning in the log says so, and how to have it made anew.
    - A run that somebody else writes at the same time is left to them: rows that they have stored count as stored.

    Rows are written `batch_size` at a time, so that they can be seen while the raw run goes on; the last ones
    come with the stop. Call it from one thread at a time. While Tiled is not available, a call tries for `patience`;
    then it raises, and that run must be delivered again from its start.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs: ``/smi/raw`` has its annotations in ``/smi/raw_annotations``. Or of
        the container of annotations itself.
    batch_size
        Rows in one request; the larger, the faster and the later.
    max_open_runs
        Runs without a stop held in memory; of more, the oldest is forgotten and stays incomplete.
    patience
        Seconds.

    Raises
    ------
    SettingsError
        When a bound is not positive, `client` is no Tiled container, or there is no place beside its raw runs.
    """

    def __init__(
        self, client: Any, *, batch_size: int = 50, max_open_runs: int = 1_000, patience: float = PATIENCE
    ) -> None:
        check_at_least(1, batch_size=batch_size, max_open_runs=max_open_runs)
        check_at_least(0, patience=patience)
        self._store = AnnotationStore(client)
        self._batch_size = batch_size
        self._patience = patience
        self._open: BoundedCache[str, _OpenRun] = BoundedCache(
            max_open_runs, evict=Evict.OLDEST_PUT, on_evict=self._warn_of_the_oldest
        )
        self._run_of_descriptor: BoundedCache[str, str] = BoundedCache(max_open_runs, evict=Evict.OLDEST_PUT)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Store one document of an analysis run.

        Raises
        ------
        StoreUnavailableError
            When Tiled was not available for too long.
        StoreRefusedError
            When it will not take the run.
        DvfbError
            When the document belongs to no run whose start came before it.
        """
        uid, run = self._run_of(name, doc)
        try:
            if run is None:
                self._open.put(uid, _OpenRun(start=doc))
            else:
                self._store_document(uid, run, name, doc)
        except Exception:
            # Rows may be missing now. Nothing more is written, least of all the stop.
            self._open.pop(uid)
            raise

    def close(self) -> None:
        """Leave the open runs to other writers; what is not stored of them is not."""
        self._open.clear()
        self._store.close()

    def _store_document(self, uid: str, run: _OpenRun, name: str, doc: dict[str, Any]) -> None:
        match name:
            case "descriptor":
                run.descriptor = doc
                self._run_of_descriptor.put(doc["uid"], uid)
            case "event":
                run.events.append(doc)
                if len(run.events) >= self._batch_size:
                    self._write(run)
            case "stop":
                self._write(run)
                self._patiently(lambda: self._store.finish(run.start, _descriptor(run), doc))
                self._open.pop(uid)

    def _write(self, run: _OpenRun) -> None:
        self._patiently(lambda: self._store.write(run.start, _descriptor(run), run.events))
        run.events.clear()

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return call()
            except StoreUnavailableError as error:
                if time.monotonic() + pause > deadline:
                    raise
                logger.info("%s", error)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> tuple[str, _OpenRun | None]:
        """Return the uid of a document's run, and the run unless this is the start of one that is not open."""
        match name:
            case "start":
                uid = doc["uid"]
            case "descriptor" | "stop":
                uid = doc["run_start"]
            case "event":
                uid = self._run_of_descriptor.get(doc["descriptor"])
            case _:
                raise DvfbError(f"an analysis run has no documents of the kind {name!r}")
        run = self._open.get(uid)
        if run is None and name != "start":
            raise DvfbError(f"a document ({name}) came for the run {uid!r}, which is not open in this sink")
        return uid, run

    def _warn_of_the_oldest(self, uid: str, run: _OpenRun) -> None:
        logger.warning("more than %d runs are open; %s stays incomplete", self._open.max_entries, uid)


def _descriptor(run: _OpenRun) -> dict[str, Any]:
    if run.descriptor is None:
        raise DvfbError(f"run {run.start['uid']} has no descriptor")
    return run.descriptor
