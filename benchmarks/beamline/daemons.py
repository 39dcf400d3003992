"""Daemons of one group, each a process, under a supervisor that starts again what has ended; and what they take."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.annotating_daemon import annotate
from benchmarks.beamline.waiting import until
from benchmarks.tiled_server import resident_bytes_of

SECONDS_UNTIL_STARTED_AGAIN = 1.0
SECONDS_TO_END = 60.0
"""That a daemon may take when it is told to."""
SECONDS_TO_JOIN = 60.0
"""Most that daemons are left to divide the partitions before one is told to end. Tansu 0.6 may take a member that
leaves while the answer to its JoinGroup is under way for the leader of the group, and waits for it for minutes: no
member gets partitions, nor when all leave and join anew."""
SECONDS_JOINED = 3.0
"""Without a daemon that joins, after which the group is settled: longer than between two heartbeats, by which daemons
learn that they are to join again."""
JOINING, JOINED = "(Re-)joining group", "rebalance complete for group"
"""In the log of kafka-python."""


def _be_daemon(options: dict[str, Any], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    annotate(options)


class Daemons:
    """So many daemons, each in a place of its own.

    Parameters
    ----------
    options
        Of each, see `annotating_daemon`; may be changed for those that are started from then on.
    environment
        What they have besides this process's.
    folder
        For their logs.
    """

    def __init__(self, options: Sequence[dict[str, Any]], environment: dict[str, str], folder: Path) -> None:
        self.options, self.environment, self._folder = list(options), environment, folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.annotating_daemon"])
        self._changing = threading.RLock()
        self._processes: list[Any] = [None] * len(options)
        self._logs: list[Path] = [folder] * len(options)
        self._since: list[float] = [0.0] * len(options)
        self._started = 0
        self.ended: list[int] = []
        """Exit statuses of those that have ended by themselves."""
        self._over = threading.Event()
        for place in range(len(options)):
            self._start(place)
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    @property
    def there(self) -> list[tuple[int, int, float]]:
        """Place and pid of the processes that are there, and when they were started, seconds, monotonic."""
        with self._changing:
            living = [(place, process) for place, process in enumerate(self._processes) if process.is_alive()]
            return [(place, process.pid, self._since[place]) for place, process in living]

    def kill(self, chance: random.Random, *, only_working: bool = True) -> None:
        """Kill one, which has partitions where `only_working`, and start another in its place."""
        if only_working:
            until(lambda: any(map(self._works, range(len(self._processes)))), what="a daemon has partitions")
        with self._changing:
            places = [
                place for place in range(len(self._processes)) if self._works(place) or not only_working
            ]
            place = chance.choice(places or [0])
            self._processes[place].kill()
            self._processes[place].join()
            self._start(place)

    def add(self, options: dict[str, Any]) -> None:
        """Start another one."""
        with self._changing:
            self.options.append(options)
            self._processes.append(None)
            self._logs.append(self._folder)
            self._since.append(0.0)
            self._start(len(self._processes) - 1)

    def remove_last(self) -> None:
        """End the last one as a supervisor does."""
        self._let_join()
        with self._changing:
            self._end(len(self._processes) - 1)
            for each in (self._processes, self.options, self._logs, self._since):
                each.pop()

    def start_again(self, place: int) -> None:
        """End one as a supervisor does, and start another in its place."""
        self._let_join()
        with self._changing:
            self._end(place)
            self._start(place)

    def stop(self) -> None:
        """Have all end as a supervisor does."""
        self._over.set()
        with self._changing:
            for process in self._processes:
                with suppress(OSError, AttributeError):
                    os.kill(process.pid, signal.SIGTERM)
            for place in range(len(self._processes)):
                self._end(place)

    def _end(self, place: int) -> None:
        process = self._processes[place]
        if process is None:
            return
        process.terminate()
        process.join(SECONDS_TO_END)
        process.kill()
        process.join()

    def _supervise(self) -> None:
        while not self._over.wait(SECONDS_UNTIL_STARTED_AGAIN):
            with self._changing:
                for place, process in enumerate(self._processes):
                    if not process.is_alive() and not self._over.is_set():
                        self.ended.append(process.exitcode)
                        self._start(place)

    def _works(self, place: int) -> bool:
        log = self._logs[place]
        return log.is_file() and "assigned: runs" in log.read_text(errors="replace")

    def _let_join(self) -> None:
        joined_since = time.monotonic()

        def are_settled() -> bool:
            nonlocal joined_since
            with self._changing:
                if not all(map(self._has_joined, self._logs)):
                    joined_since = time.monotonic()
            return time.monotonic() > joined_since + SECONDS_JOINED

        with suppress(TimeoutError):
            until(are_settled, what="the daemons have joined", patience=SECONDS_TO_JOIN)

    @staticmethod
    def _has_joined(log: Path) -> bool:
        text = log.read_text(errors="replace") if log.is_file() else ""
        return text.rfind(JOINED) > text.rfind(JOINING)

    def _start(self, place: int) -> None:
        self._started += 1
        self._logs[place] = self._folder / f"daemon-{place}-{self._started}.log"
        process = self._context.Process(
            target=_be_daemon, args=(self.options[place], str(self._logs[place]), self.environment)
        )
        process.start()
        self._processes[place], self._since[place] = process, time.monotonic()


Look = tuple[float, float, int, float]
"""Seconds since the begin; megabytes of a daemon and its reading processes; its descriptors; seconds since it was
started."""


class Consumption(threading.Thread):
    """Looks, again and again, how much memory and how many descriptors the daemons have."""

    def __init__(self, daemons: Daemons, seconds: float = 2.0) -> None:
        super().__init__(daemon=True)
        self._daemons, self._seconds = daemons, seconds
        self._over = threading.Event()
        self._began = time.monotonic()
        self.by_place: defaultdict[int, list[Look]] = defaultdict(list)

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(self._seconds):
            now = time.monotonic()
            for place, pid, since in self._daemons.there:
                with suppress(OSError):  # it has just ended
                    megabytes = sum(map(resident_bytes_of, [pid, *_children_of(pid)])) / 1e6
                    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
                    look = (
                        round(now - self._began, 1),
                        round(megabytes, 1),
                        descriptors,
                        round(now - since, 1),
                    )
                    self.by_place[place].append(look)

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    @property
    def greatest(self) -> dict[str, float]:
        """The most of all the time."""
        looks = [look for of_place in self.by_place.values() for look in of_place]
        return {
            "megabytes": max((megabytes for _, megabytes, *_ in looks), default=0.0),
            "descriptors": max((descriptors for *_, descriptors, _ in looks), default=0),
        }


def _children_of(pid: int) -> list[int]:
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


@dataclass(frozen=True, slots=True)
class Annotated:
    """A frame that a daemon has annotated."""

    run: str
    frame: int
    at: int
    """Size of the file of notes when it was noted: a clock of what was annotated."""


def annotated(notes: Path) -> list[Annotated]:
    """Return what was annotated, in order."""
    found, at = list[Annotated](), 0
    for line in notes.read_bytes().splitlines(keepends=True) if notes.exists() else ():
        run, frame, _ = line.split()
        found.append(Annotated(run.decode(), int(frame), at))
        at += len(line)
    return found


def annotated_frames(notes: Path) -> int:
    """Return how many frames were annotated, about: as long as the lines are alike."""
    if not notes.exists():
        return 0
    with notes.open("rb") as file:
        line = len(file.readline()) + 1
    return notes.stat().st_size // line


def annotated_until_now(notes: Path) -> int:
    """Return the size of the file of notes."""
    return notes.stat().st_size if notes.exists() else 0
