"""Knows how far a partition may be committed: never past the start of a run that is not stored yet.

Kafka keeps one number per partition: where a restarted consumer reads on. A run is read again from its start
document, because its rows are numbered from there; so a partition is committed up to the start of its oldest
run that is still open, and up to what was read last when none is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Verdict(Enum):
    """What is to become of a document."""

    FEED = "feed"
    """It belongs to an open run."""
    REPEATED_START = "repeated start"
    """A second start document of a run that is open: the first one counts."""
    UNKNOWN_RUN = "unknown run"
    """The start of its run was never read, or the run was stored or given up already."""
    NO_RUN = "no run"
    """It does not say what it belongs to."""
    NOT_OURS = "not ours"
    """Its partition was taken away after it was read; the next owner reads it again."""


@dataclass(slots=True, kw_only=True, eq=False)
class _OpenRun:
    offset: int
    last_document: float
    parts: set[str] = field(default_factory=set)
    """uids of its descriptors, resources and stream resources: what other documents refer to."""


class PartitionOffsets:
    """The raw runs of one partition that were begun and are not stored, while the partition is ours.

    One object lives from an assignment of the partition to its revocation. Documents come on the consumer's
    thread, runs are stored on a pipeline's, the end comes on the Kafka client's: safe from all of them. Only
    `write` and `settle` may block.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Held while a sink is called: whoever takes it after the end knows that no write is under way.
        self._writing = threading.Lock()
        self._position: int | None = None
        self._ended = False
        self._runs: dict[str, _OpenRun] = {}
        self._run_of_part: dict[str, str] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    @property
    def ended(self) -> bool:
        """Whether the partition was taken away: nothing of it may be written or committed any more."""
        return self._ended

    def end(self) -> int | None:
        """Take the partition away, and return what may be committed for it one last time, as `committable`."""
        with self._lock:
            self._ended = True
            return self._committable()

    def write(self, action: Callable[[], object]) -> None:
        """Call `action`, which stores a document, unless the partition was taken away."""
        with self._writing:
            if not self._ended:
                action()

    def settle(self, timeout: float) -> bool:
        """After `end`: wait until no write is under way, at most `timeout` seconds; return whether it is so."""
        if not self._writing.acquire(timeout=timeout):
            return False
        self._writing.release()
        return True

    def skip(self, offset: int) -> None:
        """Take note of a record that is no document: it was read, and nothing waits for it."""
        with self._lock:
            if not self._ended:
                self._position = offset + 1

    def read(self, offset: int, name: str, doc: Mapping[str, Any]) -> Verdict:
        """Take note of a document that was read at `offset`, and say what is to become of it."""
        with self._lock:
            if self._ended:
                return Verdict.NOT_OURS
            self._position = offset + 1
            if name == "start":
                return self._begin(offset, doc)
            uid = self._run_of(name, doc)
            if uid is None:
                return Verdict.NO_RUN
            run = self._runs.get(uid)
            if run is None:
                return Verdict.UNKNOWN_RUN
            run.last_document = self._clock()
            part = doc.get("uid")
            if name in ("descriptor", "resource", "stream_resource") and isinstance(part, str):
                run.parts.add(part)
                self._run_of_part[part] = uid
            return Verdict.FEED

    def stored(self, uid: str) -> None:
        """Close a run whose analysis runs every sink has accepted."""
        with self._lock:
            # After the end the sinks get nothing more, so that nobody can know what is stored.
            if not self._ended:
                self._close(uid)

    def give_up(self, silence: float) -> list[str]:
        """Forget the runs that were silent for more than `silence` seconds and are not stored.

        They never stopped (a plan that was killed), or what they hold could not be made into rows.

        Returns
        -------
        list of str
            Their uids.
        """
        with self._lock:
            oldest = self._clock() - silence
            silent = [uid for uid, run in self._runs.items() if run.last_document < oldest]
            for uid in silent:
                self._close(uid)
        return silent

    def committable(self) -> int | None:
        """Return the offset that the partition may be committed at; None before its first record."""
        with self._lock:
            return self._committable()

    def _committable(self) -> int | None:
        if self._position is None:
            return None
        return min((run.offset for run in self._runs.values()), default=self._position)

    def _begin(self, offset: int, doc: Mapping[str, Any]) -> Verdict:
        uid = doc.get("uid")
        if not isinstance(uid, str) or not uid:
            return Verdict.NO_RUN
        if uid in self._runs:
            return Verdict.REPEATED_START
        self._runs[uid] = _OpenRun(offset=offset, last_document=self._clock())
        return Verdict.FEED

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        # Descriptors, stops and resources name their run; events, stream data and the data of resources name
        # a document that did.
        uid = doc.get("run_start")
        if isinstance(uid, str):
            return uid
        part = doc.get("resource" if name in ("datum", "datum_page") else "descriptor")
        return self._run_of_part.get(part, "") if isinstance(part, str) else None

    def _close(self, uid: str) -> None:
        run = self._runs.pop(uid, None)
        for part in run.parts if run is not None else ():
            self._run_of_part.pop(part, None)
