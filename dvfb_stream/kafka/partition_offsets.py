"""How far a partition may be committed: never past the first document of a run that is not stored yet.

Kafka keeps one number per partition: where a restarted consumer reads on. A run is read again from its start, because
its rows are numbered from there; so a partition is committed up to the first document of its oldest run that is still
open, and up to what the pipeline took last when none is. Which run a document belongs to the pipeline says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dvfb_stream.bounded_cache import BoundedCache, Evict

MOST_ABANDONED = 10_000
"""Uids remembered of abandoned runs."""
SUPERSEDED_SILENCE = 3600.0
"""Seconds of silence after which a run is given up whose publisher has since begun and ended another one: its stop
was lost, or could not be decoded. Plans that hold a run open around others are seldom silent in it for so long."""
SECONDS_OF_QUIET = 600.0
"""Seconds that a run must have been silent here as well: clocks of publishers may be wrong, and after a long stop of
the daemon, or of the cluster, the rest of a run is just being read."""


@dataclass(slots=True, kw_only=True, eq=False)
class _OpenRun:
    offset: int
    """Of its first document: its start, or a descriptor that came before that."""
    last_read: float = 0.0
    """When its last document was read, by the monotonic clock."""
    last_offset: int = 0
    last_time: float | None = None
    """When its last document was published, seconds since 1970."""
    publisher: bytes | None = None
    started: bool = False
    stopped: bool = False
    superseded: bool = False
    """Its publisher has begun and ended another run since its last document."""


class PartitionOffsets:
    """The raw runs of one partition that were begun and are not stored, while the partition is ours.

    One object lives from an assignment of the partition to its revocation. Documents are taken on one thread, runs
    are stored on another, the end comes on the Kafka client's: safe from all of them. Only `write` and `settle` may
    block.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    now
        Seconds since 1970.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, now: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._now = now
        self._newest: float | None = None
        """When the newest record was published."""
        self._lock = threading.Lock()
        # Held while a sink is called: whoever takes it after the end knows that no write is under way.
        self._writing = threading.Lock()
        self._position: int | None = None
        self._told: int | None = None
        """What `committable` said last."""
        self._held: set[int] = set()
        self._ended = False
        self._runs: dict[str, _OpenRun] = {}
        # Of those whose start was read: the pipeline has them open, and stores them if they go on.
        self._abandoned: BoundedCache[str, None] = BoundedCache(MOST_ABANDONED, evict=Evict.OLDEST_PUT)

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    @property
    def ended(self) -> bool:
        """Whether the partition was taken away: nothing of it may be written or committed any more."""
        return self._ended

    def begin(self, committed: int | None) -> None:
        """Say up to where the partition is committed: documents from before may be taken, of a journal."""
        with self._lock:
            self._told = committed

    def end(self) -> int | None:
        """Take the partition away, and return what may be committed for it one last time, as `committable`."""
        with self._lock:
            self._ended = True
        return self.committable()

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

    def taken(
        self,
        offset: int,
        name: str,
        run: str,
        *,
        published: float | None = None,
        publisher: bytes | None = None,
    ) -> None:
        """Take note of a record that has gone through the pipeline, in the order of the partition.

        Parameters
        ----------
        offset
            Of the record.
        name
            Of its document; empty where it was none.
        run
            uid of the raw run, as `AnnotationPipeline.take` says it; empty: nothing waits for this record.
        published
            When that was, as Kafka says it, seconds since 1970; None: it does not.
        publisher
            Key of the record: bluesky-kafka has one for each publisher, or the run's uid.
        """
        with self._lock:
            if self._ended:
                return
            self._position = offset + 1
            if published is not None:
                self._newest = published if self._newest is None else max(self._newest, published)
            known = self._runs.get(run)
            if known is None and run in self._abandoned:
                known = self._runs[run] = _OpenRun(offset=offset, started=True)
            if name == "stop":
                if known is not None and not known.started:
                    del self._runs[run]  # its start was never read: nothing of it is taken
                elif known is not None:
                    known.stopped = True
                    self._supersede(known, publisher)
            elif run:
                if known is None:
                    known = self._runs[run] = _OpenRun(offset=offset)
                known.started = known.started or name == "start"
                known.publisher = publisher
            if known is not None:
                known.last_read, known.last_offset, known.superseded = self._clock(), offset, False
                known.last_time = published

    def _supersede(self, ended: _OpenRun, publisher: bytes | None) -> None:
        """Mark the open runs of a publisher that were silent during a run that it has ended."""
        if publisher is not None:
            for run in self._runs.values():
                if run.publisher == publisher and run.last_offset < ended.offset:
                    run.superseded = True

    def hold(self, offset: int) -> None:
        """Commit nothing past a record until it is let go: it is on its way to the dead letters."""
        with self._lock:
            self._held.add(offset)

    def let_go(self, offset: int) -> None:
        """Say that a record is safe among the dead letters, or given up."""
        with self._lock:
            self._held.discard(offset)

    def first_of(self, run: str) -> int:
        """Return the offset of the first document of an open run; -1 where it is not open."""
        with self._lock:
            known = self._runs.get(run)
            return -1 if known is None else known.offset

    def stored(self, run: str) -> None:
        """Close a run whose analysis runs every sink has accepted."""
        with self._lock:
            # After the end the sinks get nothing more, so that nobody can know what is stored.
            if not self._ended:
                self._runs.pop(run, None)
                self._abandoned.pop(run)

    def abandon_silent(self, silence: float, *, caught_up: bool = True) -> list[str]:
        """Forget the runs that were silent for more than `silence` seconds and are not stored; return their uids.

        They never stopped (a plan that was killed), their stop was lost, or what they hold could not be made into
        rows. Silence counts from when a run's last document was published, so that a restart of the daemon does not
        begin it anew: until the newest record was published, and until now once all records were read. That of a run
        which has stopped, and is not stored, counts from when its stop was read here. One that goes on is taken up
        again.

        Parameters
        ----------
        silence
            Seconds.
        caught_up
            Whether all that the partition has was read.
        """
        with self._lock:
            until = self._newest
            if caught_up:
                until = self._now() if until is None else max(until, self._now())
            silent = [uid for uid, run in self._runs.items() if self._is_silent(run, silence, until)]
            for uid in silent:
                if self._runs.pop(uid).started:
                    self._abandoned.put(uid, None)
        return silent

    def _is_silent(self, run: _OpenRun, silence: float, until: float | None) -> bool:
        here = self._clock() - run.last_read
        if run.stopped or run.last_time is None or until is None:
            return here > silence
        most = min(silence, SUPERSEDED_SILENCE) if run.superseded else silence
        return until - run.last_time > most and here > min(most, SECONDS_OF_QUIET)

    def committable(self) -> int | None:
        """Return the offset that the partition may be committed at; None before its first record."""
        with self._lock:
            if self._position is None:
                return None
            offset = min((self._position, *self._held, *(run.offset for run in self._runs.values())))
            # A document that is given up late may lie before what was committed meanwhile.
            self._told = offset if self._told is None else max(offset, self._told)
            return self._told
