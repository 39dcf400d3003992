"""The loop of the daemon: read, send on, and commit what is stored."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dvfb_stream.callbacks import GeometryProvider, Sink
from dvfb_stream.daemon.health import Health, Part
from dvfb_stream.daemon.progress import Stuck, done_so_far, drain_while_busy, has_work
from dvfb_stream.daemon.reading import reading_process
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.sinks import StorageError
from dvfb_stream.daemon.waiting import wait_for
from dvfb_stream.dead_letters.deaths import message_item, named
from dvfb_stream.dead_letters.folder import LetterFolder, folder_of_group
from dvfb_stream.dead_letters.in_hand import InHand
from dvfb_stream.dead_letters.letter import Kind
from dvfb_stream.dead_letters.post import DeadLetterPost
from dvfb_stream.errors import SettingsError
from dvfb_stream.frame_annotator import SupportsAnnotate, as_frame_annotator
from dvfb_stream.frames import Geometry
from dvfb_stream.kafka.consumer import (
    Assignment,
    BrokerAwayError,
    BrokerError,
    CommitFailedError,
    KafkaError,
    RebalanceInProgressError,
    RetriableError,
    TopicPartition,
    has_read_all,
    listed,
    milliseconds,
    offsets_to_commit,
    open_consumer,
    read_on_at,
)
from dvfb_stream.kafka.dead_letter_topic import DeadLetterTopic
from dvfb_stream.kafka.partition_pipeline import PartitionPipeline, SharedAnnotator
from dvfb_stream.kafka.partition_watch import ConsumerStalledError, GroupUnsettledError, PartitionWatch
from dvfb_stream.kafka.resuming import Journals
from dvfb_stream.kafka.stats import DaemonStats
from dvfb_stream.kafka.watched_annotator import WatchedAnnotator
from dvfb_stream.kafka.wire_format import MessageError, decode
from dvfb_stream.metrics import Metrics, catalogue

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""Longest wait in one poll: how late the loop notices that it should stop, or that a sink has failed."""
_COMMIT_SECONDS = 10.0
"""Longest wait for a commit. It is tried again, and nothing but a repetition is at stake."""
_LEAVE_SECONDS = 3.0
"""Longest wait for the group to let us go: without it, others wait for the session to time out."""
_REPORT_SECONDS = 60.0
"""Time between two lines in the log that say how much was done."""
_MEASURE_SECONDS = 1.0
"""Time between two looks at lag, offsets and what the pipelines do."""
_MOST_REOPENINGS = 3
"""Times in a row that a consumer which receives nothing is opened again, before the daemon gives up."""
_REFUSALS_LOGGED = 100
"""Refused messages that are logged one by one; a topic with something else in it would fill the disk."""


class Daemon:
    """Annotates the documents of a Kafka topic until it is told to stop.

    Nothing is committed before it is stored: a partition is committed up to the start document of its oldest
    run that is not stored. Killed at any moment and started again, it reads these runs again from their start;
    uids are functions of the raw data and the model, and the catalog leaves alone what it has. So the rows
    are the same, none missing, none twice.

    Parameters
    ----------
    settings
        The configuration.
    annotator
        Used by one thread at a time.
    detectors
        Geometry by data key; none: whatever looks like an image gets rows that say which geometry is missing.
    sinks_for_partition
        Returns new sinks for a partition that was assigned; called from the thread of `run`.
    metrics
        What all pipelines count and time is added to it. None: to one of its own.
    health
        Is told of the broker, the lag, and each turn of the loop. None: one of its own.
    store_trouble
        Returns why the store takes nothing at the moment; empty where it does.

    Raises
    ------
    SettingsError
        When the configuration has no ``kafka``.
    """

    def __init__(
        self,
        settings: DaemonSettings,
        annotator: SupportsAnnotate,
        *,
        detectors: Mapping[str, Geometry | GeometryProvider],
        sinks_for_partition: Callable[[], Sequence[Sink]],
        metrics: Metrics | None = None,
        health: Health | None = None,
        store_trouble: Callable[[], str] = str,
    ) -> None:
        if settings.kafka is None:
            raise SettingsError("the configuration has no [kafka]")
        self._settings = settings
        self._kafka = settings.kafka
        self._sinks_for_partition = sinks_for_partition
        self._detectors = detectors or None
        self._journals = Journals(
            self._kafka,
            model=annotator.identity,
            arrays=settings.arrays,
            detectors=None if self._detectors is None else self._detectors.keys(),
        )
        self._stopping = threading.Event()
        self.metrics = Metrics() if metrics is None else metrics
        """What all pipelines count and time."""
        letters = settings.dead_letters
        folder = letters.folder or folder_of_group(self._kafka.group, self._kafka.bootstrap_servers)
        self._letter_topic = None if letters.topic is None else DeadLetterTopic(self._kafka, letters.topic)
        self.dead_letters = DeadLetterPost(
            LetterFolder(folder, max_bytes=letters.max_bytes),
            publish=self._letter_topic,
            metrics=self.metrics,
        )
        """Where goes what cannot be processed."""
        self.in_hand = InHand(folder)
        """What this daemon works on, and what others had in hand when they died."""
        watched = WatchedAnnotator(as_frame_annotator(annotator), self.in_hand, self.dead_letters.post)
        self._annotator = SharedAnnotator(watched)
        self.health = health or Health(
            (Part.BROKER, Part.LAG), patience=settings.limits.stall_timeout, metrics=self.metrics
        )
        """How the daemon is."""
        self._pipelines: dict[TopicPartition, PartitionPipeline] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._messages = self._refused = self._abandoned = self._commits = self._failed_commits = 0
        self._closed: Counter[str] = Counter()
        """What the pipelines counted of partitions that were taken away."""
        self._next_commit = self._next_report = self._next_measure = 0.0
        self._store_trouble = store_trouble
        self._stuck = Stuck()
        self._watch = PartitionWatch(settings, settings.kafka, metrics=self.metrics, health=self.health)
        self._reopened = Counter[type[Exception]]()
        """Times in a row that the consumer was opened again, by what was wrong: since something was received, or
        the group was settled."""

    def stop(self) -> None:
        """Have `run` finish what it has in its hands, and return. For any thread, and for signal handlers."""
        self._stopping.set()

    def run(self) -> None:
        """Read until `stop` is called.

        Raises
        ------
        BrokerError
            When the cluster cannot be reached at the start, or refuses us for good.
        StorageError
            When a sink failed, or the pipeline did: what was not stored was not committed, and a daemon that is
            started again takes it up there.
        """
        self.in_hand.start()
        try:
            while not self._stopping.is_set():
                try:
                    self._read_until_stopped()
                except ConsumerStalledError as stalled:
                    self._reopen(stalled)
                except KafkaError as error:
                    # A broker that is being restarted refuses connections for a while; that is no refusal.
                    if self._stopping.is_set() or not error.retriable:
                        raise
                    self._reopen(error)
        except KafkaError as error:
            raise BrokerError(f"the Kafka cluster refuses us: {type(error).__name__}: {error}") from error
        finally:
            self._watch.close()
            self.in_hand.close()
            self.dead_letters.close()
            if self._letter_topic is not None:
                self._letter_topic.close()
            logger.info("%s", self.stats())

    def stats(self) -> DaemonStats:
        """Return what was done so far. For the thread of `run`, and for others once it is over."""
        counted = sum((_counted(pipeline) for pipeline in self._pipelines.values()), self._closed)
        return DaemonStats(
            messages=self._messages,
            refused=self._refused,
            rejected_documents=counted["rejected_documents"],
            repeated=counted["repeated"],
            abandoned_runs=self._abandoned,
            open_runs=sum(len(pipeline.offsets) for pipeline in self._pipelines.values()),
            stored_runs=counted["stored_runs"],
            dead_letters=self.dead_letters.sent,
            failed_dead_letters=self.dead_letters.failed,
            frames=counted["frames"],
            commits=self._commits,
            failed_commits=self._failed_commits,
        )

    def _read_until_stopped(self) -> None:
        kafka, limits = self._kafka, self._settings.limits
        consumer = wait_for(
            "Kafka",
            lambda: open_consumer(kafka),
            patience=limits.start_timeout,
            stopping=self._stopping,
            passes=BrokerAwayError,
            meanwhile=self._say_away,
        )
        if consumer is None:
            return
        self.health.say(Part.BROKER, ok=True, reason="let us in")
        self._watch.begin()
        assignment = Assignment(consumer, patience=kafka.session_timeout / 3, metrics=self.metrics)
        logger.info("reading %s as group %r", ", ".join(kafka.topics), kafka.group)
        try:
            consumer.subscribe(topics=list(kafka.topics), listener=assignment)
            while not self._stopping.is_set():
                self._step(consumer, assignment)
            self._drain()
            self.dead_letters.wait(_COMMIT_SECONDS)
            self._commit(consumer)
            self._write_down()
        finally:
            for partition in list(self._pipelines):
                self._close(partition)
            # Tells the group that we leave, so that others need not wait for the session to time out.
            consumer.close(autocommit=False, timeout_ms=milliseconds(_LEAVE_SECONDS))

    def _say_away(self, error: Exception) -> None:
        self.health.say(Part.BROKER, ok=False, reason=str(error))
        self.health.turn()

    def _reopen(self, reason: ConsumerStalledError | KafkaError) -> None:
        self._reopened[type(reason)] += 1
        if self._reopened.total() > _MOST_REOPENINGS:
            raise BrokerError(
                f"{reason}; opened again {_MOST_REOPENINGS} times, it received nothing either: look at the brokers "
                "and the network, and start the daemon again"
            ) from reason
        logger.error("%s; opening the consumer again", reason)
        self.metrics.add(catalogue.REOPENINGS)

    def _step(self, consumer: Any, assignment: Assignment) -> None:
        self.health.turn()
        self.in_hand.beat()
        self._follow(consumer, assignment)
        self._pause(consumer)
        for partition, records in consumer.poll(timeout_ms=milliseconds(_POLL_SECONDS)).items():
            # Without a pipeline: assigned while we polled and still paused, so these were read under an ownership
            # before, and will be read again.
            if (pipeline := self._pipelines.get(partition)) is not None:
                for record in records:
                    self._read(partition, pipeline, record)
                self._watch.received(partition, records[-1].offset)
                self._reopened.clear()
        self._raise_failures()
        self._abandon_silent(consumer)
        now = time.monotonic()
        if now >= self._next_measure:
            self._measure(consumer, now)
            self._next_measure = now + _MEASURE_SECONDS
        if now >= self._next_commit:
            self._commit(consumer)
            self._write_down()
            self._next_commit = now + self._kafka.commit_interval
        if now >= self._next_report:
            logger.info("%s", self.stats())
            self._next_report = now + _REPORT_SECONDS

    def _follow(self, consumer: Any, assignment: Assignment) -> None:
        """Open and close pipelines as partitions come and go; between two polls, so that no record is in hand."""
        owned = assignment.owned()
        for partition, pipeline in list(self._pipelines.items()):
            if owned.get(partition) is not pipeline.offsets:
                self._close(partition)
        new = owned.keys() - self._pipelines.keys()
        if new:
            # Whoever had them may have died of what is in them.
            self.in_hand.look()
        for partition, offsets in owned.items():
            if partition in new:
                sinks = self._sinks_for_partition()
                resumption = self._journals.take_up(consumer, partition, sinks=sinks, offsets=offsets)
                if resumption.position is not None:
                    read_on_at(consumer, partition, resumption.position)
                self._pipelines[partition] = PartitionPipeline(
                    self._annotator,
                    sinks=sinks,
                    detectors=self._detectors,
                    root_map=self._settings.root_map,
                    open_files=partial(reading_process, self._settings, metrics=self.metrics),
                    metrics=self.metrics,
                    arrays=self._settings.arrays,
                    offsets=offsets,
                    limits=self._settings.limits,
                    in_hand=self.in_hand,
                    post=self.dead_letters.post,
                    topic=partition.topic,
                    partition=partition.partition,
                    resumption=resumption,
                )

    def _pause(self, consumer: Any) -> None:
        """Fetch from partitions whose pipeline has room, and from no other; heartbeats and polls go on."""
        paused = consumer.paused()
        for partition, pipeline in self._pipelines.items():
            if pipeline.offsets.ended:
                continue
            if pipeline.is_full and partition not in paused:
                consumer.pause(partition)
            elif partition in paused and not pipeline.is_full:
                consumer.resume(partition)

    def _read(self, partition: TopicPartition, pipeline: PartitionPipeline, record: Any) -> None:
        self._messages += 1
        item = message_item(record.topic, record.partition, record.offset)
        suspicion = self.in_hand.suspicion(item)
        if suspicion is not None and suspicion.convicts:
            facts = _facts(partition, offset=record.offset)
            logger.error("skipping %s, which is a dead letter: %s", named(item), suspicion, extra=facts)
            pipeline.refuse(record, Kind.KILLER, str(suspicion))
            return
        with self.in_hand.holding([item], blamed=True):
            try:
                name, doc = decode(record.value, max_bytes=self._kafka.max_message_bytes)
            except MessageError as error:
                self._refuse(partition, pipeline, record, error)
                return
        pipeline.put(record, name, doc)

    def _refuse(
        self, partition: TopicPartition, pipeline: PartitionPipeline, record: Any, error: MessageError
    ) -> None:
        pipeline.refuse(record, Kind.UNDECODABLE, str(error))
        self._refused += 1
        if self._refused <= _REFUSALS_LOGGED:
            logger.warning(
                "skipping %s offset %d: %s",
                listed([partition]),
                record.offset,
                error,
                extra=_facts(partition, offset=record.offset),
            )
        if self._refused == _REFUSALS_LOGGED:
            logger.warning("further messages that cannot be decoded are only counted")

    def _raise_failures(self) -> None:
        for partition, pipeline in self._pipelines.items():
            if pipeline.failure is not None:
                raise StorageError(
                    f"rows of {listed([partition])} could not be stored: {type(pipeline.failure).__name__}: "
                    f"{(str(pipeline.failure).splitlines() or [''])[0]}; nothing after them was committed: "
                    "start the daemon again when this is cured, and it goes on where it was"
                ) from pipeline.failure

    def _abandon_silent(self, consumer: Any) -> None:
        limit = self._settings.limits.max_open_run_age
        for partition, pipeline in self._pipelines.items():
            if pipeline.offsets.ended:
                continue
            for uid in pipeline.offsets.abandon_silent(limit, caught_up=has_read_all(consumer, partition)):
                self._abandoned += 1
                pipeline.give_up(uid)
                logger.error(
                    "giving up run %s of %s: it was silent for too long (limits.max_open_run_age is %g s), and is "
                    "not stored; its analysis run has no stop",
                    uid,
                    listed([partition]),
                    limit,
                    extra=_facts(partition, run=uid),
                )

    def _commit(self, consumer: Any) -> None:
        ends = {partition: pipeline.offsets.committable() for partition, pipeline in self._pipelines.items()}
        offsets = {
            partition: offset
            for partition, offset in ends.items()
            if offset is not None
            and not self._pipelines[partition].offsets.ended
            and self._committed.get(partition) != offset
        }
        if not offsets:
            return
        try:
            consumer.commit(offsets_to_commit(offsets), timeout_ms=milliseconds(_COMMIT_SECONDS))
        except (CommitFailedError, RebalanceInProgressError, RetriableError) as error:
            # Partitions are changing hands, or the cluster is busy: later, or somebody else reads again.
            self._failed_commits += 1
            logger.warning("a commit of %s failed: %s", listed(offsets), error)
        else:
            self._commits += 1
            self._committed.update(offsets)
            self._forget_suspects(offsets)

    def _measure(self, consumer: Any, now: float) -> None:
        """Bring the metrics up to date, and look for what is stuck."""
        self.stats().tell(self.metrics)
        living = {p: pipeline for p, pipeline in self._pipelines.items() if not pipeline.offsets.ended}
        full = [partition for partition, pipeline in living.items() if pipeline.is_full]
        self._watch.look(consumer, living, paused=full, committed=self._committed, now=now)
        if self._watch.is_settled:
            del self._reopened[GroupUnsettledError]
        if self._store_trouble():  # what waits for room in the spool is not stuck
            return
        for partition, pipeline in living.items():
            done = pipeline.stats()
            works = pipeline.is_busy or has_work(done)
            seconds = self._stuck.seconds(partition, done_so_far(done), now, works=works)
            if seconds >= self._settings.limits.stall_timeout:
                raise StorageError(
                    f"nothing was done of {listed([partition])} for {seconds:.0f} s (limits.stall_timeout), though "
                    f"there is work: {done.reader.waiting} frames to read, {done.worker.queued_frames} to annotate; "
                    "start the daemon again, it goes on from what is stored"
                )

    def _forget_suspects(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Hold no death against messages that are committed: they are done with."""
        for item in self.in_hand.suspects:
            match item:
                case ("message", topic, int(number), int(offset)):
                    if offset < offsets.get(TopicPartition(topic, number), 0):
                        self.in_hand.clear(item)

    def _write_down(self) -> None:
        """Have the journals survive a power failure: what they count may be skipped by whoever goes on."""
        for partition, pipeline in self._pipelines.items():
            if not pipeline.offsets.ended:
                pipeline.write_down(self._committed.get(partition))

    def _drain(self) -> None:
        deadline = time.monotonic() + self._settings.limits.drain_timeout
        logger.info("stopping: finishing what is in hand")
        for partition, pipeline in self._pipelines.items():
            is_done = drain_while_busy(
                pipeline.drain,
                partial(_done_of, pipeline),
                timeout=max(0.0, deadline - time.monotonic()),
                meanwhile=self.health.turn,
            )
            if not is_done and pipeline.failure is None:
                logger.warning(
                    "%s was not finished in time; its open runs will be read again", listed([partition])
                )
        self._raise_failures()

    def _close(self, partition: TopicPartition) -> None:
        pipeline = self._pipelines.pop(partition)
        self._committed.pop(partition, None)
        self._stuck.forget(partition)
        self._watch.forget(partition)
        pipeline.close(timeout=0.0)
        self._closed += _counted(pipeline)


def _counted(pipeline: PartitionPipeline) -> Counter[str]:
    stats = pipeline.stats()
    names = ("frames", "stored_runs", "rejected_documents", "repeated")
    return Counter({name: getattr(stats, name) for name in names})


def _done_of(pipeline: PartitionPipeline) -> tuple[int, ...]:
    return done_so_far(pipeline.stats(), with_retries=False)


def _facts(partition: TopicPartition, **more: str | int) -> dict[str, str | int]:
    return {"topic": partition.topic, "partition": partition.partition, **more}
