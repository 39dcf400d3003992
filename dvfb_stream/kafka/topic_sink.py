"""Publishes analysis documents to a Kafka topic."""

from __future__ import annotations

import threading
from typing import Any

from dvfb_stream.catalog.spool.encoding import json_ready
from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.daemon.sinks import StorageError
from dvfb_stream.errors import MissingExtraError, RefusedDocumentError
from dvfb_stream.kafka.consumer import KafkaError, connection

try:
    from kafka import KafkaProducer
    from kafka.errors import InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError
    from msgpack import Packer
except ImportError as missing:
    raise MissingExtraError("kafka-python", "kafka") from missing

_DELIVERY_SECONDS = 60.0
"""How long the brokers may take to acknowledge the documents of a run before the sink counts as failed."""


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
        """Publish one document.

        Raises
        ------
        RefusedDocumentError
            When the topic will not take it, or one before it, as it is: it is too large, or of no run known here.
        StorageError
            When the cluster does not take it now.
        """
        with self._turn:
            run = self._run(name, doc)
            # autoreset: a Packer is cheap, and this one belongs to no other thread.
            packed = Packer(unicode_errors="replace").pack((name, json_ready(doc)))
            try:
                sent = self._producer.send(self._topic, key=run.encode(), value=packed)
            except MessageSizeTooLargeError as error:
                raise RefusedDocumentError(
                    f"the topic {self._topic!r} takes no document of {len(packed)} bytes: {error}"
                ) from error
            sent.add_errback(self._remember)
            if name == "stop":
                self._producer.flush(timeout=_DELIVERY_SECONDS)
            failure, self._failure = self._failure, None
            if isinstance(failure, MessageSizeTooLargeError | RecordListTooLargeError | InvalidRecordError):
                raise RefusedDocumentError(f"the topic {self._topic!r} did not take a document: {failure}")
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
        run = doc["run_start"] if "run_start" in doc else self._run_of_descriptor.get(doc["descriptor"])
        if run is None:
            raise RefusedDocumentError(f"a document ({name}) came for a run that is not open in this sink")
        return str(run)

    def _remember(self, error: Exception) -> None:
        self._failure = error
