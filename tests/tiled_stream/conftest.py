"""A Tiled server that streams, beamlines that write to it, and daemons that follow them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.frames import Geometry
from dvfb_stream.tiled_stream.daemon import TiledDaemon
from dvfb_stream.tiled_stream.position import Position
from tests.catalog.tiled_process import StreamingProcess
from tests.history.conftest import MeanAnnotator

SHAPE = (4, 6)
IMAGE = {"image": Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)}
PATIENCE = 240.0


def eventually(condition: Callable[[], Any], timeout: float = PATIENCE, pause_for: float = 0.02) -> Any:
    """Wait until a condition is true, and return what it gave; look again after `pause_for` seconds."""
    deadline = threading.Event()
    timer = threading.Timer(timeout, deadline.set)
    timer.daemon = True
    timer.start()
    pause = threading.Event()
    try:
        while not (outcome := condition()):
            assert not deadline.is_set(), f"not within {timeout} s: {condition}"
            pause.wait(pause_for)
        return outcome
    finally:
        timer.cancel()


@pytest.fixture(scope="package")
def files_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where detectors write, and the server may read."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, files_folder: Path) -> Iterator[StreamingProcess]:
    """Of the package; with the cache in DVFB_REDIS_URI, where that is set."""
    process = StreamingProcess(tmp_path_factory.mktemp("streaming"), readable=files_folder)
    process.cache = {"uri": os.environ.get("DVFB_REDIS_URI", "memory")}
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture
def raw(server: StreamingProcess) -> Iterator[Any]:
    """A container of raw runs for one test."""
    root = from_uri(server.uri, api_key=server.key)
    yield root.create_container(key=f"raw-{uuid4().hex[:8]}", specs=list(CATALOG_SPECS))
    root.context.close()


class Beamline:
    """Writes a run with inline images of constant brightness, an event at a time, as TiledWriter does."""

    def __init__(self, raw: Any, *, shape: tuple[int, int] = SHAPE, **start: Any) -> None:
        self.uid = str(uuid4())
        self.written: list[int] = []
        """Brightness of the frames."""
        self._descriptor = str(uuid4())
        self._shape = shape
        self._writer = TiledWriter(raw, batch_size=1)
        self._writer("start", {"uid": self.uid, "time": time.time(), "scan_id": 7, **start})

    def describe(self) -> None:
        image = {"source": "camera", "dtype": "array", "shape": list(self._shape), "dtype_numpy": "<u2"}
        self._writer(
            "descriptor",
            {"uid": self._descriptor, "run_start": self.uid, "time": 2.0, "name": "primary",
             "data_keys": {"image": image}, "configuration": {}, "hints": {}, "object_keys": {}},
        )  # fmt: skip

    def take(self, *brightness: int) -> None:
        if not self.written:
            self.describe()
        for value in brightness:
            self.written.append(value)
            number = len(self.written)
            self._writer(
                "event",
                {"uid": str(uuid4()), "descriptor": self._descriptor, "time": 3.0 + number, "seq_num": number,
                 "data": {"image": self._pixels(value)}, "timestamps": {"image": 3.0 + number},
                 "filled": {}},
            )  # fmt: skip

    def _pixels(self, value: int) -> np.ndarray:
        if self._shape == SHAPE:
            return np.full(SHAPE, value, np.uint16)
        return np.random.default_rng(value).poisson(100.0, self._shape).astype(np.uint16)

    def stop(self) -> None:
        self._writer(
            "stop",
            {"uid": str(uuid4()), "run_start": self.uid, "time": 99.0, "exit_status": "success",
             "num_events": {"primary": len(self.written)}},
        )  # fmt: skip


class Recorder:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.documents.append((name, doc))

    def frames(self, raw_uid: str) -> list[tuple[int, int]]:
        """(frame, brightness) of the rows of a raw run, in their order; -1 where a row has no probabilities."""
        documents = list(self.documents)
        runs = {d["uid"] for n, d in documents if n == "start" and d["analysis"]["parent"] == raw_uid}
        descriptors = {d["uid"] for n, d in documents if n == "descriptor" and d["run_start"] in runs}
        rows = [d["data"] for n, d in documents if n == "event" and d["descriptor"] in descriptors]
        return [(row["frame"], round(row["rings"] * 1000) if row["status"] == "ok" else -1) for row in rows]

    def has_stop(self, raw_uid: str) -> bool:
        documents = list(self.documents)
        runs = {d["uid"] for n, d in documents if n == "start" and d["analysis"]["parent"] == raw_uid}
        return any(n == "stop" and d["run_start"] in runs for n, d in documents)


class RunningDaemon:
    """A daemon in a thread of this process."""

    def __init__(self, daemon: TiledDaemon, position: Position) -> None:
        self.daemon, self.position = daemon, position
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stats(self) -> Any:
        return self.daemon.stats()

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.position.close()

    def stop(self) -> None:
        self.daemon.stop()
        self.join()
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            self.daemon.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error


Start = Callable[..., RunningDaemon]


@pytest.fixture
def follow(raw: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Function that starts a daemon on the test's container; those still running at the end are stopped."""
    running: list[RunningDaemon] = []

    def start(
        *sinks: Any,
        client: Any = None,
        annotator: Any = None,
        detectors: Any = None,
        limits: Any = None,
        **source: Any,
    ) -> RunningDaemon:
        settings = DaemonSettings.model_validate(
            {
                "source": {"tiled": {"uri": raw.uri.partition("?")[0], "poll_interval": 0.2} | source},
                "sinks": {"jsonl": "unused"},
                "files": {"allowed_roots": [str(tmp_path_factory.getbasetemp())]},
                "limits": {"max_wait": 0.02} | (limits or {}),
            }
        )
        position = Position(tmp_path / "position.json")
        daemon = TiledDaemon(
            settings,
            annotator or MeanAnnotator(),
            client=raw if client is None else client,
            position=position,
            detectors=detectors or IMAGE,
            sinks=sinks,
        )
        running.append(RunningDaemon(daemon, position))
        return running[-1]

    yield start
    for one in running:
        one.daemon.stop()
    for one in running:
        one.join()


def frames_of(beamline: Beamline) -> list[tuple[int, int]]:
    """What the rows of a run must say."""
    return list(enumerate(beamline.written))


def rows_of(documents: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [doc["data"] for name, doc in documents if name == "event"]


class Proxy:
    """What lies between a daemon and the server: it can be cut, and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and let none in."""
        with self._lock:
            self._is_cut = True
            gone, self._open = self._open, set()
        for one in gone:
            _shut(one)

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        self.cut()
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=PATIENCE)
            except OSError:
                near.close()
                continue
            with self._lock:
                if self._is_cut:
                    near.close()
                    far.close()
                    continue
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
        except OSError:
            pass
        for each in (one, other):
            _shut(each)
        with self._lock:
            self._open -= {one}
        one.close()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
