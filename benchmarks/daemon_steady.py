"""How many frames does a group of daemons annotate, minute after minute, and does its memory grow?

    python -m benchmarks.daemon_steady [--minutes 5] [--daemons 1] > benchmarks/results/daemon-steady-1.json

The parts are those of `benchmarks.daemon`, the broker's storage a process that forgets what the group has committed.
As many partitions as daemons; each has two runs ahead of what is stored, so that nobody waits for frames. `memory` is
of each daemon with its reading processes, MB, in the first and the last fifth of the time, and at most. *a day* is
what the rate comes to in 24 hours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import deque
from contextlib import ExitStack
from typing import Any

from benchmarks.beamline.broker import Broker, Retention, broker
from benchmarks.beamline.daemons import Consumption
from benchmarks.command import run
from benchmarks.daemon import Parts, Place, RunningDaemon, topic_of
from benchmarks.tiled_server import TABLES, processor_seconds_of

RUNS_AHEAD = 2
"""Of each partition."""
SECONDS_BETWEEN_LOOKS = 2.0
WARM_UP_FRAMES = 8


class Group:
    """Daemons of one group, for `Consumption`."""

    def __init__(self, daemons: list[RunningDaemon]) -> None:
        self._daemons = daemons

    @property
    def there(self) -> list[tuple[int, int, float]]:
        """Number, pid and start of each."""
        return [(number, daemon.pid, daemon.since) for number, daemon in enumerate(self._daemons)]

    def processor_seconds(self) -> float:
        """Return those of all their processes."""
        return sum(processor_seconds_of(pid) for daemon in self._daemons for pid in daemon.pids())


def work(options: argparse.Namespace, parts: Parts, cluster: Broker) -> dict[str, Any]:
    """Keep a group at work, and look at it."""
    place = Place(cluster.servers[0], *parts.catalog, parts.folder)
    with ExitStack() as stack:
        topic = topic_of(place, partitions=options.daemons)
        daemons = [
            stack.enter_context(RunningDaemon(options.model, place, topic)) for _ in range(options.daemons)
        ]
        partitions = range(options.daemons)

        def publish(partition: int, frames: int) -> str:
            return daemons[partition].publish(parts.documents(options.source, frames), partition)

        for uid in [publish(partition, WARM_UP_FRAMES) for partition in partitions]:
            parts.until_seen(uid, WARM_UP_FRAMES)
        group = Group(daemons)
        consumption = Consumption(group, seconds=SECONDS_BETWEEN_LOOKS)
        consumption.start()
        stack.callback(consumption.end)
        retention = Retention(cluster, topic, topic, options.daemons)
        retention.start()
        stack.callback(retention.end)
        used, tiled, began = group.processor_seconds(), parts.processor_seconds_of_tiled(), time.monotonic()
        waiting: deque[tuple[int, str]] = deque()
        stored, marks = 0, list[float]()
        while time.monotonic() < began + 60 * options.minutes or waiting:
            if time.monotonic() < began + 60 * options.minutes:
                for partition in partitions:
                    while sum(each == partition for each, _ in waiting) < RUNS_AHEAD:
                        waiting.append((partition, publish(partition, options.frames_a_run)))
            _, uid = waiting.popleft()
            parts.until_seen(uid, options.frames_a_run)
            stored += options.frames_a_run
            marks.append(time.monotonic() - began)
            print(f"{marks[-1]:.0f} s: {stored} frames", file=sys.stderr, flush=True)
        seconds = time.monotonic() - began
        return {
            "source": options.source,
            "daemons": options.daemons,
            "model": options.model,
            "load_average": os.getloadavg(),
            "frames": stored,
            "lasted_s": round(seconds, 1),
            "frames_per_second": round(stored / seconds, 1),
            "frames_a_day": round(86400 * stored / seconds, -4),
            "processor_ms_a_frame": {
                "daemons": round(1e3 * (group.processor_seconds() - used) / stored, 2),
                "tiled": round(1e3 * (parts.processor_seconds_of_tiled() - tiled) / stored, 2),
            },
            "memory": {f"daemon {number}": flatness(looks) for number, looks in consumption.by_place.items()},
            "descriptors": consumption.greatest["descriptors"],
            "seconds_of_each_run": [
                round(after - before, 1) for before, after in zip([0.0, *marks], marks, strict=False)
            ],
        }


def flatness(looks: list[tuple[float, float, int, float]]) -> dict[str, float]:
    """Return megabytes in the first and the last fifth of looks, and the most."""
    megabytes = [each for _, each, *_ in looks]
    fifth = max(1, len(megabytes) // 5)
    return {
        "first_fifth": round(statistics.mean(megabytes[:fifth]), 1),
        "last_fifth": round(statistics.mean(megabytes[-fifth:]), 1),
        "most": max(megabytes),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts, and the group with them."""
    with Parts(options) as parts, broker() as cluster:
        return work(options, parts, cluster)


if __name__ == "__main__":
    run(
        "daemon-steady",
        __doc__,
        measure,
        minutes=(5.0, "of work"),
        daemons=(1, "of one group"),
        source=("hdf5", "of the frames: hdf5 or inline"),
        frames_a_run=(200, "frames of each run"),
        model=("default", "bundle"),
        tables=TABLES,
    )
