"""Reads a Kafka topic without a group: nothing is committed, and no daemon notices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.errors import SettingsError
from dvfb_stream.kafka.consumer import BrokerError, KafkaError, TopicPartition, check_reachable, connection
from dvfb_stream.kafka.wire_format import MessageError, decode

_POLL_MILLISECONDS = 200
_ANSWER_MILLISECONDS = 10_000


def read_topics(
    settings: KafkaSettings,
    take: Callable[[str, dict[str, Any]], object],
    *,
    start: str,
    stopping: threading.Event,
) -> int:
    """Give the documents of the cluster's topics to `take`, until stopped; return how many messages were none.

    Parameters
    ----------
    settings
        The cluster and its topics.
    take
        Called with each document.
    start
        ``earliest``: with all that the cluster keeps, or ``latest``: with new ones.
    stopping
        Ends it; `take` may set it.

    Raises
    ------
    BrokerError
        When the cluster does not answer, or refuses us.
    SettingsError
        When there is no such topic.
    """
    from kafka import KafkaConsumer

    check_reachable(settings)
    try:
        consumer = KafkaConsumer(
            **connection(settings),
            group_id=None,
            client_id="dvfb-record",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=16,
            max_partition_fetch_bytes=settings.max_message_bytes,
            metrics_enabled=False,
        )
        try:
            return _read(consumer, settings, take, start, stopping)
        finally:
            consumer.close(autocommit=False, timeout_ms=_POLL_MILLISECONDS)
    except KafkaError as error:
        raise BrokerError(f"the Kafka cluster refuses us: {type(error).__name__}: {error}") from error


def _read(
    consumer: Any,
    settings: KafkaSettings,
    take: Callable[[str, dict[str, Any]], object],
    start: str,
    stopping: threading.Event,
) -> int:
    partitions = []
    for topic in settings.topics:
        found = consumer.partitions_for_topic(topic)
        if not found:
            raise SettingsError(f"kafka.topics: there is no topic {topic!r} that this user may see")
        partitions += [TopicPartition(topic, number) for number in sorted(found)]
    consumer.assign(partitions)
    (consumer.seek_to_beginning if start == "earliest" else consumer.seek_to_end)(*partitions)
    for partition in partitions:  # now, not at the first poll: what comes from here on is wanted
        consumer.position(partition, timeout_ms=_ANSWER_MILLISECONDS)
    refused = 0
    while not stopping.is_set():
        for records in consumer.poll(timeout_ms=_POLL_MILLISECONDS).values():
            for record in records:
                try:
                    name, doc = decode(record.value, max_bytes=settings.max_message_bytes)
                except MessageError:
                    refused += 1
                    continue
                take(name, doc)
                if stopping.is_set():
                    return refused
    return refused
