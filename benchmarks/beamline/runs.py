"""Raw runs whose frames tell their own number: published, and compared with the rows that became of them."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import msgpack_numpy
import numpy as np
from tiled.queries import Key

from benchmarks.annotating_daemon import MOST, SHAPE
from dvfb_stream.catalog.place import find_place

OF_A_DATUM = 10
"""Frames that a stream datum announces."""
SECONDS_TO_PUBLISH = 600.0
"""That a message is tried again: longer than any outage of the broker."""

Document = tuple[str, dict[str, Any]]


def run_documents(first: int, frames: int, path: Path | None, *, named: str = "") -> list[Document]:
    """Return a run of frames as bright as `first` and up; in a file at `path`, `named` as they say, or in events."""
    uid, descriptor, values = str(uuid.uuid4()), str(uuid.uuid4()), range(first, first + frames)
    key: dict[str, Any] = {"source": "camera", "dtype": "array", "shape": list(SHAPE)}
    begun: list[Document] = [("start", {"uid": uid, "time": 1.0, "scan_id": 1})]
    described = {"uid": descriptor, "run_start": uid, "time": 2.0, "name": "primary", "data_keys": {"image": key},
                 "configuration": {}, "hints": {}, "object_keys": {}}  # fmt: skip
    found: list[Document]
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
                    "uri": f"file://localhost{named or path}", "parameters": {"dataset": "d"}}  # fmt: skip
        begun.append(("stream_resource", resource))
        found = [
            ("stream_datum", {
                "uid": f"{uid}/{n}", "stream_resource": f"{uid}/r", "descriptor": descriptor,
                "indices": {"start": n, "stop": min(frames, n + OF_A_DATUM)},
                "seq_nums": {"start": n + 1, "stop": min(frames, n + OF_A_DATUM) + 1},
            })
            for n in range(0, frames, OF_A_DATUM)
        ]  # fmt: skip
    stop = {"uid": str(uuid.uuid4()), "run_start": uid, "time": 9.0, "exit_status": "success",
            "num_events": {"primary": frames}}  # fmt: skip
    return [begun[0], ("descriptor", described), *begun[1:], *found, ("stop", stop)]


class Publisher:
    """Publishes documents to a topic, and remembers what was published. For several threads.

    Parameters
    ----------
    servers
        Of the cluster.
    topic
        On it.
    """

    def __init__(self, servers: Sequence[str], topic: str) -> None:
        from kafka import KafkaProducer

        self._producer = KafkaProducer(
            bootstrap_servers=list(servers), acks="all", metrics_enabled=False, linger_ms=1000,
            request_timeout_ms=10_000, delivery_timeout_ms=round(SECONDS_TO_PUBLISH * 1000), retry_backoff_ms=200,
        )  # fmt: skip
        self._topic = topic
        self.runs: dict[str, tuple[int, int]] = {}
        """By uid, how bright the first frame is, and how many there are."""
        self.partitions: dict[str, int] = {}
        """Of each run."""
        self.ends: dict[int, int] = {}
        """One past the last offset, by partition."""
        self._ending = threading.Lock()

    def add(self, documents: Sequence[Document], first: int, frames: int, partition: int) -> None:
        """Take note of a run that is going to be published."""
        uid = documents[0][1]["uid"]
        self.runs[uid] = first, frames
        self.partitions[uid] = partition

    def send(self, document: Document, partition: int) -> Any:
        """Publish a document; return what says when it is there, by `at`."""
        return self._producer.send(
            self._topic, msgpack_numpy.packb(document), key=b"publisher", partition=partition
        )

    def at(self, sent: Any, partition: int) -> None:
        """Wait until a document is there, and those of its partition before it."""
        end = sent.get(timeout=SECONDS_TO_PUBLISH).offset + 1
        with self._ending:
            self.ends[partition] = max(end, self.ends.get(partition, 0))

    def close(self) -> None:
        """Publish nothing more."""
        from kafka.errors import KafkaTimeoutError

        with suppress(KafkaTimeoutError):  # the broker is away, as everything ends
            self._producer.close(timeout=10)


class Acquisition:
    """Publishes runs, one after another on each partition, until it is told to stop; begun ones are completed.

    Parameters
    ----------
    publisher
        What publishes.
    folder
        Where the files of every second run lie; it may be moved under the lock `moving`.
    named
        As documents name it.
    partitions
        How many.
    frames
        Of each run.
    rate
        Frames a second and partition.
    waits
        Called with the number of frames published: whether no more come at the moment. On a busy machine daemons that
        are killed again and again annotate few.
    """

    def __init__(
        self,
        publisher: Publisher,
        folder: Path,
        *,
        named: str = "",
        partitions: int,
        frames: int,
        rate: float,
        waits: Callable[[int], bool] = lambda published: False,
    ) -> None:
        self._waits = waits
        self._publisher, self.folder, self._named = publisher, folder, named or str(folder)
        self.moving = threading.Lock()
        self._counting = threading.Lock()
        self._published = 0
        self._partitions, self._frames, self._rate = partitions, frames, rate
        self._stopping, self._cut_off = threading.Event(), threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(partitions)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Complete the runs that were begun."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise RuntimeError("a run could not be published") from self._failures[0]

    def cut_off(self) -> None:
        """Publish nothing more."""
        self._cut_off.set()

    def _work(self, partition: int) -> None:
        try:
            self._publish(partition)
        except BaseException as error:  # noqa: BLE001 - raised where the threads are joined
            self._failures.append(error)

    def _publish(self, partition: int) -> None:
        number = partition
        while not self._stopping.is_set():
            first = (number * 617) % (MOST - self._frames)
            with self.moving:
                path = self.folder / f"{number}.h5" if number // self._partitions % 2 else None
                made = run_documents(first, self._frames, path, named=f"{self._named}/{number}.h5")
            self._publisher.add(made, first, self._frames, partition)
            number += self._partitions
            due = time.monotonic()
            for document in made:
                sent = self._publisher.send(document, partition)
                frames = {"event": 1, "stream_datum": OF_A_DATUM}.get(document[0], 0)
                due += frames / self._rate
                with self._counting:
                    self._published += frames
                while not self._cut_off.wait(max(0.0, due - time.monotonic())) and self._waits(
                    self._published
                ):
                    due = time.monotonic() + 0.2
                if self._cut_off.is_set():
                    return
            self._publisher.at(sent, partition)


def compared(client: Any, runs: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Read all runs with Bluesky's ordinary client, and count what is wrong with them."""
    found: Counter[str] = Counter(
        dict.fromkeys(("missing", "twice", "of_others", "out_of_order", "without_a_stop_that_counts_them"), 0)
    )
    place = find_place(client)
    for uid, (first, frames) in runs.items():
        analyses = (
            list(place.search(Key("start.analysis.parent") == uid).values()) if place is not None else []
        )
        found["twice"] += frames * max(0, len(analyses) - 1)
        stream = analyses[0].get("annotations") if analyses else None
        if stream is None:
            found["missing"] += frames
            continue
        numbers, rings = stream["frame"].read().tolist(), stream["rings"].read().tolist()
        found["missing"] += len(set(range(frames)) - set(numbers))
        found["twice"] += len(numbers) - len(set(numbers))
        found["out_of_order"] += numbers != sorted(numbers)
        found["of_others"] += sum(
            round(ring * MOST) != first + number for number, ring in zip(numbers, rings, strict=True)
        )
        stop = analyses[0].metadata.get("stop") or {}
        found["without_a_stop_that_counts_them"] += stop.get("summary", {}).get("frames") != frames
    return dict(found)
