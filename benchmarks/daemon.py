"""How many frames a second does ``dvfb daemon`` bring from Kafka to rows that a client sees, and how late are they?

    python -m benchmarks.daemon throughput [--frames 2000] > benchmarks/results/daemon-throughput.json
    python -m benchmarks.daemon latency [--seconds 60] > benchmarks/results/daemon-latency.json

A real broker (tansu, from pip), a real ``tiled serve`` with its tables in PostgreSQL, a real ``dvfb daemon`` with its
default limits, a publisher and a reader, each a process of its own, all on one machine. Frames are of 1043 x 981
pixels of 32 bits, 4 MB.

`throughput`: all documents of some runs are published as fast as the broker takes them, frames inline or in HDF5
files that stream datums speak of; from the first document published to the last row in Tiled. Besides frames/s,
the processor's time a frame of each process says what the clock does not where others are at work, and `stages` what
the daemon counts of its own stages. With `--partitions` above 1, documents of as many runs come by turns,
each in its partition; with `--workers` above 1, the daemon is a service of so many. Memory is of the largest process.

`latency`: frames are published at a rate; from just before publishing to the end of a read that has the row, by
Tiled's client in a process of its own, which reads again and again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx
import msgpack_numpy
import numpy as np
from tiled.queries import Eq

from benchmarks.beamline.broker import broker_in_memory
from benchmarks.command import run
from benchmarks.live.documents import (
    FRAMES_A_FILE,
    GEOMETRY,
    SHAPE,
    Documents,
    exposures,
    inline_run,
    stream_run,
    written,
)
from benchmarks.tiled_server import TABLES, TiledServer, free_port, processor_seconds_of, serving
from benchmarks.visible import SECONDS_BETWEEN_READS
from dvfb_stream.catalog.place import CATALOG_SPECS, STREAM, TABLE, find_place
from dvfb_stream.catalog.run_table import FRAME

RATES = (1, 10)
"""Frames a second of `latency`."""
SECONDS_OF_BEGINNING = 5.0
SECONDS_BETWEEN_LOOKS = 1.0
"""While throughput is measured: reading costs the server, too."""
PATIENCE = 600.0
LARGEST = 16 << 20
"""Bytes of a message."""

CONFIGURATION = """
model = "{model}"
device = "cpu"
metrics_port = {port}

[workers]
processes = {workers}
[kafka]
bootstrap_servers = ["{broker}"]
topics = ["{topic}"]
group = "{topic}"
[sinks.tiled]
uri = "{tiled}"
spool = "{spool}"

[files]
allowed_roots = ["{roots}"]

[detectors.{key}]
shape = [{rows}, {columns}]
center_x = {center_x}
center_y = {center_y}
"""


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each source in turns."""
    found: dict[str, Any] = {}
    with Parts(options) as parts:
        for _ in range(options.rounds):
            for source in options.sources.split(","):
                measured = parts.throughput(source)
                print(source, measured, file=sys.stderr, flush=True)
                best = found.setdefault(source, measured | {"rounds": []})
                best["rounds"].append(measured["frames_per_second"])
                if measured["frames_per_second"] > best["frames_per_second"]:
                    best |= measured
    return {
        "model": options.model,
        "shape": SHAPE,
        "tables": options.tables,
        "workers": options.workers,
        "partitions": options.partitions,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load_average": os.getloadavg(),
        "sources": found,
    }


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each source at each rate."""
    found: dict[str, Any] = {}
    with Parts(options) as parts:
        for source in options.sources.split(","):
            for rate in RATES:
                found[f"{source}, {rate} a second"] = parts.latency(source, rate)
                print(source, rate, found[f"{source}, {rate} a second"], file=sys.stderr, flush=True)
    return {
        "model": options.model,
        "shape": SHAPE,
        "tables": options.tables,
        "load_average": os.getloadavg(),
        "delays": found,
    }


class Parts:
    """Broker, Tiled and a folder with a file of frames."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._open = ExitStack()

    def __enter__(self) -> Parts:
        self._folder = Path(
            self._open.enter_context(tempfile.TemporaryDirectory(prefix="dvfb-daemon-bench-"))
        )
        self._broker = self._open.enter_context(broker_in_memory())
        self._server: TiledServer = self._open.enter_context(serving(tables=self._options.tables))
        from tiled.client import from_uri

        self._client = from_uri(self._server.address, api_key=self._server.key)
        self._raw = self._client.create_container("raw", specs=list(CATALOG_SPECS))
        self._frames = exposures(4)
        self._path = written(str(self._folder), self._frames)
        return self

    def __exit__(self, *error: object) -> None:
        self._client.context.close()
        self._open.close()

    def throughput(self, source: str) -> dict[str, Any]:
        """Publish, and wait for the last row."""
        each, runs = self._options.frames_a_run, self._options.runs
        count = each * runs
        with self._daemon() as daemon:
            self._warm_up(source, daemon)
            before, stages, begun = self._used(daemon), daemon.stages(), time.monotonic()
            uids = list[str]()
            for first in range(0, runs, self._options.partitions):
                abreast = min(self._options.partitions, runs - first)
                uids += daemon.publish_abreast([self.documents(source, each) for _ in range(abreast)])
            daemon.producer.flush()
            published = time.monotonic() - begun
            for uid in uids:
                self.until_seen(uid, each)
            seconds = time.monotonic() - begun
            used = {name: after - before[name] for name, after in self._used(daemon).items()}
            return {
                "frames": count,
                "frames_per_second": round(count / seconds, 1),
                "published_in_s": round(published, 2),
                "processor_ms_a_frame": {name: round(1e3 * one / count, 2) for name, one in used.items()},
                "daemons_stages_ms_a_frame": {
                    name: round(1e3 * (after - stages.get(name, 0.0)) / count, 2)
                    for name, after in daemon.stages().items()
                },
                "daemons_peak_memory_mb": daemon.peak_memory(),
            }

    def latency(self, source: str, rate: int) -> dict[str, Any]:
        """Publish frames at a rate, and compare when each was published with when it was seen."""
        count = min(rate * self._options.seconds, FRAMES_A_FILE)
        with self._daemon() as daemon:
            self._warm_up(source, daemon)
            documents = list(self.documents(source, count))
            context = multiprocessing.get_context("spawn")
            seen = context.Queue()
            watching = context.Process(
                target=watch,
                args=(self._server.address, self._server.key, documents[0][1]["uid"], count, seen),
            )
            watching.start()
            seen.get(timeout=PATIENCE)
            begun, published = time.monotonic(), list[float]()
            for name, doc in documents:
                if name in ("event", "stream_datum"):
                    time.sleep(max(0.0, begun + len(published) / rate - time.monotonic()))
                    published.append(time.monotonic())
                daemon.send(name, doc)
            first_seen: dict[int, float] = {}
            while not isinstance(told := seen.get(timeout=PATIENCE), tuple):
                for frame, when in told:
                    first_seen.setdefault(frame, when)
            watching.join()
        late = np.array([first_seen[frame] - when for frame, when in enumerate(published)])
        later = late[int(SECONDS_OF_BEGINNING * rate) :]
        return {
            "frames": count,
            "first_row_s": round(float(late[0]), 3),
            **{f"p{share}_s": round(float(np.percentile(later, share)), 3) for share in (50, 90, 99)},
            "max_s": round(float(later.max()), 3),
            "read_s": round(told[0], 3),
        }

    @property
    def catalog(self) -> tuple[str, str]:
        """Address of the container of raw runs, and the key."""
        return self._raw.uri, self._server.key

    @property
    def folder(self) -> Path:
        """With the file of frames."""
        return self._folder

    def processor_seconds_of_tiled(self) -> float:
        """Return what the server has used."""
        return processor_seconds_of(self._server.pid)

    def documents(self, source: str, count: int) -> Documents:
        """Return the documents of a run."""
        if source == "inline":
            return inline_run(self._frames, count)
        return stream_run(self._path, count)

    def _warm_up(self, source: str, daemon: RunningDaemon) -> None:
        """Have the geometry's plan made, and all that a first run brings."""
        daemon.until_divided(self._options.workers)
        for partition in range(self._options.partitions):
            self.until_seen(daemon.publish(self.documents(source, 4), partition), 4)

    def until_seen(self, raw_uid: str, count: int) -> None:
        """Wait until an ordinary client sees so many rows of a raw run."""
        frames, deadline = SeenFrames(self._raw, raw_uid), time.monotonic() + PATIENCE
        while len(frames.read()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {count} rows of {raw_uid} within {PATIENCE:.0f} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _used(self, daemon: RunningDaemon) -> dict[str, float]:
        return {
            "daemon": sum(processor_seconds_of(pid) for pid in daemon.pids()),
            "tiled": processor_seconds_of(self._server.pid),
            "broker": processor_seconds_of(self._broker.pid),
            "publisher_and_reader": time.process_time(),
        }

    @contextmanager
    def _daemon(self) -> Iterator[RunningDaemon]:
        place = Place(self._broker.address, self._raw.uri, self._server.key, self._folder)
        topic = topic_of(place, partitions=self._options.partitions)
        with RunningDaemon(self._options.model, place, topic, workers=self._options.workers) as daemon:
            yield daemon


@dataclass(frozen=True, slots=True)
class Place:
    """What daemons are connected to."""

    broker: str
    """Its address."""
    tiled: str
    """Address of the container of raw runs."""
    key: str
    folder: Path
    """With the detector's files, and what daemons write."""


def topic_of(place: Place, *, partitions: int) -> str:
    """Make a topic, and return its name."""
    from kafka.admin import KafkaAdminClient

    topic = f"bench.{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=place.broker)
    admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})
    admin.close()
    (place.folder / topic).mkdir()
    return topic


class RunningDaemon:
    """A ``dvfb daemon``, one of the group of a topic, and what publishes to that."""

    def __init__(self, model: str, place: Place, topic: str, workers: int = 1) -> None:
        from kafka import KafkaProducer

        self._topic, self.since = topic, time.monotonic()
        self.producer = KafkaProducer(bootstrap_servers=place.broker, max_request_size=LARGEST)
        self._port = free_port()
        folder = place.folder / topic
        configuration = folder / f"daemon-{self._port}.toml"
        configuration.write_text(
            CONFIGURATION.format(
                model=model, port=self._port, broker=place.broker, topic=topic, tiled=place.tiled,
                key="image", rows=SHAPE[0], columns=SHAPE[1], center_x=GEOMETRY.center_x,
                center_y=GEOMETRY.center_y, roots=place.folder, spool=folder / "spool", workers=workers,
            )
        )  # fmt: skip
        self._log = configuration.with_suffix(".log").open("w")
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("dvfb")), "daemon", "--config", str(configuration)],
            stderr=self._log,
            env=os.environ | {"TILED_API_KEY": place.key, "OMP_WAIT_POLICY": "PASSIVE"},
        )

    def __enter__(self) -> RunningDaemon:
        return self

    def __exit__(self, *error: object) -> None:
        self.producer.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60.0)
        finally:
            self._process.kill()
            self._log.close()

    def send(self, name: str, doc: dict[str, Any], partition: int = 0) -> None:
        """Publish a document."""
        self.producer.send(self._topic, msgpack_numpy.packb((name, doc)), partition=partition)

    def publish(self, documents: Documents, partition: int = 0) -> str:
        """Publish a run, and return its uid."""
        return self.publish_abreast([documents], partition)[0]

    def publish_abreast(self, runs: Sequence[Documents], first: int = 0) -> list[str]:
        """Publish runs by turns, each in a partition of its own, and return their uids."""
        uids = list[str]()
        for abreast in zip_longest(*runs):
            for partition, document in enumerate(abreast, first):
                if document is not None:
                    if document[0] == "start":
                        uids.append(document[1]["uid"])
                    self.send(*document, partition=partition)
        return uids

    def until_divided(self, workers: int) -> None:
        """Wait until each of several workers reads a partition."""
        deadline = time.monotonic() + PATIENCE
        while (
            workers > 1
            and len(set(re.findall(r'dvfb_read_offset\{.*worker="(\d+)"', self._metrics()))) < workers
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {workers} workers that read within {PATIENCE:.0f} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def pids(self) -> list[int]:
        """Of the daemon's process and of all that come from it."""
        pids = [self._process.pid]
        for pid in pids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, children.read_text().split())
        return pids

    def peak_memory(self) -> int:
        """Return the most memory that one of the daemon's processes had, MB."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids()]
        return max(int(re.search(r"VmHWM:\s+(\d+)", each)[1]) for each in statuses) // 1000  # type: ignore[index]

    def stages(self) -> dict[str, float]:
        """Return seconds of each stage so far, of all workers."""
        found = re.findall(r'dvfb_stage_seconds_sum\{stage="([^"]+)".*\} (\S+)', self._metrics())
        seconds = dict.fromkeys((stage for stage, _ in found), 0.0)
        for stage, each in found:
            seconds[stage] += float(each)
        return seconds

    def _metrics(self) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/metrics").text
        except httpx.TransportError:  # it starts
            return ""


class SeenFrames:
    """The frames of a raw run whose rows an ordinary client sees."""

    def __init__(self, raw: Any, raw_uid: str) -> None:
        self._raw, self._raw_uid = raw, raw_uid
        self._table: Any = None

    def read(self) -> list[int]:
        """Return their numbers, in the order in which they were stored."""
        try:
            if self._table is None:
                place = find_place(self._raw)
                found = (
                    [] if place is None else place.search(Eq("start.analysis.parent", self._raw_uid)).values()
                )
                stream = next((one[STREAM] for one in found if STREAM in one), None)
                self._table = None if stream is None else stream.base.get(TABLE)
            return [] if self._table is None else list(self._table.read([FRAME])[FRAME].unique())
        except (httpx.HTTPError, OSError):  # of a table that grows meanwhile: whoever reads does so again
            self._table = None
            return []


def watch(address: str, key: str, raw_uid: str, rows: int, seen: Any) -> None:
    """Read the frames of a run again and again; tell when each was there, and how long a read takes."""
    from tiled.client import from_uri

    frames, there, took = SeenFrames(from_uri(address, api_key=key)["raw"], raw_uid), 0, list[float]()
    seen.put("ready")
    while there < rows:
        begun = time.monotonic()
        found = frames.read()
        now = time.monotonic()
        if len(found) > there:
            took.append(now - begun)
            seen.put([(int(frame), now) for frame in found[there:]])
            there = len(found)
        time.sleep(SECONDS_BETWEEN_READS)
    seen.put((float(np.median(took)), len(took)))


if __name__ == "__main__":
    run(
        "daemon",
        __doc__,
        {"throughput": throughput, "latency": latency},
        frames_a_run=(200, "frames of each run, of `throughput`"),
        runs=(4, "runs, of `throughput`"),
        rounds=(2, "how often each source has its turn"),
        seconds=(60, "how long frames come, of `latency`"),
        sources=("hdf5,inline", "which"),
        workers=(1, "members of the daemon"),
        partitions=(1, "of the topic"),
        model=("default", "bundle"),
        tables=TABLES,
    )
