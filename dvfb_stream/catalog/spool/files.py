"""The files whose rows one process delivers: its own, and those that processes which have ended left behind."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from dvfb_stream.catalog.spool.folder import OwnedFile, left_files
from dvfb_stream.catalog.spool.spool_file import SUFFIX, SpooledRun, SpoolFile
from dvfb_stream.catalog.spool.tally import Tally
from dvfb_stream.catalog.spool.waiting import WaitingRun, WaitingRuns

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SEARCHES = 60.0
"""For files of processes that have ended meanwhile."""
_SECONDS_BETWEEN_LOOKS = 2.0
"""At quarantined runs, which ``dvfb spool retry`` lets go, in a process of its own."""
_SECONDS_UNTIL_SYNC = 1.0
"""From a row on the disk for all processes to one that survives a power failure; a turn of the disk each."""


class DeliveredFiles:
    """Files of a spool in this process's hands, and the runs in them; every call is made under the delivery's lock.

    Parameters
    ----------
    folder
        Searched for files whose processes have ended; None: there are none.
    """

    def __init__(self, folder: Path | None, runs: WaitingRuns, tally: Tally) -> None:
        self._folder = folder
        self._runs = runs
        self._tally = tally
        self._owned: list[OwnedFile] = []
        self._own: SpoolFile | None = None
        self._unsynced: SpoolFile | None = None
        self._sync_at = inf
        self._next_search = self._next_look = -inf

    @property
    def folder(self) -> Path | None:
        """Searched for files whose processes have ended."""
        return self._folder

    def own(self, owned: OwnedFile) -> None:
        """Deliver what is in a file, this process's own."""
        self._owned.append(owned)
        self._own = owned.file

    # -- what is due by the clock ------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `attend` has something to do, on the monotonic clock."""
        return min(self._next_search, self._next_look, self._sync_at)

    def attend(self, now: float) -> bool:
        """Search, look and sync where it is time to; return whether the runs may be others than before."""
        searches, looks = now >= self._next_search, now >= self._next_look
        if searches:
            self._next_search = now + _SECONDS_BETWEEN_SEARCHES
            self.search()
        if looks:
            self._look(now)
        self._sync(now)
        return searches or looks

    def search(self) -> None:
        """Take over the files of processes that have ended."""
        if self._folder is None:
            self._next_search = inf
            return
        try:
            for owned in left_files(self._folder, self._own):
                self._owned.append(owned)
                found = owned.file.runs()
                logger.info("taking over %d runs with %d rows", len(found), sum(run.rows for run in found))
                self._read(owned, found)
        except (OSError, sqlite3.Error) as error:
            logger.error("the spool's folder %s cannot be searched: %s", self._folder, error)

    def search_soon(self) -> None:
        """Say that a process may have ended."""
        if self._folder is not None:
            self._next_search = -inf

    def has_neighbours(self) -> bool:
        """Return whether other processes have files in the folder, or had some that are not taken over yet."""
        if self._folder is None:
            return False
        own = {owned.file.path for owned in self._owned}
        return any(path not in own for path in self._folder.glob(f"*{SUFFIX}"))

    def look_soon(self) -> None:
        """Say that a run is quarantined, which somebody may let go."""
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS

    def sync_soon(self, file: SpoolFile) -> None:
        """Say that something was written; it is safe from a power failure a second later at most."""
        now = time.monotonic()
        if self._sync_at == inf:
            self._unsynced, self._sync_at = file, now + _SECONDS_UNTIL_SYNC
        self._sync(now)

    # -- what becomes of runs and files --------------------------------------------------------------------------

    def over(self, run: WaitingRun) -> None:
        """Forget a run of which nothing is left to deliver."""
        run.file.remove_run(run.number)
        run.stopped = False
        self._runs.remove(run)

    def settle(self, run: WaitingRun) -> None:
        """Forget a run that is over, and its file where that was its last and another process's; count anew."""
        if run.is_over and not run.gone:
            self.over(run)
        if run.inherited and not self._runs.of(run.file):
            (owned,) = (owned for owned in self._owned if owned.file is run.file)
            self._owned.remove(owned)
            owned.close(remove=True)
            if self._own is not None:
                self._own.keep_reserve()  # which that file may have used
        elif run.gone and not self._runs.of(run.file):
            run.file.shrink()
        self._tally.count(self._runs)

    def close(self) -> None:
        """Let go of all files; what they hold stays there, and empty ones go."""
        for owned in self._owned:
            left = any(run.rows or run.stopped or run.reason for run in self._runs.of(owned.file))
            owned.close(remove=not left)
        self._owned.clear()

    def _read(self, owned: OwnedFile, found: Sequence[SpooledRun]) -> None:
        for spooled in found:
            run = WaitingRun.found(owned.file, spooled, inherited=True)
            self._runs.add(run)
            if run.is_over:
                self.over(run)
        if not self._runs.of(owned.file):
            self._owned.remove(owned)
            owned.close(remove=True)
        self._tally.count(self._runs)

    def _look(self, now: float) -> None:
        """See whether somebody let quarantined runs go, or took them out."""
        quarantined = [run for run in self._runs if run.reason is not None]
        self._next_look = now + _SECONDS_BETWEEN_LOOKS if quarantined else inf
        for owned in tuple(self._owned):
            mine = [run for run in quarantined if run.file is owned.file]
            if not mine or not owned.file.changed_by_another():
                continue
            there = {spooled.uid: spooled for spooled in owned.file.runs()}
            for run in mine:
                spooled = there.get(run.uid)
                if spooled is None:
                    run.rows, run.stopped, run.open, run.reason = 0, False, False, None
                    self.settle(run)
                elif spooled.reason is None:
                    run.reason, run.failures, run.not_before = None, 0, -inf
                    run.faults = run.faults_alone = 0
        self._tally.count(self._runs)

    def _sync(self, now: float) -> None:
        if now >= self._sync_at and self._unsynced is not None:
            self._sync_at = inf
            try:
                self._unsynced.sync()
            except OSError as error:
                logger.error("the spool's file %s cannot be written down: %s", self._unsynced.path, error)
