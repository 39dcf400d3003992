"""How far each partition is read, whether what the cluster has of it arrives, and whether the group is settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from dvfb_stream.daemon.health import Health, Part
from dvfb_stream.daemon.progress import Stuck
from dvfb_stream.daemon.settings import DaemonSettings, KafkaSettings
from dvfb_stream.errors import DvfbError
from dvfb_stream.kafka.cluster_watch import ClusterWatch
from dvfb_stream.kafka.consumer import KafkaError, TopicPartition, has_joined, listed
from dvfb_stream.metrics import Metrics, catalogue

_POSITION_MILLISECONDS = 200
"""That asking where a partition begins may take: once, before its first message."""

Key = TypeVar("Key")


class ConsumerStalledError(DvfbError):
    """The cluster has messages of ours, we ask for them, and none comes."""


class GroupUnsettledError(ConsumerStalledError):
    """The group divides its partitions for longer than that can take, and we have none."""


class Receiving:
    """When each partition was last seen to go on, or to have nothing to go on to.

    kafka-python 3.0.7 and 3.0.8 stopped fetching without a word; whatever does so again is noticed here. The clock is
    given.

    Parameters
    ----------
    patience
        Seconds that a partition may have messages, be asked for them, and give none.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._seen: dict[object, tuple[int | None, float]] = {}

    def stalled(
        self,
        now: float,
        *,
        read: Mapping[Key, int | None],
        ends: Mapping[Key, int],
        paused: Iterable[Key],
    ) -> list[Key]:
        """Return the partitions that have stalled.

        Parameters
        ----------
        now
            Seconds, on a clock that does not go back.
        read
            Offset at which each partition that is ours is read on; None where nobody knows.
        ends
            Offset behind the last message that the cluster has of it.
        paused
            Those that we do not ask for.
        """
        waited_with = set(paused)
        self._seen = {key: seen for key, seen in self._seen.items() if key in read}
        found = []
        for key, offset in read.items():
            before, since = self._seen.get(key, (None, now))
            goes_on = key not in self._seen or offset != before
            # Of one whose position nobody knows, whatever the cluster has is ahead.
            has_more = ends.get(key, 0) > (0 if offset is None else offset)
            if goes_on or key in waited_with or not has_more:
                since = now
            self._seen[key] = (offset, since)
            if now - since >= self.patience:
                found.append(key)
        return found


class PartitionWatch:
    """Keeps the metrics of partitions and what health knows of the broker and the lag; for the thread that polls.

    Parameters
    ----------
    settings
        The configuration, with its ``kafka``.
    kafka
        That.
    metrics, health
        Are told.
    """

    def __init__(
        self, settings: DaemonSettings, kafka: KafkaSettings, *, metrics: Metrics, health: Health
    ) -> None:
        self._kafka = kafka
        self._max_lag = settings.http.max_lag
        self._metrics = metrics
        self._health = health
        self._receiving = Receiving(settings.limits.stall_timeout)
        # So long a rebalance may take: it waits for each member to join again, one whose loop hangs is ended by its
        # guard, and missed by the group after its session.
        self._longest_rebalance = settings.limits.stall_timeout + kafka.session_timeout
        self._dividing = Stuck()
        self.is_settled = False
        """Whether, at the last look, partitions were ours, or the group had divided them and left us none."""
        self._cluster: ClusterWatch | None = None
        self._read: dict[TopicPartition, int] = {}

    def begin(self) -> None:
        """Take note that a consumer was opened: it has as long to get partitions as any."""
        self._dividing.forget("group")

    def received(self, partition: TopicPartition, offset: int) -> None:
        """Take note of the last record that a poll brought of a partition."""
        self._read[partition] = offset + 1

    def look(
        self,
        consumer: Any,
        owned: Collection[TopicPartition],
        *,
        paused: Iterable[TopicPartition],
        committed: Mapping[TopicPartition, int],
        now: float,
    ) -> None:
        """Compare what was read with what the cluster has.

        Parameters
        ----------
        consumer
            Whose partitions `owned` are.
        paused
            Partitions that we do not fetch from.
        committed
            Offsets that this daemon has committed.
        now
            Seconds, monotonic.

        Raises
        ------
        ConsumerStalledError
            When one has messages that do not come.
        GroupUnsettledError
            When none is ours, as the group does not come to an end.
        """
        if self._cluster is None:
            self._cluster = ClusterWatch(self._kafka)
        self._cluster.want(owned)
        seen = self._cluster.seen()
        self._health.say(Part.BROKER, ok=seen.ok, reason=seen.reason)
        for partition in owned:
            if partition not in self._read:
                self._ask_position(consumer, partition)
        read = {partition: self._read.get(partition) for partition in owned}
        lags: dict[TopicPartition, int] = {}
        for partition, offset in read.items():
            labels = (partition.topic, str(partition.partition))
            if offset is not None:
                lags[partition] = max(0, self._end(consumer, partition, seen.ends) - offset)
                self._metrics.set(catalogue.READ_OFFSET, offset, *labels)
                self._metrics.set(catalogue.LAG, lags[partition], *labels)
            if partition in committed:
                self._metrics.set(catalogue.COMMITTED_OFFSET, committed[partition], *labels)
        self._look_at_group(consumer, has_partitions=bool(owned), is_reached=seen.ok, now=now)
        if self.is_settled or not seen.ok:
            self._say_lag(lags)
        stalled = self._receiving.stalled(now, read=read, ends=seen.ends, paused=paused) if seen.ok else []
        if stalled:
            raise ConsumerStalledError(
                f"the cluster has {sum(lags.get(p, 0) for p in stalled)} messages of {listed(stalled)} that were not "
                f"received for {self._receiving.patience:g} s"
            )

    def forget(self, partition: TopicPartition) -> None:
        """Forget a partition that was taken away."""
        self._read.pop(partition, None)
        for metric in (catalogue.READ_OFFSET, catalogue.LAG, catalogue.COMMITTED_OFFSET):
            self._metrics.forget(metric, partition.topic, str(partition.partition))

    def close(self) -> None:
        """Look at the cluster no more."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _look_at_group(self, consumer: Any, *, has_partitions: bool, is_reached: bool, now: float) -> None:
        """Notice a group that divides its partitions without end. One too many is left none, and that is an end."""
        self.is_settled = has_partitions or has_joined(consumer)
        seconds = self._dividing.seconds("group", None, now, works=is_reached and not self.is_settled)
        if is_reached and not self.is_settled:
            reason = f"no partitions yet: the group divides them, for {seconds:.0f} s now"
            self._health.say(Part.LAG, ok=False, reason=reason)
        if seconds >= self._longest_rebalance:
            raise GroupUnsettledError(
                f"the group has divided its partitions for {seconds:.0f} s without an end, and none is this daemon's"
            )

    def _ask_position(self, consumer: Any, partition: TopicPartition) -> None:
        # One that is taken away meanwhile raises an IllegalStateError, which is no KafkaError of the public family.
        with suppress(KafkaError, AssertionError):
            position = consumer.position(partition, timeout_ms=_POSITION_MILLISECONDS)
            if position is not None:
                self._read[partition] = int(position)

    def _end(self, consumer: Any, partition: TopicPartition, ends: Mapping[TopicPartition, int]) -> int:
        with suppress(KafkaError, AssertionError):
            return max(ends.get(partition, 0), consumer.highwater(partition) or 0)
        return ends.get(partition, 0)

    def _say_lag(self, lags: Mapping[TopicPartition, int]) -> None:
        behind = [partition for partition, lag in lags.items() if lag > self._max_lag]
        if behind:
            worst = max(lags.values())
            reason = f"{worst} messages of {listed(behind)} wait, more than http.max_lag {self._max_lag}"
        else:
            reason = f"{sum(lags.values())} messages wait"
        self._health.say(Part.LAG, ok=not behind, reason=reason)
