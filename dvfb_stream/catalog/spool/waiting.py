"""Which analysis run of a spool is delivered next: none blocks another, and none waits for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.spool_file import SpooledRun, SpoolFile


@dataclass(slots=True, eq=False, kw_only=True)
class WaitingRun:
    """An analysis run with documents in a file of the spool. Times are of one monotonic clock."""

    file: SpoolFile
    number: int
    """In that file."""
    uid: str
    inherited: bool
    """Another process, which has ended, put it there."""
    rows: int = 0
    came: float = inf
    """When the oldest of the rows came."""
    stopped: bool = False
    """Its stop is there, to be stored after the rows."""
    open: bool = True
    """More may come; otherwise, without a stop, it is forgotten once its rows are stored."""
    reason: str | None = None
    """Why it is quarantined."""
    failures: int = 0
    """Calls that failed in a row."""
    faults: int = 0
    """Those of them that nobody foresaw."""
    faults_alone: int = 0
    """Those of them that were the server's, while other runs were stored."""
    calls_seen: int = 0
    """Calls for all runs that had been stored at the last of those."""
    not_before: float = -inf
    turn: int = 0
    """Number of the last call for it."""
    gone: bool = False
    """It has left the file."""

    @classmethod
    def found(cls, file: SpoolFile, run: SpooledRun, *, inherited: bool) -> WaitingRun:
        """Return what is delivered of a run that was read from a file: at once, as it waited for long."""
        return cls(
            file=file,
            number=run.number,
            uid=run.uid,
            inherited=inherited,
            rows=run.rows,
            came=-inf if run.rows else inf,
            stopped=run.stopped,
            open=False,
            reason=run.reason,
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to deliver, and nothing comes any more."""
        return not (self.rows or self.stopped or self.open or self.reason is not None)

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be delivered."""
        return self.reason is None and (self.rows > 0 or self.stopped)


class WaitingRuns:
    """The runs of all files in one process's hands, and whose turn it is.

    Own runs and inherited ones take turns, so that live rows are not late behind the backlog of an outage; among
    themselves, the one whose last call is longest ago comes first. For one thread at a time.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._runs: dict[tuple[SpoolFile, str], WaitingRun] = {}
        self._of_uid: dict[str, list[WaitingRun]] = {}
        self._turn = 0
        self._last_inherited = True

    def __iter__(self) -> Iterator[WaitingRun]:
        return iter(tuple(self._runs.values()))

    def of(self, file: SpoolFile) -> list[WaitingRun]:
        """Return the runs in a file."""
        return [run for run in self._runs.values() if run.file is file]

    def get(self, file: SpoolFile, uid: str) -> WaitingRun | None:
        """Return a run; None where the file has none of that uid."""
        return self._runs.get((file, uid))

    def add(self, run: WaitingRun) -> None:
        """Take in a run."""
        self._runs[run.file, run.uid] = run
        self._of_uid.setdefault(run.uid, []).append(run)

    def remove(self, run: WaitingRun) -> None:
        """Leave a run out from now on."""
        run.gone = True
        if self._runs.pop((run.file, run.uid), None) is not None:
            left = [other for other in self._of_uid.pop(run.uid) if other is not run]
            if left:
                self._of_uid[run.uid] = left

    def due_at(self, run: WaitingRun, *, hurry: bool = False) -> float:
        """Return when something of a run should be delivered."""
        if not run.is_waiting or self._waits_for_another(run):
            return inf
        full = run.rows >= self._pace.batch_size or run.stopped or hurry
        return run.not_before if full else max(run.not_before, run.came + self._pace.max_age)

    def has_another(self, run: WaitingRun) -> bool:
        """Return whether something of the same run is here in another file, too."""
        return len(self._of_uid.get(run.uid, ())) > 1

    def same_stops(self, run: WaitingRun) -> list[WaitingRun]:
        """Return what else is here of a run, in other files, and is nothing but its stop once more.

        Each process that took the end of a run which was not stored yet has written it down.
        """
        others = self._of_uid.get(run.uid, ())
        return [other for other in others if other is not run and other.is_waiting and other.rows <= 0]

    def _waits_for_another(self, run: WaitingRun) -> bool:
        """Return whether only the stop of a run is left here, and rows of it or an older stop are in another file."""
        if run.rows > 0:
            return False
        of_it = self._of_uid.get(run.uid, ())
        oldest = next((other for other in of_it if other.is_waiting), run)
        return run is not oldest or any(other.rows > 0 for other in of_it)

    def next(self, now: float, *, hurry: bool = False) -> WaitingRun | None:
        """Return the run whose turn it is at `now`, and count the turn; None: none's."""
        due = [run for run in self._runs.values() if self.due_at(run, hurry=hurry) <= now]
        if not due:
            return None
        chosen = min(due, key=lambda run: (run.inherited is self._last_inherited, run.turn))
        self._turn += 1
        chosen.turn = self._turn
        self._last_inherited = chosen.inherited
        return chosen

    def next_at(self, *, hurry: bool = False) -> float:
        """Return when the next turn comes; infinity where nothing waits."""
        return min((self.due_at(run, hurry=hurry) for run in self._runs.values()), default=inf)
