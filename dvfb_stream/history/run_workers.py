"""Worker processes that annotate raw runs, each run as a whole by one; what ends one of them costs one run."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import Empty, Queue

import numpy as np

from dvfb_stream.device_failures import Cause, ReportedFailureError
from dvfb_stream.errors import check_at_least
from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.run_service import Sign
from dvfb_stream.history.settings import HistorySettings
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.service_process import ServiceProcess

SECONDS_WITHOUT_A_ROW = 600.0
"""A worker that makes no row for so long is ended, unless it waits for the catalog: a frame that Tiled reads for us
takes seconds, and one on tape that is being fetched minutes."""

MOST_ENDS = 2
"""Worker processes that a raw run may cost; the first may have been somebody's doing."""

MOST_STARTS = 3
"""Attempts to start a process again, before its worker gives up."""

_SECONDS_FOR_A_RUN = 1e6
"""The longest that the system can be told to wait, 31 bits of milliseconds, and a little less."""

_SECONDS_BETWEEN_LOOKS = 0.2

_ENDS = frozenset({Cause.ENDED, Cause.KILLED, Cause.TIMED_OUT})


@dataclass(slots=True)
class _Task:
    """A raw run that is to be annotated."""

    uid: str
    ends: int = 0
    """Processes that ended while they had it in hand."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a worker has to say: of a run, or that it gives up."""

    uid: str
    report: HistoryReport
    gave_up: ReportedFailureError | None = None


class RunWorkers:
    """Annotates raw runs as `HistoryAnnotator` does, in several processes.

    Each process has one raw run in hand. One that ends (killed, for want of memory, by a library that crashed over a
    file) is started again, and its run is tried once more; then the run is a failure in the report, and the others go
    on. A run that is tried again is annotated anew: rows that are stored stay, so that no frame is there twice.

    The processes end, at once, when `annotate` is left, by whatever, and when this process ends.

    Parameters
    ----------
    address
        Of the container of raw runs.
    settings
        How they are annotated.
    workers
        Processes.
    api_key
        None: as `dvfb_stream.catalog.connect` finds it.
    log_level
        Of what libraries log in the processes, to stderr; None: nothing.
    seconds_without_a_row
        After which a process is ended that does nothing.

    Raises
    ------
    SettingsError
        When a number is not positive.
    """

    def __init__(
        self,
        address: str,
        settings: HistorySettings,
        *,
        workers: int = 1,
        api_key: str | None = None,
        log_level: int | None = None,
        seconds_without_a_row: float = SECONDS_WITHOUT_A_ROW,
    ) -> None:
        check_at_least(1, workers=workers)
        self._address = address
        self._settings = settings
        self._workers = workers
        self._api_key = api_key
        self._log_level = log_level
        self.seconds_without_a_row = seconds_without_a_row
        self._running: list[_Worker] = []
        self.report = HistoryReport()
        """What became of the raw runs so far."""
        self.remarks: list[str] = []
        """What went wrong with workers, and cost no run."""

    @property
    def rows_made(self) -> int:
        """Rows so far, those of runs in hand among them."""
        return sum(worker.rows for worker in self._running)

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [pid for worker in self._running if (pid := worker.pid) is not None]

    def annotate(self, uids: Iterable[str], *, on_look: Callable[[], None] = lambda: None) -> Iterator[str]:
        """Annotate raw runs, begun in this order; give the uid of each when it is done.

        Parameters
        ----------
        uids
            Of raw runs.
        on_look
            Called some times a second, to show `rows_made`.

        Raises
        ------
        DvfbError
            When no process can be started, or each has ended too often.
        """
        tasks = _Tasks(uids)
        done: Queue[_Done] = Queue()
        memory = FrameMemory()
        left = tasks.left
        workers = min(self._workers, max(1, left))
        threads = max(1, (os.cpu_count() or 1) // workers)
        with tempfile.TemporaryDirectory(prefix="dvfb-history-", ignore_cleanup_errors=True) as folder:
            self._running = [
                _Worker(
                    number,
                    {
                        "address": self._address,
                        "api_key": self._api_key,
                        "settings": asdict(self._settings),
                        "folder": folder,
                        "threads": threads,
                        "log_level": self._log_level,
                    },
                    memory,
                    tasks,
                    done,
                )
                for number in range(1, workers + 1)
            ]
            alive = len(self._running)
            try:
                for worker in self._running:
                    worker.thread.start()
                while left:
                    on_look()
                    for worker in self._running:
                        worker.end_if_stuck(self.seconds_without_a_row)
                    with suppress(Empty):
                        said = done.get(timeout=_SECONDS_BETWEEN_LOOKS)
                        if said.gave_up is not None:
                            alive -= 1
                            self.remarks.append(str(said.gave_up))
                            if not alive:
                                raise said.gave_up
                            continue
                        left -= 1
                        self.report.add(said.report)
                        yield said.uid
            finally:
                tasks.close()
                for worker in self._running:
                    worker.close()
                for worker in self._running:
                    worker.thread.join()
                memory.close()


class _Tasks:
    """The raw runs that nobody has in hand, for any thread."""

    def __init__(self, uids: Iterable[str]) -> None:
        self._waiting = deque(_Task(uid) for uid in uids)
        self._changed = threading.Condition()
        self._closed = False
        self.left = len(self._waiting)
        """How many are not done."""

    def take(self) -> _Task | None:
        """Return the next; waits while others have in hand what may come back. None: there is none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self.left or self._closed)
            return None if self._closed or not self._waiting else self._waiting.popleft()

    def give_back(self, task: _Task) -> None:
        """Have a run be the next."""
        with self._changed:
            self._waiting.appendleft(task)
            self._changed.notify_all()

    def is_done(self) -> None:
        """Say that one more is done."""
        with self._changed:
            self.left -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Give no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait, unless it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)


class _Worker:
    """A process, and the thread of this one that gives it run after run."""

    def __init__(
        self, number: int, settings: dict[str, object], memory: FrameMemory, tasks: _Tasks, done: Queue[_Done]
    ) -> None:
        self._signs = memory.shared((len(Sign),), np.int64)
        self._signs[:] = 0
        self._tasks = tasks
        self._done = done
        self._process = ServiceProcess(
            "dvfb_stream.history.run_service:RunService",
            {**settings, "signs": memory.place_of(self._signs)},
            memory=memory,
            called=f"worker {number}",
            answer_within=_SECONDS_FOR_A_RUN,
            niceness=0,  # there is no RunEngine here; who wants less calls the command by `nice`
        )
        self._seen, self._seen_at = -1, 0.0
        self._was_stuck_for = 0.0
        self.thread = threading.Thread(target=self._work, name=f"dvfb-worker-{number}", daemon=True)

    @property
    def rows(self) -> int:
        """That its processes have made."""
        return int(self._signs[Sign.ROWS])

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid

    def end_if_stuck(self, seconds: float) -> None:
        """End the process when it has made no row for so long, and does not wait for the catalog."""
        now, rows = time.monotonic(), self.rows
        if not self._signs[Sign.ANNOTATING] or rows != self._seen:
            self._seen, self._seen_at = rows, now
        elif now - self._seen_at >= seconds and (pid := self.pid) is not None:
            self._was_stuck_for, self._seen_at = seconds, now
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _work(self) -> None:
        starts, has_worked = 0, False
        while (task := self._tasks.take()) is not None:
            try:
                with self._process.asking() as ask:
                    report = HistoryReport.from_json(ask({"uid": task.uid}))
            except ReportedFailureError as error:
                self._signs[Sign.ANNOTATING] = 0  # its process may have ended meanwhile
                if error.cause is Cause.CLOSED:
                    return
                if error.cause is Cause.NOT_STARTED:
                    self._tasks.give_back(task)
                    starts += 1
                    # What refuses the settings does so again; later it is the catalog that is away.
                    if starts == MOST_STARTS or (error.error and not has_worked):
                        self._done.put(_Done("", HistoryReport(), gave_up=error))
                        return
                    self._tasks.pause(error.retry_after)
                    continue
                failed = self._failed(task, error)
                if failed is None:
                    continue
                report = failed
            except Exception as error:  # noqa: BLE001 - costs its own run: who waits for the others counts on this thread
                report = _failure(task.uid, str(error) or type(error).__name__)
            starts, has_worked = 0, True
            self._done.put(_Done(task.uid, report))
            self._tasks.is_done()

    def _failed(self, task: _Task, error: ReportedFailureError) -> HistoryReport | None:
        """Return the report of a run over which the process ended; None: it is tried once more."""
        how = str(error)
        if self._was_stuck_for:
            how = f"{how.partition(' was ')[0]} made no row for {self._was_stuck_for:g} s and was ended"
            self._was_stuck_for = 0.0
        if error.cause not in _ENDS:
            return _failure(task.uid, how)
        task.ends += 1
        if task.ends < MOST_ENDS:
            self._tasks.give_back(task)
            return None
        return _failure(task.uid, f"{how}; so did the one before that had it")


def _failure(uid: str, why: str) -> HistoryReport:
    return HistoryReport(runs=1, failures=[f"run {uid}: {why}"])
