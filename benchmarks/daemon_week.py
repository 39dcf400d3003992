"""Does a group of daemons run for a week, whatever is changed and started again around it, without growing?

    python -m benchmarks.daemon_week [--day 80] > benchmarks/results/daemon-week.json

Seven days of `--day` seconds. Three daemons with one spool read three partitions from a real broker (Tansu), and
store on a real `tiled serve` with users and PostgreSQL. A thousand runs are begun on the first day, with a frame
each, and stay open until the last, when they have another and their stop; beside them runs of 60 frames come all
week, in events and in HDF5 files. Each day

- the broker, Tiled, and PostgreSQL are stopped and started again;
- one daemon gets SIGKILL, one SIGTERM, so that partitions change hands;

and on some days

- the API key is changed: another one in the file that `TILED_API_KEY_FILE` names, daemons started again one by one,
  the old one revoked; once it is revoked first, and rows wait in the spool;
- the folder of the detector's files is mounted elsewhere, so that the paths in documents lead nowhere until daemons
  are started again with another `root_map`;
- a fourth daemon joins for the day.

In the end all runs are read by Bluesky's client, as by `benchmarks.daemon_kills`. *series*: the memory of each daemon
and its reading processes, and its descriptors. The credentials of the broker are not changed: Tansu 0.6 lets in no
client of kafka-python by SASL.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.beamline.broker import Broker, broker
from benchmarks.beamline.daemons import Consumption, Daemons, annotated
from benchmarks.beamline.runs import Acquisition, Publisher, compared, run_documents
from benchmarks.beamline.waiting import until
from benchmarks.command import run
from benchmarks.outages import raw
from benchmarks.tiled_server import TiledServer, serving

DAYS = 7
PARTITIONS = 3
DAEMONS = 3
FRAMES = 60
RATE = 2.0
"""Frames a second and partition, besides the runs that stay open."""
BATCH = 8
SECONDS = 0.004
SECONDS_AWAY = 3.0
SECONDS_UNTIL_MISSED = 6.0
"""By its group: three daemons that start at once, on two cores, are slow to show that they live."""
SECONDS_TO_STORE = 5400.0
"""In the end: a server with users takes 60 ms for a request, and a run some 25 requests."""
NAMED = "/detector/data"
"""The folder that documents name; it is nowhere."""


Do = Callable[[], object]


class Week:
    """What is changed and started again, day by day."""

    def __init__(
        self,
        options: argparse.Namespace,
        folder: Path,
        server: TiledServer,
        tables: Any,
        cluster: Broker,
        stack: ExitStack,
    ) -> None:
        self._options, self._folder = options, folder
        self._server, self._tables, self._cluster = server, tables, cluster
        self._chance = random.Random(options.seed)
        self.done: list[str] = []
        self._began = time.monotonic()
        self._mounted = folder / "mount-a"
        self._mounted.mkdir()
        self._key = server.api_key()
        self.key_file = folder / "key"
        self._write_key()
        self._topic = f"runs-{uuid.uuid4().hex[:8]}"
        cluster.create_topic(self._topic, PARTITIONS)
        # The benchmark's own key stays.
        self.client = raw(server, server.api_key()["secret"])
        self.notes = folder / "annotated"
        self.spool = folder / "spool"
        self.publisher = Publisher(cluster.servers, self._topic)
        stack.callback(self.publisher.close)
        self._open = [run_documents(n % 50_000, 2, None) for n in range(options.open_runs)]
        self.daemons = Daemons(
            [self._given() for _ in range(DAEMONS)], {"TILED_API_KEY_FILE": str(self.key_file)}, folder
        )
        stack.callback(self.daemons.stop)
        self.consumption = Consumption(self.daemons, seconds=3.0)
        self.consumption.start()
        stack.callback(self.consumption.end)

    def live(self, stack: ExitStack) -> None:
        """Let the week pass."""
        self._publish_open("event 1", begin=True)
        self._acquisition = acquisition = Acquisition(
            self.publisher, self._mounted, named=NAMED, partitions=PARTITIONS, frames=FRAMES, rate=RATE
        )
        stack.callback(acquisition.cut_off)
        for day in range(1, DAYS + 1):
            end = self._began_of(day + 1)
            todo: list[tuple[str, Do]] = [
                ("the broker is killed and started again", self._restart_broker),
                ("Tiled is killed and started again", self._restart_tiled),
                ("PostgreSQL is stopped and started again", self._restart_tables),
                ("a daemon is killed", lambda: self.daemons.kill(self._chance)),
                (
                    "a daemon is started again",
                    lambda: self.daemons.start_again(self._chance.randrange(DAEMONS)),
                ),
            ]
            self._chance.shuffle(todo)
            match day:
                case 2 | 6:
                    todo.append(("the API key is changed", self._change_key))
                case 3 | 5:
                    todo.append(("the files are mounted elsewhere", self._mount_elsewhere))
                case 4:
                    todo.append(
                        ("the API key is revoked, and another one given", self._revoke_and_change_key)
                    )
                    todo.insert(0, ("a fourth daemon joins", lambda: self.daemons.add(self._given())))
                    todo.append(("the fourth daemon leaves", self.daemons.remove_last))
                case 7:
                    todo.insert(0, ("the open runs go on and stop", lambda: self._publish_open("the rest")))
            pause = (end - time.monotonic()) / (len(todo) + 1)
            for what, do in todo:
                time.sleep(max(0.0, pause))
                self._note(day, what)
                do()
            time.sleep(max(0.0, end - time.monotonic()))
        self._note(DAYS, "the last runs are completed")
        acquisition.stop()

    def settle(self) -> float:
        """Wait until all is committed, and return how long that took."""
        began = time.monotonic()
        until(
            lambda: self._cluster.committed(self._topic, "week", PARTITIONS) == self.publisher.ends,
            what=f"all is committed, up to {self.publisher.ends}",
            patience=SECONDS_TO_STORE,
            pause=2.0,
        )
        return round(time.monotonic() - began, 1)

    def _began_of(self, day: int) -> float:
        return self._began + (day - 1) * float(self._options.day)

    def _note(self, day: int, what: str) -> None:
        line = f"day {day}, {time.monotonic() - self._began:.0f} s: {what}"
        self.done.append(line)
        print(line, file=sys.stderr)

    def _given(self) -> dict[str, Any]:
        return {
            "servers": self._cluster.servers, "topic": self._topic, "group": "week",
            "tiled": self.client.uri.partition("?")[0], "spool": str(self.spool),
            "letters": str(self._folder / "letters"), "notes": str(self.notes), "seconds": SECONDS, "batch": BATCH,
            "root_map": {NAMED: str(self._mounted)}, "session": SECONDS_UNTIL_MISSED,
        }  # fmt: skip

    def _publish_open(self, what: str, *, begin: bool = False) -> None:
        sent: dict[int, Any] = {}
        for number, documents in enumerate(self._open):
            partition = number % PARTITIONS
            if begin:
                self.publisher.add(documents, number % 50_000, 2, partition)
            # start, descriptor, event | event, stop
            for document in documents[:3] if begin else documents[3:]:
                sent[partition] = self.publisher.send(document, partition)
        for partition, last in sent.items():
            self.publisher.at(last, partition)

    def _restart_broker(self) -> None:
        self._cluster.kill()
        time.sleep(SECONDS_AWAY)
        self._cluster.start()

    def _restart_tiled(self) -> None:
        self._server.kill()
        time.sleep(SECONDS_AWAY)
        self._server.start()

    def _restart_tables(self) -> None:
        self._tables.stop()
        time.sleep(SECONDS_AWAY)
        self._tables.start()

    def _change_key(self) -> None:
        old, self._key = self._key, self._server.api_key()
        self._write_key()
        for place in range(DAEMONS):
            self.daemons.start_again(place)
        self._server.revoke(old["first_eight"])

    def _revoke_and_change_key(self) -> None:
        self._server.revoke(self._key["first_eight"])
        time.sleep(2 * SECONDS_AWAY)
        self._key = self._server.api_key()
        self._write_key()
        for place in range(DAEMONS):
            self.daemons.start_again(place)

    def _write_key(self) -> None:
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self._key["secret"])

    def _mount_elsewhere(self) -> None:
        there = self._folder / ("mount-b" if self._mounted.name == "mount-a" else "mount-a")
        with self._acquisition.moving:
            self._mounted.rename(there)
            self._mounted = self._acquisition.folder = there
        self.daemons.options = [self._given()] * DAEMONS
        for place in range(DAEMONS):
            self.daemons.start_again(place)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let a week pass, and count."""
    from tests.catalog.tiled_process import running_postgresql

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.logs:
            stack.callback(
                lambda: [log.rename(Path(options.logs) / log.name) for log in folder.glob("daemon-*.log")]
            )
            Path(options.logs).mkdir(parents=True, exist_ok=True)
        tables = stack.enter_context(running_postgresql())
        server = stack.enter_context(
            serving(with_users=True, tables=f"postgresql://{tables.address}/postgres")
        )
        cluster = stack.enter_context(broker())
        week = Week(options, folder, server, tables, cluster, stack)
        week.live(stack)
        waited = week.settle()
        ended = list(week.daemons.ended)
        left = sorted(path.name for path in week.spool.rglob("*") if path.is_file())
        series = week.consumption.by_place
        again = annotated(week.notes)
        frames = sum(count for _, count in week.publisher.runs.values())
        return {
            "days": DAYS,
            "seconds_a_day": options.day,
            "daemons": DAEMONS,
            "runs_open_all_week": options.open_runs,
            "runs": len(week.publisher.runs),
            "frames": frames,
            "load_average": os.getloadavg(),
            "done": week.done,
            "daemons_ended_by_themselves": ended,
            "tiled_ended_by_itself": server.ended_by_itself,
            "seconds_until_all_was_committed": waited,
            **compared(week.client, week.publisher.runs),
            "annotated_again": len(again) - len({(each.run, each.frame) for each in again}),
            "files_left_in_the_spool": left,
            "most_of_a_daemon": week.consumption.greatest,
            "series": {
                "columns": ["seconds", "megabytes", "descriptors", "seconds since it was started"],
                **{f"daemon {place}": looks for place, looks in series.items()},
            },
        }


if __name__ == "__main__":
    run(
        "daemon-week",
        __doc__,
        measure,
        day=(80.0, "seconds of a day"),
        open_runs=(1000, "runs that are open all week"),
        seed=(7, "of what is left to chance"),
        logs=("", "folder for the daemons' logs"),
    )
