"""Opens the places that the configuration names for analysis documents: Tiled, a file, a Kafka topic."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dvfb_stream.callbacks import Sink
from dvfb_stream.errors import DvfbError, MissingExtraError, SettingsError
from dvfb_stream.kafka.consumer import KafkaError, connection
from dvfb_stream.kafka.settings import DaemonSettings, KafkaSettings, TiledSettings
from dvfb_stream.kafka.wire_format import json_ready

if TYPE_CHECKING:
    from dvfb_stream.catalog import TiledSink

try:
    from kafka import KafkaProducer
    from msgpack import Packer
except ImportError as missing:
    raise MissingExtraError("kafka-python", "kafka") from missing

_DELIVERY_SECONDS = 60.0
"""How long the brokers may take to acknowledge the documents of a run before the sink counts as failed."""


class StorageError(DvfbError):
    """A place for analysis documents that cannot be opened, or that refused a document."""


class JsonLinesSink:
    """Appends ``[name, document]`` to a file, one a line; on the disk when a run stops.

    What is not a number (the scores of a failed frame) is null. A daemon that starts again repeats the
    documents of the runs that were open: equal uids, equal documents. A line that a killed daemon left torn
    stays, by itself; what it was to say is among what is repeated.

    Parameters
    ----------
    path
        The file; made where there is none.

    Raises
    ------
    StorageError
        When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("a", encoding="utf-8")
            if _is_torn(path):
                self._file.write("\n")
        except OSError as error:
            raise StorageError(f"cannot write sinks.jsonl {path}: {error.strerror or error}") from error
        self._turn = threading.Lock()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Append one document."""
        line = json.dumps([name, json_ready(doc)], allow_nan=False)
        with self._turn:
            self._file.write(line + "\n")
            self._file.flush()
            if name == "stop":
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TopicSink:
    """Publishes analysis documents to a Kafka topic, in the wire format of the raw documents.

    The documents of a run go to one partition, in order; at its stop all of them are acknowledged. What is
    not a number is nil. A daemon that starts again repeats the documents of the runs that were open.

    Parameters
    ----------
    settings
        The cluster.
    topic
        The topic; it must exist unless the cluster makes topics by itself.

    Raises
    ------
    StorageError
        When the cluster does not answer.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._turn = threading.Lock()
        self._run_of_descriptor: dict[str, str] = {}
        self._failure: Exception | None = None
        try:
            self._producer = KafkaProducer(**connection(settings), acks="all", metrics_enabled=False)
        except KafkaError as error:
            raise StorageError(f"cannot publish to sinks.topic {topic!r}: {error}") from error

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Publish one document."""
        with self._turn:
            run = self._run(name, doc)
            # autoreset: a Packer is cheap, and this one belongs to no other thread.
            sent = self._producer.send(
                self._topic, key=run.encode(), value=Packer().pack((name, json_ready(doc)))
            )
            sent.add_errback(self._remember)
            if name == "stop":
                self._producer.flush(timeout=_DELIVERY_SECONDS)
            failure, self._failure = self._failure, None
            if failure is not None:
                raise StorageError(f"the topic {self._topic!r} did not take a document: {failure}")

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=_DELIVERY_SECONDS)

    def _run(self, name: str, doc: dict[str, Any]) -> str:
        if name == "start":
            return str(doc["uid"])
        if name == "descriptor":
            self._run_of_descriptor[doc["uid"]] = doc["run_start"]
        if name == "stop":
            self._run_of_descriptor = {
                d: r for d, r in self._run_of_descriptor.items() if r != doc["run_start"]
            }
        return str(doc["run_start"] if "run_start" in doc else self._run_of_descriptor[doc["descriptor"]])

    def _remember(self, error: Exception) -> None:
        self._failure = error


class ConfiguredSinks:
    """The sinks of a configuration, which the pipelines of all partitions share.

    A context manager: leaving it closes them. What Tiled does not have then waits on the disk for the next daemon.

    Raises
    ------
    StorageError
        When one of them cannot be opened.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        self._shared: list[TiledSink | JsonLinesSink | TopicSink] = []
        try:
            if settings.sinks.tiled is not None:
                self._shared.append(_tiled_sink(settings.sinks.tiled))
            if settings.sinks.jsonl is not None:
                self._shared.append(JsonLinesSink(settings.sinks.jsonl))
            if settings.sinks.topic is not None:
                self._shared.append(TopicSink(settings.kafka, settings.sinks.topic))
        except StorageError:
            self.close()
            raise

    def for_partition(self) -> Sequence[Sink]:
        """Return the sinks of a new pipeline."""
        return tuple(self._shared)

    def close(self) -> None:
        """Close what is shared."""
        for sink in self._shared:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_torn(path: Path) -> bool:
    if not path.is_file():  # a pipe has no end to look at
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


def _tiled_sink(settings: TiledSettings) -> TiledSink:
    from dvfb_stream.catalog import TiledSink, connect
    from dvfb_stream.catalog.spool import WhenFull

    try:
        sink = TiledSink(
            connect(settings.uri),
            batch_size=settings.batch_size,
            spool=settings.spool,
            max_spool_bytes=settings.max_spool_bytes,
            # Kafka keeps what is not read; where there is no room, reading pauses.
            when_full=WhenFull.WAIT,
        )
        sink.probe()
    except SettingsError as error:
        raise StorageError(f"sinks.tiled: {error}") from error
    return sink
