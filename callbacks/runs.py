"""The raw runs that are open: found by what documents say of them, bounded in number and bytes."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from dvfb_stream.callbacks.documents import DocumentError, NotKnownYetError
from dvfb_stream.callbacks.raw_run import RawRun
from dvfb_stream.callbacks.recent import Recent
from dvfb_stream.callbacks.writer import AnalysisProgress, RunProgress

logger = logging.getLogger(__name__)

MOST_BYTES = 1 << 28
"""Of documents kept for open runs; those of a thousand runs are a tenth of that."""

MOST_ENDED = 100_000
"""Uids remembered of runs that have ended and of their descriptors: what names them comes too late."""


class EndedError(DocumentError):
    """A document of a run that has ended here."""


@dataclass(slots=True, eq=False)
class OpenRun:
    """A raw run, and how far its analysis runs have come."""

    raw: RawRun
    progress: RunProgress
    analyses: dict[tuple[str, str], AnalysisProgress] = field(default_factory=dict)
    """By stream and data key."""
    descriptors: set[str] = field(default_factory=set)
    """Their uids."""
    delivered_again: bool = False
    """From its start, while it was open."""


class OpenRuns:
    """Raw runs from their start until all their rows are stored. Safe to share between threads.

    Parameters
    ----------
    most
        Runs open at a time; of more, the one that began first is forgotten.
    on_abandoned
        Called with the progress of a run that is forgotten for that reason.
    most_bytes
        Bytes of documents kept for them; where more would be, likewise.
    """

    def __init__(
        self, most: int, *, on_abandoned: Callable[[RunProgress], None], most_bytes: int = MOST_BYTES
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._on_abandoned = on_abandoned
        # Reentrant, as the handler of a signal may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._runs: OrderedDict[str, OpenRun] = OrderedDict()  # by uid
        self._run_of_descriptor: dict[str, OpenRun] = {}
        self._ended: Recent[str, None] = Recent(MOST_ENDED)
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
            self._ended.discard(raw.uid)
            again = self._runs.get(raw.uid)
            if again is not None:
                again.raw = raw
                again.delivered_again = True
                return again
            self._runs[raw.uid] = OpenRun(raw=raw, progress=RunProgress(raw.uid))
        self.keep_within_bounds()
        return None

    def run(self, uid: str) -> OpenRun:
        """Return the run with a uid.

        Raises
        ------
        EndedError
            When it has had its stop.
        NotKnownYetError
            When its start has not come.
        """
        with self._lock:
            run = self._runs.get(uid)
            if uid in self._ended or (run is not None and run.raw.stopped):
                raise EndedError(f"the raw run {uid!r} has ended here")
            if run is None:
                raise NotKnownYetError("start", uid)
            return run

    def add_descriptor(self, uid: str, run: OpenRun) -> None:
        """Learn whose a descriptor is."""
        with self._lock:
            self._ended.discard(uid)
            self._run_of_descriptor[uid] = run
            run.descriptors.add(uid)
        self.keep_within_bounds()

    def run_of_descriptor(self, uid: str) -> OpenRun:
        """Return the run of a descriptor; raises as `run`."""
        with self._lock:
            if uid in self._ended:
                raise EndedError(f"the raw run of the descriptor {uid!r} has ended here")
            run = self._run_of_descriptor.get(uid)
            if run is None:
                raise NotKnownYetError("descriptor", uid)
            return self.run(run.raw.uid)

    def descriptor_came_too_late(self, uid: str) -> None:
        """Remember a descriptor of a run that has ended."""
        with self._lock:
            self._ended.put(uid, None)

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
            self._forget(run)
            return True

    def keep_within_bounds(self) -> None:
        """Abandon what is too much; to be called after a run has grown."""
        while True:
            with self._lock:
                n_bytes = sum(run.raw.n_bytes for run in self._runs.values())
                if len(self._runs) <= self._most and (n_bytes <= self._most_bytes or len(self._runs) == 1):
                    return
                self._abandoned += 1
                oldest = next(iter(self._runs.values()))
                self._forget(oldest)
            logger.warning(
                "more than %d runs, or %d bytes of their documents, are open; abandoning %s",
                self._most,
                self._most_bytes,
                oldest.raw.uid,
            )
            self._on_abandoned(oldest.progress)

    def _forget(self, run: OpenRun) -> None:
        del self._runs[run.raw.uid]
        self._ended.put(run.raw.uid, None)
        for descriptor in run.descriptors:
            if self._run_of_descriptor.get(descriptor) is run:
                del self._run_of_descriptor[descriptor]
            self._ended.put(descriptor, None)
