"""Inserts analysis documents into a Databroker, each once, however often they are delivered."""

from __future__ import annotations

import time
from typing import Any

from dvfb_stream.bounded_cache import BoundedCache, Evict

_OPEN_RUNS = 1_000
"""Runs without a stop that are remembered."""

_SECONDS_REMEMBERED = 2.5
"""A little longer than Databroker remembers what it has read of a run without a stop, whatever came since."""


class DatabrokerSink:
    """A sink that inserts into a `Broker`, which itself takes a run as often as it comes.

    A run that is there gets what is missing of it: events, and its stop. To see what that is takes 2.5 s.

    Parameters
    ----------
    broker
        Of databroker's v1; `broker.v1` of a v2 catalog. Give annotations one of their own: `broker[-1]` finds them.
    """

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        # uids of documents that are there, by the run; and the run of a descriptor, which events name alone.
        self._there: BoundedCache[str, set[str]] = BoundedCache(_OPEN_RUNS, evict=Evict.OLDEST_PUT)
        self._runs: BoundedCache[str, str] = BoundedCache(_OPEN_RUNS, evict=Evict.OLDEST_PUT)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Insert one document, unless it is there.

        Raises
        ------
        Exception
            What the broker raises.
        """
        if name == "start":
            self._there.put(doc["uid"], self._documents(doc["uid"]))
        run = (
            doc["uid"]
            if name == "start"
            else doc.get("run_start") or self._runs.get(doc.get("descriptor", ""))
        )
        if name == "descriptor":
            self._runs.put(doc["uid"], doc["run_start"])
        there = self._there.get(run) if run else None
        if there is None or doc["uid"] not in there:
            self._broker.insert(name, doc)
            if there is not None:
                there.add(doc["uid"])
        if name == "stop" and run:
            self._there.pop(run)

    def _documents(self, uid: str) -> set[str]:
        try:
            # Of v1, a header without a stop has no documents at all.
            run = self._broker.v2[uid]
            if run.metadata.get("stop") is None:
                time.sleep(_SECONDS_REMEMBERED)
                run = self._broker.v2[uid]
        except KeyError:
            return set()
        there: set[str] = set()
        for _, doc in run.documents():
            uids = (doc or {}).get("uid", ())
            there.update([uids] if isinstance(uids, str) else uids)
        return there
