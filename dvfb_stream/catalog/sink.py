"""Stores analysis runs in Tiled such that storing them again changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.resumed import ResumedContainer, data_columns, with_columns
from dvfb_stream.catalog.search import annotations_table
from dvfb_stream.errors import DvfbError, check_at_least
from dvfb_stream.rows import EVENT_COLUMNS

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _OpenRun:
    """An analysis run whose stop has not come yet."""

    writer: TiledWriter | None
    """None: the run is stored completely, and what comes of it is left out."""
    frames: set[int]
    """Frames that need no further row."""
    descriptor_uid: str = ""
    columns: tuple[str, ...] = ()
    """Of the table that an earlier version has begun; empty where rows go into it as they are."""


class TiledSink:
    """A sink that writes analysis runs into a Tiled container, each frame once however often it comes.

    - A run that is not there is written as it comes.
    - A run that is there with its stop is left alone, whatever it says; if it was made with another geometry, a
      warning in the log says so, and how to have it made anew.
    - A run that is there without a stop, because a process was killed, gets the rows that are missing, and then
      its stop. If another version began it, its rows keep the columns that they have; the log says so.

    Rows are written `batch_size` at a time, so that they can be seen while the raw run goes on; the last ones
    come with the stop. Call it from one thread at a time. When Tiled does not answer, its client tries for 45 s
    (`TILED_RETRY_TIMEOUT`); then the call raises, and that run must be delivered again from its start. A row that
    Tiled stored though its answer was lost may then be there twice, and so may the rows of a run that two sinks write
    at the same time: readers take each frame once.

    Parameters
    ----------
    client
        Tiled client of a container in which runs may be created.
    batch_size
        Rows in one request; the larger, the faster and the later.
    max_open_runs
        Runs without a stop held in memory; of more, the oldest is forgotten and stays incomplete.

    Raises
    ------
    SettingsError
        When a bound is not positive, or `client` is no Tiled container.
    """

    def __init__(self, client: Any, *, batch_size: int = 50, max_open_runs: int = 1_000) -> None:
        check_at_least(1, batch_size=batch_size, max_open_runs=max_open_runs)
        check_container(client)
        self._client = client
        self._batch_size = batch_size
        self._open: BoundedCache[str, _OpenRun] = BoundedCache(
            max_open_runs, evict=Evict.OLDEST_PUT, on_evict=self._warn_of_the_oldest
        )
        self._run_of_descriptor: BoundedCache[str, str] = BoundedCache(max_open_runs, evict=Evict.OLDEST_PUT)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Store one document of an analysis run.

        Raises
        ------
        DvfbError
            When the document belongs to no run whose start came before it.
        Exception
            What Tiled's client raises.
        """
        uid, run = self._run_of(name, doc)
        try:
            if run is None:
                self._begin(uid, doc)
            else:
                self._store(uid, run, name, doc)
        except Exception:
            # Rows may be missing now. Nothing more is written, least of all the stop.
            self._open.pop(uid)
            raise

    def _store(self, uid: str, run: _OpenRun, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            return  # delivered again while open: its rows are known by their frames
        if name == "descriptor":
            if doc["uid"] == run.descriptor_uid:
                return  # delivered again; TiledWriter would write each row as often as it saw the descriptor
            run.descriptor_uid = doc["uid"]
            self._run_of_descriptor.put(doc["uid"], uid)
        if name == "event":
            frame = doc["data"]["frame"]
            if frame in run.frames:
                return
            run.frames.add(frame)
            if run.columns:
                doc = with_columns(doc, run.columns)
        if run.writer is not None:
            run.writer(name, doc)
        if name == "stop":
            self._open.pop(uid)

    def _begin(self, uid: str, doc: dict[str, Any]) -> None:
        stored = self._client.get(uid)
        run = _OpenRun(writer=self._writer(), frames=set())
        if stored is not None and stored.metadata.get("stop"):
            logger.info("analysis run %s is stored already", uid)
            run.writer = None
        elif stored is not None:
            table = annotations_table(stored)
            if table is not None:
                run.frames.update(int(frame) for frame in table.read(["frame"])["frame"])
                run.columns = _columns_of_another_version(table, uid)
            logger.info("analysis run %s is stored in part: %d frames are there", uid, len(run.frames))
        if stored is not None:
            _warn_of_what_stays(stored, doc)
        if run.writer is not None:
            run.writer("start", doc)
        self._open.put(uid, run)

    def _writer(self) -> TiledWriter:
        # Our documents are well-formed by construction; normalising would copy and validate every row.
        return TiledWriter(ResumedContainer(self._client), normalizer=None, batch_size=self._batch_size)

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


def _columns_of_another_version(table: Any, uid: str) -> tuple[str, ...]:
    """Return the columns of a table that is not laid out as this version's events; none where it is."""
    stored, ours = data_columns(table), tuple(column.name for column in EVENT_COLUMNS)
    if stored == ours:
        return ()
    missing = ", ".join(name for name in ours if name not in stored)
    logger.warning(
        "analysis run %s was begun by another version of dvfb_stream: its further rows are stored without %s. To "
        "have it made anew, delete it: client.delete_contents([%r], recursive=True, external_only=False)",
        uid,
        missing or "what the table has no column for",
        uid,
    )
    return stored


def _warn_of_what_stays(stored: Any, start: Mapping[str, Any]) -> None:
    """Say what a mended set-up does not mend: the uid depends on data and model alone, so that the rows stay."""
    before = stored.metadata["start"].get("analysis", {}).get("geometry")
    now = start.get("analysis", {}).get("geometry")
    summary = (stored.metadata.get("stop") or {}).get("summary") or {}
    blemishes = []
    if before != now:
        blemishes.append(f"with another geometry ({before}) than the present one ({now})")
    if summary.get("failed"):
        blemishes.append(f"with {summary['failed']} of {summary.get('frames')} rows failed")
    if blemishes:
        logger.warning(
            "analysis run %s is stored already, %s; the rows that are there stay. To have it made anew, delete it: "
            "client.delete_contents([%r], recursive=True, external_only=False)",
            start["uid"],
            " and ".join(blemishes),
            start["uid"],
        )
