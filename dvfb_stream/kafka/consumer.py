"""Opens the Kafka consumer with the settings that were found to work, and follows its rebalances."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from dvfb_stream import __version__
from dvfb_stream.daemon.settings import (
    KAFKA_PASSWORD_VARIABLE,
    MAX_MESSAGE_BYTES,
    KafkaSettings,
    secret,
)
from dvfb_stream.errors import DvfbError, MissingExtraError
from dvfb_stream.kafka.partition_offsets import PartitionOffsets
from dvfb_stream.kafka.reaching import why_unreachable
from dvfb_stream.metrics import Metrics, catalogue

try:
    from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError, RetriableError
    from kafka.structs import MemberState
except ImportError as missing:
    raise MissingExtraError("kafka-python", "kafka") from missing

__all__ = [
    "COMMIT_NOTE",
    "Assignment",
    "BrokerAwayError",
    "BrokerError",
    "CommitFailedError",
    "KafkaError",
    "RebalanceInProgressError",
    "RetriableError",
    "TopicPartition",
    "check_reachable",
    "connection",
    "has_joined",
    "has_read_all",
    "listed",
    "milliseconds",
    "offsets_to_commit",
    "open_consumer",
    "read_on_at",
]

logger = logging.getLogger(__name__)

COMMIT_NOTE = "dvfb "
"""How the note beside each committed offset begins: by it other daemons know that the group is one of daemons."""


class BrokerError(DvfbError):
    """The Kafka cluster cannot be reached, or does not let us."""


class BrokerAwayError(BrokerError):
    """No broker of the cluster answers, or none yet."""


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return kafka-python's settings for reaching the cluster, alike for consumers and producers."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "bootstrap_timeout_ms": milliseconds(settings.bootstrap_timeout),
        "security_protocol": settings.security_protocol,
    }
    if settings.ssl_cafile is not None:
        options["ssl_cafile"] = str(settings.ssl_cafile)
    if settings.sasl_mechanism is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = secret(KAFKA_PASSWORD_VARIABLE)
    return options


def open_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """Connect to the cluster; nothing is subscribed yet.

    Raises
    ------
    BrokerError
        When it refuses us, or is not what the settings say.
    BrokerAwayError
        When no broker answers in `bootstrap_timeout` seconds.
    """
    check_reachable(settings)
    # Each attempt to connect is logged as an error of its own; what they come to is raised below.
    library = logging.getLogger("kafka")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        return KafkaConsumer(
            **connection(settings),
            group_id=settings.group,
            client_id=f"dvfb-{socket.gethostname()}-{os.getpid()}",
            # What is stored decides what is committed, see PartitionOffsets.
            enable_auto_commit=False,
            auto_offset_reset=settings.start,
            isolation_level="read_committed",
            # A daemon that joins takes over some partitions; the others go on undisturbed.
            partition_assignment_strategy=(CooperativeStickyAssignor(),),
            session_timeout_ms=milliseconds(settings.session_timeout),
            heartbeat_interval_ms=milliseconds(settings.heartbeat_interval),
            max_poll_interval_ms=milliseconds(settings.max_poll_interval),
            # Sixteen frames of 4 MiB are 64 MiB: what one poll may bring beyond a queue that is nearly full.
            max_poll_records=16,
            max_partition_fetch_bytes=16 << 20,
            fetch_max_bytes=64 << 20,
            # The broker sends a message beyond these limits by itself. kafka-python would take the answer for
            # nonsense, and ask again for ever: what is too long is refused when it is here.
            receive_message_max_bytes=MAX_MESSAGE_BYTES + (64 << 20),
            fetch_max_wait_ms=100,
            # A topic that a beamline creates later is noticed in half a minute instead of five.
            metadata_max_age_ms=30_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
    except KafkaError as error:
        kind = BrokerAwayError if isinstance(error, RetriableError) else BrokerError
        raise kind(
            f"a Kafka broker answers at {', '.join(settings.bootstrap_servers)}, and does not let us in "
            f"({type(error).__name__}: {error}); check kafka.security_protocol, kafka.sasl_* and "
            f"{KAFKA_PASSWORD_VARIABLE}, and that brokers can be reached at the addresses that they advertise"
        ) from error
    finally:
        library.setLevel(level)


def check_reachable(settings: KafkaSettings) -> None:
    """Find a broker that answers; whether it lets us in is not asked.

    Raises
    ------
    BrokerError
        When what answers is not what the settings say.
    BrokerAwayError
        When none answers, and one may by itself.
    """
    if found := why_unreachable(settings):
        kind = BrokerAwayError if any(each.obstacle.passes for each in found) else BrokerError
        raise kind(f"no Kafka broker answers (kafka.bootstrap_servers): {'; '.join(map(str, found))}")


def milliseconds(seconds: float) -> int:
    """Return `seconds` as kafka-python wants them."""
    return round(seconds * 1000)


def offsets_to_commit(offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return `offsets` in kafka-python's types."""
    return {
        partition: OffsetAndMetadata(offset, f"{COMMIT_NOTE}{__version__}", -1)
        for partition, offset in offsets.items()
    }


def listed(partitions: Collection[TopicPartition]) -> str:
    """Return the names of partitions, for people."""
    return ", ".join(f"{p.topic}[{p.partition}]" for p in sorted(partitions)) or "nothing"


def has_read_all(consumer: KafkaConsumer, partition: TopicPartition) -> bool:
    """Return whether nothing that the broker told of is unread; False where it told nothing yet."""
    try:
        end = consumer.highwater(partition)
        return end is not None and consumer.position(partition, timeout_ms=0) >= end
    except (KafkaError, LookupError, TypeError, AssertionError):  # taken away this moment, or no position yet
        return False


def has_joined(consumer: KafkaConsumer) -> bool:
    """Return whether the group has divided its partitions, and told this member its share, which may be none."""
    return bool(consumer.group_metadata().state == MemberState.STABLE)


def read_on_at(consumer: KafkaConsumer, partition: TopicPartition, offset: int) -> None:
    """Read a partition from an offset on, unless it was taken away this moment."""
    with suppress(KafkaError, LookupError, AssertionError):
        consumer.seek(partition, offset)


class Assignment(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions that are ours now, each with its offsets; commits when one is revoked.

    kafka-python tells it of rebalances on its network thread, while the consumer's thread may be in the middle
    of a batch. So a partition begins paused: the consumer's thread resumes it between two batches, and no
    record of an earlier ownership can be taken for one of the new.

    Parameters
    ----------
    consumer
        The consumer that it is subscribed with.
    patience
        Seconds that a partition which is revoked is held for a write under way, so that its next owner finds
        the rows of it stored. Heartbeats pause meanwhile: it must be well below the session timeout.
    metrics
        Rebalances are counted there.
    """

    def __init__(self, consumer: KafkaConsumer, *, patience: float, metrics: Metrics | None = None) -> None:
        self._consumer = consumer
        self._patience = patience
        self._metrics = Metrics() if metrics is None else metrics
        self._lock = threading.Lock()
        self._owned: dict[TopicPartition, PartitionOffsets] = {}

    def owned(self) -> dict[TopicPartition, PartitionOffsets]:
        """Return the partitions that are ours now."""
        with self._lock:
            return dict(self._owned)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Own `assigned` from now on, paused."""
        logger.info("assigned: %s", listed(assigned))
        self._metrics.add(catalogue.REBALANCES, 1, "assigned")
        self._consumer.pause(*assigned)
        with self._lock:
            for partition in assigned:
                self._owned.setdefault(partition, PartitionOffsets())

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit what is stored of `revoked`; their open runs are the next owner's, from their start."""
        self._metrics.add(catalogue.REBALANCES, 1, "revoked")
        gone = self._take_away(revoked)
        offsets = {
            partition: offset for partition, theirs in gone.items() if (offset := theirs.end()) is not None
        }
        deadline = time.monotonic() + self._patience
        for partition, theirs in gone.items():
            if not theirs.settle(max(0.0, deadline - time.monotonic())):
                logger.warning(
                    "a write of %s outlasts its revocation: rows may be stored twice", listed([partition])
                )
        logger.info("revoked: %s", listed(revoked))
        if not offsets:
            return
        try:
            await self._consumer.commit_async(offsets_to_commit(offsets))
        except (CommitFailedError, RebalanceInProgressError) as error:
            logger.warning("the commit before giving up %s came too late: %s", listed(revoked), error)
        except KafkaError as error:
            logger.warning("the commit before giving up %s failed: %s", listed(revoked), error)

    async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Forget `lost`; they belong to somebody else already, so nothing may be committed for them."""
        self._metrics.add(catalogue.REBALANCES, 1, "lost")
        for theirs in self._take_away(lost).values():
            theirs.end()
        logger.warning("lost: %s; another daemon has them, or will", listed(lost))

    def _take_away(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, PartitionOffsets]:
        with self._lock:
            return {p: self._owned.pop(p) for p in partitions if p in self._owned}
