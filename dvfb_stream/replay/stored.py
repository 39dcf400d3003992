"""The documents of a run that Tiled keeps, with those fields that only publishers need."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from dvfb_stream.history.stored_documents import documents_of
from dvfb_stream.replay.document import Script, TimedDocument

_NAMESPACE = uuid.UUID("7b1d6f0e-5a0c-4d0b-9d43-2f5f0c1f8b6a")


def read_stored(run: Any, *, root_map: Mapping[str, str] | None = None) -> Script:
    """Return the documents of a stored run, with its frames.

    Frames in files that are mounted here are announced as TiledWriter registered them; all others are read from
    Tiled, and are in the events. Tiled does not keep the uids of events: they get new ones, the same at each time.

    Parameters
    ----------
    run
        Tiled client of the raw run.
    root_map
        Other places for the folders that it names.

    Raises
    ------
    DvfbError
        While the documents are read, where they do not make a run.
    Exception
        What Tiled's client raises.
    """
    stop = run.metadata.get("stop") or {}
    events = stop.get("num_events") or {}
    count = sum(number for number in events.values() if isinstance(number, int)) + len(events) + 2
    return Script(_documents(run, root_map), count)


def _documents(run: Any, root_map: Mapping[str, str] | None) -> Iterator[TimedDocument]:
    for name, doc in documents_of(run, root_map=root_map):
        at = doc.get("time")
        at = float(at) if isinstance(at, int | float) else None
        yield TimedDocument(at, name, _completed(name, doc))


def _completed(name: str, doc: dict[str, Any]) -> dict[str, Any]:
    if name == "event":
        known = f"{doc['descriptor']}:{doc['seq_num']}"
        return {"uid": str(uuid.uuid5(_NAMESPACE, known)), "filled": {}, **doc}
    if name == "stop":
        return {"uid": str(uuid.uuid5(_NAMESPACE, doc["run_start"])), "exit_status": "success", **doc}
    return doc
