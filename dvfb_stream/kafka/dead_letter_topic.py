"""Dead letters in a Kafka topic: the bytes are the record's value, as they were, the facts a header beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.dead_letters.letter import DeadLetter, LetterError, letter_of
from dvfb_stream.errors import MissingExtraError
from dvfb_stream.kafka.consumer import BrokerError, KafkaError, TopicPartition, connection, milliseconds

try:
    from kafka import KafkaConsumer, KafkaProducer
except ImportError as missing:
    raise MissingExtraError("kafka-python", "kafka") from missing

logger = logging.getLogger(__name__)

HEADER = "dvfb-dead-letter"
"""Name of the header with the facts of the letter, as `DeadLetter.facts` writes them."""

_REQUEST_SECONDS = 10.0
"""For the brokers to acknowledge a letter; after that it goes into the folder."""
_ROOM_FOR_FACTS = 1 << 20
"""Bytes of a record beside its value."""


class DeadLetterTopic:
    """Publishes dead letters; connects when the first is to be sent.

    Parameters
    ----------
    settings
        The cluster.
    topic
        It must exist unless the cluster makes topics by itself, and should take messages as long as those that are
        read: ``max.message.bytes``.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Any = None

    def __call__(self, letters: Sequence[DeadLetter]) -> list[bool]:
        """Publish letters; return which of them the brokers have.

        Raises
        ------
        KafkaError
            When the cluster does not answer.
        """
        if self._producer is None:
            self._producer = KafkaProducer(
                **connection(self._settings),
                acks="all",
                max_request_size=self._settings.max_message_bytes + _ROOM_FOR_FACTS,
                max_block_ms=milliseconds(_REQUEST_SECONDS),
                request_timeout_ms=milliseconds(_REQUEST_SECONDS),
                delivery_timeout_ms=milliseconds(2 * _REQUEST_SECONDS),
                metrics_enabled=False,
            )
        sent = [self._send(letter) for letter in letters]
        return [future is not None and _arrives(future) for future in sent]

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close(timeout=_REQUEST_SECONDS)

    def _send(self, letter: DeadLetter) -> Any:
        try:
            return self._producer.send(
                self._topic,
                key=letter.key,
                value=letter.value,
                headers=[(HEADER, letter.facts().encode())],
            )
        except KafkaError as error:  # too large for what the producer takes, or no such topic
            logger.info("the dead letter of %s is not for the topic: %s", letter.origin, error)
            return None


def _arrives(future: Any) -> bool:
    try:
        future.get(timeout=3 * _REQUEST_SECONDS)
    except KafkaError as error:
        logger.info("a dead letter did not reach the topic: %s", error)
        return False
    return True


def publish_again(settings: KafkaSettings, letter: DeadLetter) -> int:
    """Publish the message of a letter where it came from, with its key, and return its offset.

    Raises
    ------
    BrokerError
        When the cluster does not take it.
    """
    try:
        producer = KafkaProducer(
            **connection(settings),
            acks="all",
            max_request_size=settings.max_message_bytes + _ROOM_FOR_FACTS,
            metrics_enabled=False,
        )
        try:
            sent = producer.send(letter.topic, key=letter.key, value=letter.value, partition=letter.partition)
            return int(sent.get(timeout=3 * _REQUEST_SECONDS).offset)
        finally:
            producer.close(timeout=_REQUEST_SECONDS)
    except (KafkaError, AssertionError) as error:
        raise BrokerError(f"{letter.topic}[{letter.partition}] takes no message: {error}") from error


def letters_in_topic(settings: KafkaSettings, topic: str) -> Iterator[DeadLetter]:
    """Yield the letters of a topic, with their bytes, as they lie there; records that are no letters are passed over.

    Raises
    ------
    BrokerError
        When the cluster does not answer, or there is no such topic.
    """
    try:
        consumer = KafkaConsumer(
            **connection(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=16 << 20,
            fetch_max_wait_ms=100,
            metrics_enabled=False,
        )
    except KafkaError as error:
        raise BrokerError(
            f"no Kafka broker answers at {', '.join(settings.bootstrap_servers)}: {error}"
        ) from error
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"there is no topic {topic!r} for dead letters; see dead_letters.topic")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        # Some brokers give the end of the last batch too low; what comes with the records is right.
        while any(
            consumer.position(each) < max(ends[each], consumer.highwater(each) or 0) for each in partitions
        ):
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    if (letter := _letter_in(record)) is not None:
                        yield letter
    except KafkaError as error:
        raise BrokerError(f"the topic {topic!r} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        consumer.close(autocommit=False)


def _letter_in(record: Any) -> DeadLetter | None:
    facts = dict(record.headers or ()).get(HEADER)
    if facts is None:
        return None
    try:
        return letter_of(facts, record.value or b"")
    except LetterError:
        return None
