"""Finds the raw runs of a catalog that are not done: at first by what the position says, later among the newest."""

from __future__ import annotations

import logging
import time
from collections import deque
from datetime import UTC, datetime

from tiled.client.container import Container
from tiled.queries import Key, KeyPresent

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.history.selection import raw_runs
from dvfb_stream.tiled_stream.position import MARGIN, Position

logger = logging.getLogger(__name__)

MOST_KNOWN = 100_000
"""Uids remembered of runs that were seen; a week of the busiest beamline."""
_PAGE = 50
"""Of the newest runs that are asked for at a time; more where none of them is known."""
_LARGEST_PAGE = 3_200
"""As many runs that come within one outage are found."""


class NewRuns:
    """Gives the uid of each raw run once, those under way and those that were missed included.

    Parameters
    ----------
    raw
        Tiled's own client of the container of raw runs.
    position
        What is done.
    """

    def __init__(self, raw: Container, position: Position) -> None:
        self._raw = raw
        self._position = position
        self._known: BoundedCache[str, None] = BoundedCache(MOST_KNOWN, evict=Evict.OLDEST_PUT)
        self._found: deque[str] = deque()

    def begin(self, since: datetime | None) -> None:
        """Look for all that is not done; `since` counts at the first start alone.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When the server does not say.
        """
        with told_apart("looking for raw runs"):
            newest = self._raw.keys().tail(_LARGEST_PAGE // 16)
            if self._position.since is None:
                self._set_out(since)
            assert self._position.since is not None
            due = raw_runs(self._raw, since=datetime.fromtimestamp(self._position.since, UTC))
        for uid in due:
            self.tell(uid)
        # What is left of the newest was begun before.
        for uid in newest:
            self._known.put(uid, None)

    def tell(self, uid: str) -> None:
        """Take note that there is a run, of which somebody has heard."""
        if uid not in self._known:
            self._known.put(uid, None)
            if uid not in self._position:
                self._found.append(uid)

    def look(self) -> None:
        """See whether there are runs of which nobody has heard; raises as `begin`."""
        page = _PAGE
        with told_apart("looking for new raw runs"):
            newest = self._raw.keys().tail(page)
            while newest and page < _LARGEST_PAGE and newest[0] not in self._known and len(newest) == page:
                page *= 4
                newest = self._raw.keys().tail(page)
        for uid in newest:
            self.tell(uid)

    def take(self) -> str | None:
        """Return the next run, each once; None where there is none."""
        return self._found.popleft() if self._found else None

    def __len__(self) -> int:
        return len(self._found)

    def _set_out(self, since: datetime | None) -> None:
        """Begin, for the first time, with the runs that were begun since then; or with those under way."""
        if since is not None:
            self._position.begin(since.timestamp(), ())
            return
        # Clocks differ, so that a new run may say that it was begun before now.
        bound = time.time() - MARGIN
        ended = self._raw.search(Key("start.time") >= bound).search(KeyPresent("stop.run_start"))
        done = {uid: run.metadata["start"]["time"] for uid, run in ended.items()}
        self._position.begin(bound, done.items())
        logger.info(
            "beginning with the runs under way; %d of the last day are left to `dvfb annotate --tiled`",
            len(done),
        )
