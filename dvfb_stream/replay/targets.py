"""Where documents are published again: a Kafka topic, a Tiled catalog, or a RunEngine with live annotation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.errors import DvfbError

_MOST_ON_THE_WAY = 64 << 20
"""Bytes that were sent to Kafka and may not be acknowledged yet."""
_SECONDS_TO_ACKNOWLEDGE = 60.0


class ReplayError(DvfbError):
    """A place that does not take what is published again."""


Target = Callable[[str, dict[str, Any]], object]
"""Takes documents in their order."""


class KafkaTarget:
    """Publishes to a topic in the beamline's wire format; the documents of a run go to one partition, in order.

    Parameters
    ----------
    settings
        The cluster.
    topic
        The topic, which must exist.

    Raises
    ------
    BrokerError
        When no broker answers.
    ReplayError
        When the cluster does not let us in, or the topic does not exist.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        from kafka import KafkaProducer

        from dvfb_stream.daemon.settings import MAX_MESSAGE_BYTES
        from dvfb_stream.kafka.consumer import KafkaError, check_reachable, connection

        check_reachable(settings)
        self._topic = topic
        self._key = b""
        self._failure: Exception | None = None
        self._on_the_way: deque[tuple[Any, int]] = deque()
        """What was sent and may not be acknowledged yet, with its bytes."""
        try:
            self._producer = KafkaProducer(
                **connection(settings),
                acks="all",
                max_request_size=MAX_MESSAGE_BYTES + (1 << 20),
                metrics_enabled=False,
            )
            if not self._producer.partitions_for(topic):
                raise ReplayError(f"there is no topic {topic!r}; make it, or name another with --topic")
        except KafkaError as error:
            raise ReplayError(
                f"nothing can be published to {topic!r}: {type(error).__name__}: {error}"
            ) from error

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Publish one document.

        Raises
        ------
        ReplayError
            When it, or one before, was not taken.
        """
        from dvfb_stream.kafka.wire_encoding import encode

        if name == "start":
            self._key = str(doc["uid"]).encode()
        message = encode(name, doc)
        sent = self._producer.send(self._topic, key=self._key, value=message)
        sent.add_errback(self._remember)
        self._on_the_way.append((sent, len(message)))
        self._wait_for_room()
        if name == "stop":
            self._flush()
        self._raise()

    def close(self) -> None:
        """Wait until all is acknowledged.

        Raises
        ------
        ReplayError
            When something was not.
        """
        try:
            self._flush()
            self._raise()
        finally:
            self._producer.close(timeout=10)

    def _flush(self) -> None:
        from dvfb_stream.kafka.consumer import KafkaError

        # What was not acknowledged in time is told by its own error.
        with suppress(KafkaError):
            self._producer.flush(timeout=_SECONDS_TO_ACKNOWLEDGE)
        self._on_the_way.clear()

    def _wait_for_room(self) -> None:
        """Keep no more in memory than a few frames: a disk is faster than a broker."""
        from dvfb_stream.kafka.consumer import KafkaError

        while sum(size for _, size in self._on_the_way) > _MOST_ON_THE_WAY:
            with suppress(KafkaError):  # told by `_remember`
                self._on_the_way.popleft()[0].get(timeout=_SECONDS_TO_ACKNOWLEDGE)

    def _remember(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error

    def _raise(self) -> None:
        if self._failure is not None:
            raise ReplayError(
                f"the topic {self._topic!r} did not take a document: {type(self._failure).__name__}: "
                f"{self._failure}; frames need a larger max.message.bytes of the topic than Kafka's own, 1 MiB"
            )


class TiledTarget:
    """Writes into a container of a Tiled catalog, by TiledWriter, each event at once.

    Parameters
    ----------
    client
        Tiled client of the container.
    """

    def __init__(self, client: Any) -> None:
        from bluesky_tiled_plugins import TiledWriter

        self._writer = TiledWriter(client, batch_size=1)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Write one document.

        Raises
        ------
        ReplayError
            When Tiled did not take it.
        """
        try:
            self._writer(name, doc)
        except Exception as error:  # httpx's family, Tiled's, and what the writer makes of a document
            raise ReplayError(
                f"Tiled did not take a {name} document: {type(error).__name__}: "
                f"{(str(error).splitlines() or [''])[0]}; a run that is there already needs new uids"
            ) from error


class RunEngineTarget:
    """Emits documents as a RunEngine's own, to whatever is subscribed to it.

    Parameters
    ----------
    run_engine
        A RunEngine that is idle.
    """

    def __init__(self, run_engine: Any) -> None:
        from event_model import DocumentNames

        self._names = DocumentNames
        self._run_engine = run_engine

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Emit one document."""
        self._run_engine.dispatcher.process(self._names[name], doc)
