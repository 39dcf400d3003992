"""Looks at the Kafka cluster that a configuration names: broker, topics, group; commits and publishes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from kafka.admin import KafkaAdminClient

from dvfb_stream.daemon.checks import Finding, fault, notice, ok
from dvfb_stream.daemon.settings import DaemonSettings, KafkaSettings
from dvfb_stream.errors import SettingsError
from dvfb_stream.kafka.cluster_watch import other_groups
from dvfb_stream.kafka.consumer import KafkaError, check_reachable, connection, milliseconds

_ANSWER_SECONDS = 10.0


def check_cluster(settings: DaemonSettings) -> Iterator[Finding]:
    """Look at broker, topics and group.

    Raises
    ------
    BrokerError
        When no broker answers.
    SettingsError
        When it does not let us in.
    """
    kafka = settings.kafka
    if kafka is None:
        raise SettingsError("the configuration has no [kafka]")
    check_reachable(kafka)
    try:
        admin = KafkaAdminClient(
            **connection(kafka) | {"bootstrap_timeout_ms": milliseconds(_ANSWER_SECONDS)},
            client_id="dvfb-check",
            request_timeout_ms=milliseconds(_ANSWER_SECONDS),
        )
    except KafkaError as error:
        raise SettingsError(
            f"a broker answers, and does not let us in ({type(error).__name__}: {error}); check "
            "kafka.security_protocol, kafka.sasl_* and DVFB_KAFKA_PASSWORD"
        ) from error
    try:
        brokers = admin.describe_cluster()["brokers"]
        yield ok("broker", ", ".join(f"{each['host']}:{each['port']}" for each in brokers))
        wanted = {
            "kafka.topics": kafka.topics,
            "sinks.topic": [settings.sinks.topic] if settings.sinks.topic else [],
            "dead_letters.topic": [settings.dead_letters.topic] if settings.dead_letters.topic else [],
        }
        for part, topics in wanted.items():
            for topic in topics:
                yield _topic(admin, part, topic)
        yield from _workers(admin, settings.workers.processes, kafka.topics)
        yield from _group(admin, kafka)
    finally:
        admin.close()


def _topic(admin: Any, part: str, topic: str) -> Finding:
    found = {each["name"]: each for each in admin.describe_topics([topic])}.get(topic, {"error_code": 3})
    if not found["error_code"]:
        count = len(found["partitions"])
        return ok(part, f"{topic}: {count} partition{'' if count == 1 else 's'}")
    known = [str(name) for name in admin.list_topics()]
    near = difflib.get_close_matches(topic, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {len(known)} others"
    return fault(part, f"there is no topic {topic!r} that this user may see{hint}")


def _workers(admin: Any, processes: int, topics: list[str]) -> Iterator[Finding]:
    partitions = sum(
        len(each["partitions"]) for each in admin.describe_topics(topics) if not each["error_code"]
    )
    if processes > partitions:
        yield notice("workers", f"{processes} processes for {partitions} partitions: the rest idles")
    elif processes > 1:
        yield ok("workers", f"{processes} processes for {partitions} partitions")


def _group(admin: Any, kafka: KafkaSettings) -> Iterator[Finding]:
    try:
        offsets = admin.list_group_offsets({kafka.group: None}).get(kafka.group, {})
    except KafkaError as error:
        yield fault(
            "kafka.group", f"{kafka.group}: {type(error).__name__}: {error}; may this user read with it?"
        )
        return
    ours = {p: each.offset for p, each in offsets.items() if p.topic in kafka.topics and each.offset >= 0}
    begins = f"is new, and begins with the {'oldest' if kafka.start == 'earliest' else 'newest'} documents"
    yield ok("kafka.group", f"{kafka.group} " + (f"goes on in {len(ours)} partitions" if ours else begins))
    try:
        others = other_groups(kafka)
    except Exception as error:  # noqa: BLE001 - a cluster need not tell us of groups
        yield notice(
            "kafka.group", f"whether other daemons read the same is not known ({type(error).__name__})"
        )
        return
    for group, note in others.items():
        yield notice(
            "kafka.group", f"{group} annotates these topics as well ({note}): is it of another model?"
        )
