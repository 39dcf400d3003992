"""Asks the cluster on a connection of its own what it has: the truth beside what the consumer receives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.kafka.consumer import COMMIT_NOTE, KafkaError, TopicPartition, connection, milliseconds

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks; a look is one request."""
GROUPS_SECONDS = 300.0
"""Between two looks for other groups: a request for each group of the cluster."""
_ANSWER_SECONDS = 5.0
_MOST_GROUPS = 200
"""Groups that are looked at; a cluster of a whole facility may have thousands."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a cluster said last."""

    ok: bool
    """Whether it answered."""
    reason: str
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Offset behind the last message of each partition that was asked for."""


class ClusterWatch:
    """Looks at the cluster every few seconds, until closed.

    Parameters
    ----------
    settings
        The cluster, the topics, and our group.
    interval
        Seconds between two looks; the first comes after as many. None: `LOOK_SECONDS`.
    """

    def __init__(self, settings: KafkaSettings, *, interval: float | None = None) -> None:
        self._settings = settings
        self._interval = LOOK_SECONDS if interval is None else interval
        self._closed = threading.Event()
        self._wanted: Collection[TopicPartition] = ()
        self._seen = Seen(ok=True, reason="let us in")
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="dvfb-cluster-watch", daemon=True)
        self._thread.start()

    def want(self, partitions: Collection[TopicPartition]) -> None:
        """From now on ask for the ends of these partitions."""
        self._wanted = tuple(partitions)

    def seen(self) -> Seen:
        """Return what the cluster said last."""
        return self._seen

    def close(self) -> None:
        """Look no more. Does not wait for an answer that is under way."""
        self._closed.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        asking: Any = None
        next_groups = time.monotonic() + self._interval
        while not self._closed.wait(self._interval):
            try:
                if asking is None:
                    asking = KafkaConsumer(
                        **connection(self._settings)
                        | {"bootstrap_timeout_ms": milliseconds(_ANSWER_SECONDS)},
                        group_id=None,
                        client_id="dvfb-watch",
                        enable_auto_commit=False,
                        isolation_level="read_committed",
                        metrics_enabled=False,
                    )
                wanted = list(self._wanted)
                if wanted:
                    ends = asking.end_offsets(wanted, timeout_ms=milliseconds(_ANSWER_SECONDS))
                else:
                    asking.topics()
                    ends = {}
                self._seen = Seen(ok=True, reason="answers", ends=dict(ends))
                if time.monotonic() >= next_groups:
                    next_groups = time.monotonic() + GROUPS_SECONDS
                    self._look_for_groups()
            except Exception as error:  # noqa: BLE001 - KafkaError's family, and what the library did not foresee
                self._seen = Seen(
                    ok=False, reason=f"does not answer: {type(error).__name__}: {error}", ends=self._seen.ends
                )
                if asking is not None:
                    _close(asking)
                asking = None
        if asking is not None:
            _close(asking)

    def _look_for_groups(self) -> None:
        try:
            found = other_groups(self._settings)
        # What a broker does not tell, or not to us, is none of the daemon's business.
        except Exception as error:  # noqa: BLE001
            logger.debug("other groups cannot be looked for: %s", error)
            return
        for group, what in found.items():
            if group not in self._warned:
                self._warned.add(group)
                logger.warning(
                    "the group %r annotates %s as well (%s): each frame is annotated twice. If it is of another "
                    "model, that is as it should be; else stop one of them, or give both kafka.group = %r to share",
                    group,
                    ", ".join(self._settings.topics),
                    what,
                    self._settings.group,
                )


def other_groups(settings: KafkaSettings) -> dict[str, str]:
    """Return the other groups of daemons that read our topics now, and by what each is known.

    Raises
    ------
    Exception
        What kafka-python raises where the cluster does not tell.
    """
    admin = KafkaAdminClient(
        **connection(settings) | {"bootstrap_timeout_ms": milliseconds(_ANSWER_SECONDS)},
        client_id="dvfb-watch",
        request_timeout_ms=milliseconds(_ANSWER_SECONDS),
    )
    try:
        found = {}
        living = [
            group["group_id"]
            for group in admin.list_groups()
            if group["group_id"] != settings.group and group.get("group_state") not in ("Empty", "Dead")
        ]
        for group in living[:_MOST_GROUPS]:
            for partition, offset in admin.list_group_offsets({group: None}).get(group, {}).items():
                if partition.topic not in settings.topics or offset.offset < 0:
                    continue
                # Some brokers forget the note beside an offset: then the group's name has to tell.
                note = offset.metadata or ""
                if note.startswith(COMMIT_NOTE):
                    found[group] = note
                elif group.startswith("dvfb"):
                    found.setdefault(group, "by its name")
        return found
    finally:
        admin.close()


def _close(consumer: Any) -> None:
    with suppress(KafkaError, OSError):
        consumer.close(autocommit=False, timeout_ms=1000)
