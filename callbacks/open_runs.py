"""The raw runs that are open: found by what documents say of them, bounded in number."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from dvfb_stream.callbacks.documents import DocumentError
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.writer import AnalysisProgress, RunProgress

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class OpenRun:
    """A raw run, and how far its analysis runs have come."""

    raw: RawRun
    progress: RunProgress
    analyses: dict[tuple[str, str], AnalysisProgress] = field(default_factory=dict)
    """By stream and data key."""


class OpenRuns:
    """Raw runs from their start until all their rows are stored. Safe to share between threads.

    Parameters
    ----------
    most
        Runs open at a time; of more, the one that began first is forgotten.
    on_abandoned
        Called with the progress of a run that is forgotten for that reason.
    """

    def __init__(self, most: int, *, on_abandoned: Callable[[RunProgress], None]) -> None:
        self._most = most
        self._on_abandoned = on_abandoned
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, OpenRun] = OrderedDict()  # by uid
        self._run_of_descriptor: dict[str, str] = {}  # uids
        self._run_of_resource: dict[str, str] = {}  # uids
        self._abandoned = 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    @property
    def uids(self) -> list[str]:
        """Uids of the raw runs, the one that began first coming first."""
        with self._lock:
            return list(self._runs)

    @property
    def abandoned(self) -> int:
        """How many were forgotten because there were too many."""
        with self._lock:
            return self._abandoned

    def begin(self, raw: RawRun) -> OpenRun | None:
        """Open a run; return it if it is open already, which is to be counted from its start again."""
        with self._lock:
            again = self._runs.get(raw.uid)
            if again is not None:
                again.raw = raw
                return again
            self._runs[raw.uid] = OpenRun(raw=raw, progress=RunProgress(raw.uid))
            if len(self._runs) <= self._most:
                return None
            self._abandoned += 1
            oldest = next(iter(self._runs.values()))
            self._forget(oldest.raw.uid)
        logger.warning("more than %d runs are open; abandoning %s", self._most, oldest.raw.uid)
        self._on_abandoned(oldest.progress)
        return None

    def run(self, uid: str) -> OpenRun:
        """Return the run with a uid.

        Raises
        ------
        DocumentError
            When it is not open, or has had its stop.
        """
        with self._lock:
            run = self._runs.get(uid)
            if run is None:
                raise DocumentError(
                    f"the raw run {uid!r} is not open here: its start did not come, or its stop did"
                )
            if run.raw.stopped:
                raise DocumentError(f"the raw run {uid!r} has stopped")
            return run

    def only_run(self) -> str | None:
        """Return the uid of the run that is open, where it is the only one."""
        with self._lock:
            return next(iter(self._runs)) if len(self._runs) == 1 else None

    def add_descriptor(self, uid: str, run: OpenRun) -> None:
        """Learn whose a descriptor is."""
        with self._lock:
            self._run_of_descriptor[uid] = run.raw.uid

    def add_resource(self, uid: str, run: OpenRun) -> None:
        """Learn whose a resource is."""
        with self._lock:
            self._run_of_resource[uid] = run.raw.uid

    def run_of_descriptor(self, uid: str) -> OpenRun:
        """Return the run of a descriptor; DocumentError as `run`."""
        return self._run_of("descriptor", self._run_of_descriptor, uid)

    def run_of_resource(self, uid: str) -> OpenRun:
        """Return the run of a resource; DocumentError as `run`."""
        return self._run_of("resource", self._run_of_resource, uid)

    def _run_of(self, kind: str, known: dict[str, str], uid: str) -> OpenRun:
        with self._lock:
            run = known.get(uid)
        if run is None:
            raise DocumentError(f"the {kind} {uid!r} belongs to no run that is open here")
        return self.run(run)

    def stop(self, run: OpenRun) -> None:
        """Take note of the raw stop."""
        with self._lock:
            run.raw.stopped = True

    def finish(self, progress: RunProgress) -> bool:
        """Forget a run all of whose rows are written; False where it is abandoned, or being delivered again."""
        with self._lock:
            run = self._runs.get(progress.raw_uid)
            if run is None or run.progress is not progress or not run.raw.stopped:
                return False
            self._forget(progress.raw_uid)
            return True

    def _forget(self, uid: str) -> None:
        del self._runs[uid]
        for known in (self._run_of_descriptor, self._run_of_resource):
            for document in [document for document, run in known.items() if run == uid]:
                del known[document]
