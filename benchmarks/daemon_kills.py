"""How many frames does a Kafka daemon annotate again after SIGKILL, and is a row missing, there twice or another's?

    python -m benchmarks.daemon_kills [--kills 100] [--daemons 1] > benchmarks/results/daemon-kills-1.json

One daemon, or three of a group with one spool's folder or one each, read a topic of three partitions from a real
broker (Tansu), while runs are published to it: frames in events, and frames in an HDF5 file that stream datums
announce, in turns. A daemon gets SIGKILL at a random moment, and is started again by a supervisor. Meanwhile, mixed
with these kills:

- of each ten, at the third the broker gets SIGKILL and is started again after some seconds, with its topics and
  offsets (`benchmarks/beamline/object_store.py`); at the eighth it is halted for as long;
- at each fifteenth a real `tiled serve` gets SIGKILL and is away for some seconds, and once for `--away` seconds:
  daemons go on, and their rows wait in the spool;
- once the spool's disk, a small file system in memory, is full for `--full` seconds; a daemon is killed meanwhile.

Retention takes what the group has committed out of the topic, so that it never begins with a run's start for long.
In the end all runs are read by Bluesky's client: each frame must have one row, under its number, that was made from
its pixels, and the stop must count them.

*again*: frames that an annotator was given more than once, by what happened last before and by partition, as each
has a batch in hand. A broker that is killed brings rebalances; so do a kill and a start of one daemon of three.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beamline.broker import Broker, Retention, broker
from benchmarks.beamline.daemons import (
    Annotated,
    Consumption,
    Daemons,
    annotated,
    annotated_frames,
    annotated_until_now,
)
from benchmarks.beamline.full_disk import SmallDisk, small_disk
from benchmarks.beamline.runs import Acquisition, Publisher, compared
from benchmarks.beamline.waiting import until
from benchmarks.command import run
from benchmarks.outages import raw
from benchmarks.tiled_server import TABLES, TiledServer, serving

PARTITIONS = 3
FRAMES = 300
"""Of a run: many batches, so that reading it again from its start would show."""
BATCH = 8
SECONDS = 0.02
"""That the annotator takes for a frame: it has a batch in hand half of the time."""
MOST_BEHIND = 600
"""Frames that are published before they are annotated; more come when these are."""
BETWEEN = 20
"""Frames at least that are annotated between two kills, about."""
SECONDS_AWAY = 5.0
"""Of the broker, and of Tiled but for the one long outage."""
SECONDS_TO_STORE = 3600.0
"""That Tiled may take for what waits for it in the end."""
DISK_MEGABYTES = 256
ONLY_LOGS = shutil.ignore_patterns("*.h5", "spools", "letters")


@dataclass(frozen=True, slots=True)
class Happening:
    """What was done, and when."""

    kind: str
    at: int
    """Size of the file of notes."""


class Mishaps:
    """What happens besides kills, each on a thread of its own while kills go on."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._busy: Counter[str] = Counter()
        self.happened: list[Happening] = []

    def note(self, kind: str) -> None:
        """Say that something happens now."""
        self.happened.append(Happening(kind, annotated_until_now(self._notes)))

    def are_under_way(self, part: str) -> bool:
        """Return whether something is wrong with a part."""
        return self._busy[part] > 0

    def happen(
        self, part: str, kind: str, begin: Callable[[], object], seconds: float, end: Callable[[], object]
    ) -> None:
        """Do something to a part for some seconds, unless something is wrong with it already."""
        if self.are_under_way(part):
            return
        self._busy[part] += 1

        def work() -> None:
            try:
                self.note(kind)
                begin()
                try:
                    time.sleep(seconds)
                finally:
                    end()
                self._busy[part] -= 1
            except BaseException as error:  # noqa: BLE001 - raised by `wait`
                self._failures.append(error)

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def wait(self) -> None:
        """Wait until all of it is over."""
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]


def again_by_happening(
    frames: Sequence[Annotated], happened: Sequence[Happening], partitions: dict[str, int]
) -> list[list[int]]:
    """Return how many frames of each partition were annotated again after each of what happened.

    Parameters
    ----------
    frames
        As they were noted.
    happened
        In order.
    partitions
        Of the runs, by uid.
    """
    seen: set[tuple[str, int]] = set()
    again: Counter[tuple[int, int]] = Counter()
    for each in frames:
        if (each.run, each.frame) in seen:
            last = sum(happening.at <= each.at for happening in happened) - 1
            again[last, partitions[each.run]] += 1
        seen.add((each.run, each.frame))
    return [[again[number, partition] for partition in range(PARTITIONS)] for number in range(len(happened))]


def summary_of(again: Sequence[Sequence[int]], happened: Sequence[Happening]) -> dict[str, Any]:
    """Return how many frames were annotated again, by kind of what happened last before."""
    found = {}
    for kind in dict.fromkeys(happening.kind for happening in happened):
        of_it = [each for each, happening in zip(again, happened, strict=True) if happening.kind == kind]
        totals = [sum(each) for each in of_it]
        found[kind] = {
            "times": len(of_it),
            "mean": round(float(np.mean(totals)), 2),
            "most": max(totals),
            "most_of_a_partition": max(map(max, of_it)),
        }
    return found


def kill_and_count(
    options: argparse.Namespace, folder: Path, server: TiledServer, cluster: Broker, disk: SmallDisk | None
) -> dict[str, Any]:
    """Kill until there were so many kills; return what was found."""
    chance, topic, group = random.Random(options.seed), f"runs-{uuid.uuid4().hex[:8]}", "benchmark"
    cluster.create_topic(topic, PARTITIONS)
    client, notes = raw(server), folder / "annotated"
    spools = folder / "spools"
    given = [
        {
            "servers": cluster.servers, "topic": topic, "group": group, "tiled": client.uri.partition("?")[0],
            "spool": str(spools / ("spool" if options.spools == "one" else f"spool-{place}")),
            "letters": str(folder / "letters"), "notes": str(notes), "seconds": SECONDS, "batch": BATCH,
            "root_map": {str(folder): str(folder)},
        }
        for place in range(options.daemons)
    ]  # fmt: skip
    mishaps, kills, began = Mishaps(notes), 0, time.monotonic()
    due = {"Tiled away for long": 0.25, "disk full": 0.5}  # shares of the kills, or of their time

    def is_due(what: str) -> bool:
        share = max(kills / options.kills, (time.monotonic() - began) / (60 * options.minutes))
        return what in due and share >= due[what] and bool(due.pop(what))

    with ExitStack() as stack:
        publisher = Publisher(cluster.servers, topic)
        stack.callback(publisher.close)
        acquisition = Acquisition(
            publisher,
            folder,
            partitions=PARTITIONS,
            frames=FRAMES,
            rate=options.rate,
            waits=lambda published: published - annotated_frames(notes) > MOST_BEHIND,
        )
        stack.callback(acquisition.cut_off)
        daemons = Daemons(given, {"TILED_API_KEY": server.key}, folder)
        stack.callback(daemons.stop)
        retention = Retention(cluster, topic, group, PARTITIONS)
        retention.start()
        stack.callback(retention.end)
        consumption = Consumption(daemons)
        consumption.start()
        stack.callback(consumption.end)

        def kill(kind: str = "kill", **how: Any) -> None:
            nonlocal kills
            daemons.kill(chance, **how)
            mishaps.note(kind)
            kills += 1
            print(
                f"{time.monotonic() - began:.0f} s: {kills} kills, {len(publisher.runs)} runs",
                file=sys.stderr,
            )

        while kills < options.kills and time.monotonic() < began + 60 * options.minutes:
            before = annotated_until_now(notes)
            until(
                lambda: annotated_until_now(notes) > before + BETWEEN * 40,  # noqa: B023 - it is called here alone
                what=f"{BETWEEN} frames are annotated",
            )
            time.sleep(chance.uniform(0.0, 1.0))
            kill()
            if not mishaps.are_under_way("tiled") and is_due("Tiled away for long"):
                mishaps.happen("tiled", "Tiled away for long", server.kill, options.away, server.start)
            elif kills % 15 == 14:
                mishaps.happen("tiled", "Tiled killed", server.kill, SECONDS_AWAY, server.start)
            if kills % 10 == 3:
                mishaps.happen("broker", "broker killed", cluster.kill, SECONDS_AWAY, cluster.start)
            elif kills % 10 == 8:
                mishaps.happen("broker", "broker halted", cluster.halt, SECONDS_AWAY, cluster.go_on)
            if disk is not None and is_due("disk full"):
                mishaps.happen("disk", "disk full", disk.fill, options.full, disk.empty)
                time.sleep(chance.uniform(0.3, 0.7) * options.full)
                kill("kill while the disk is full", only_working=False)
        mishaps.wait()
        acquisition.stop()
        last = time.monotonic()
        print(f"{last - began:.0f} s: {len(publisher.runs)} runs are published", file=sys.stderr)
        until(
            lambda: cluster.committed(topic, group, PARTITIONS) == publisher.ends,
            what=f"all is committed, up to {publisher.ends}",
            patience=SECONDS_TO_STORE,
            pause=2.0,
        )
        seconds_to_store = time.monotonic() - last
        ended = list(daemons.ended)
    again = again_by_happening(annotated(notes), mishaps.happened, publisher.partitions)
    return {
        "daemons": options.daemons,
        "spools": options.spools,
        "kills": kills,
        "seconds_of_kills": round(last - began),
        "seconds_tiled_was_away": options.away,
        "disk_full": f"a file system in memory of {DISK_MEGABYTES} MB, for {options.full:g} s"
        if any(each.kind == "disk full" for each in mishaps.happened)
        else "not in this run",
        "daemons_ended_by_themselves": ended,
        "runs": len(publisher.runs),
        "frames_a_run": FRAMES,
        "frames_a_second": options.rate * PARTITIONS,
        "frames": FRAMES * len(publisher.runs),
        "batch": BATCH,
        "load_average": os.getloadavg(),
        "most_of_a_daemon": consumption.greatest,
        "seconds_until_all_was_committed": round(seconds_to_store, 1),
        **compared(client, publisher.runs),
        "annotated_again": summary_of(again, mishaps.happened),
        "by_partition": [
            f"{happening.kind}: {' '.join(map(str, each))}"
            for happening, each in zip(mishaps.happened, again, strict=True)
        ],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Publish, kill and count."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(tables=options.tables))
        cluster = stack.enter_context(broker())
        disk = stack.enter_context(small_disk(folder / "spools", DISK_MEGABYTES))
        if options.logs:
            stack.callback(shutil.copytree, folder, options.logs, ignore=ONLY_LOGS, dirs_exist_ok=True)
        return kill_and_count(options, folder, server, cluster, disk)


if __name__ == "__main__":
    run(
        "daemon-kills",
        __doc__,
        measure,
        kills=(100, "so many, or"),
        minutes=(60.0, "of killing"),
        daemons={"type": int, "choices": (1, 3), "default": 1, "help": "of one group"},
        spools={
            "choices": ("one", "each"),
            "default": "one",
            "help": "a folder for all daemons, or one for each",
        },
        away=(120.0, "seconds that Tiled is away, once"),
        full=(20.0, "seconds that the spool's disk is full, once"),
        rate=(8.0, "frames a second and partition: no more than Tiled stores on this machine, together"),
        seed=(7, "of what is left to chance"),
        logs=("", "folder for the daemons' logs"),
        tables=TABLES,
    )
