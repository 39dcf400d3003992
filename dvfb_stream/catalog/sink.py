"""Stores analysis runs in Tiled such that storing them again changes nothing."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.resumed import ResumedContainer
from dvfb_stream.catalog.search import annotations_table
from dvfb_stream.errors import DvfbError, check_at_least

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _OpenRun:
    """An analysis run whose stop has not come yet."""

    writer: TiledWriter | None
    """None: the run is stored completely, and what comes of it is left out."""
    frames: set[int]
    """Frames that need no further row."""
    descriptor_uid: str = ""


class TiledSink:
    """A sink that writes analysis runs into a Tiled container, each frame once however often it comes.

    - A run that is not there is written as it comes.
    - A run that is there with its stop is left alone, whatever it says; if it was made with another geometry, a
      warning in the log says so, and how to have it made anew.
    - A run that is there without a stop, because a process was killed, gets the rows that are missing, and then
      its stop.

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
        self._max_open_runs = max_open_runs
        self._open: OrderedDict[str, _OpenRun] = OrderedDict()
        self._run_of_descriptor: dict[str, str] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Store one document of an analysis run.

        Raises
        ------
        DvfbError
            When the document belongs to no run whose start came before it.
        Exception
            What Tiled's client raises.
        """
        uid = self._run_of(name, doc)
        try:
            self._store(uid, name, doc)
        except Exception:
            # Rows may be missing now. Nothing more is written, least of all the stop.
            self._forget(uid)
            raise

    def _store(self, uid: str, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            self._begin(uid, doc)
            return
        run = self._open[uid]
        if name == "descriptor":
            if doc["uid"] == run.descriptor_uid:
                return  # delivered again; TiledWriter would write each row as often as it saw the descriptor
            run.descriptor_uid = doc["uid"]
            self._run_of_descriptor[doc["uid"]] = uid
        if name == "event":
            frame = doc["data"]["frame"]
            if frame in run.frames:
                return
            run.frames.add(frame)
        if run.writer is not None:
            run.writer(name, doc)
        if name == "stop":
            self._forget(uid)

    def _begin(self, uid: str, doc: dict[str, Any]) -> None:
        if uid in self._open:
            return  # delivered again while open: its rows are known by their frames
        stored = self._client.get(uid)
        if stored is None:
            self._open[uid] = _OpenRun(writer=self._writer(), frames=set())
        elif stored.metadata.get("stop"):
            logger.info("analysis run %s is stored already", uid)
            self._open[uid] = _OpenRun(writer=None, frames=set())
        else:
            table = annotations_table(stored)
            frames = set() if table is None else {int(frame) for frame in table.read(["frame"])["frame"]}
            logger.info("analysis run %s is stored in part: %d frames are there", uid, len(frames))
            self._open[uid] = _OpenRun(writer=self._writer(), frames=frames)
        if stored is not None:
            _warn_of_what_stays(stored, doc)
        writer = self._open[uid].writer
        if writer is not None:
            writer("start", doc)
        if len(self._open) > self._max_open_runs:
            oldest = next(iter(self._open))
            logger.warning("more than %d runs are open; %s stays incomplete", self._max_open_runs, oldest)
            self._forget(oldest)

    def _writer(self) -> TiledWriter:
        # Our documents are well-formed by construction; normalising would copy and validate every row.
        return TiledWriter(ResumedContainer(self._client), normalizer=None, batch_size=self._batch_size)

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        match name:
            case "start":
                return str(doc["uid"])
            case "descriptor" | "stop":
                uid = doc["run_start"]
            case "event":
                uid = self._run_of_descriptor.get(doc["descriptor"])
            case _:
                raise DvfbError(f"an analysis run has no documents of the kind {name!r}")
        if uid not in self._open:
            raise DvfbError(f"a document ({name}) came for the run {uid!r}, which is not open in this sink")
        return str(uid)

    def _forget(self, uid: str) -> None:
        run = self._open.pop(uid, None)
        if run is not None:
            self._run_of_descriptor.pop(run.descriptor_uid, None)


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
