"""The loop of the daemon: read, send on, and commit what is stored."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvfb_stream.callbacks import GeometryProvider, Sink
from dvfb_stream.frames import Geometry
from dvfb_stream.kafka.consumer import (
    Assignment,
    BrokerError,
    CommitFailedError,
    KafkaError,
    RebalanceInProgressError,
    RetriableError,
    TopicPartition,
    listed,
    milliseconds,
    offsets_to_commit,
    open_consumer,
)
from dvfb_stream.kafka.partition_offsets import Verdict
from dvfb_stream.kafka.partition_pipeline import PartitionPipeline, SharedAnnotator
from dvfb_stream.kafka.settings import DaemonSettings
from dvfb_stream.kafka.sinks import StorageError
from dvfb_stream.kafka.wire_format import MessageError, decode
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import SupportsAnnotate

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""Longest wait in one poll: how late the loop notices that it should stop, or that a sink has failed."""
_COMMIT_SECONDS = 10.0
"""Longest wait for a commit. It is tried again, and nothing but a repetition is at stake."""
_REPORT_SECONDS = 60.0
"""Time between two lines in the log that say how much was done."""
_REFUSALS_LOGGED = 100
"""Refused messages that are logged one by one; a topic with something else in it would fill the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStats:
    """What a daemon did since it started."""

    messages: int
    """Kafka records read."""
    refused: int
    """Messages among them that could not be decoded; skipped."""
    unknown_run: int
    """Documents whose run's start was not read, or whose run was stored or given up before; skipped."""
    no_run: int
    """Documents that do not say which run they belong to; skipped."""
    repeated_starts: int
    """Second start documents of open runs; skipped."""
    given_up_runs: int
    """Runs let go because they were silent for `max_open_run_age` without being stored."""
    open_runs: int
    """Runs begun and not stored; a restart reads on at the oldest one's start."""
    stored_runs: int
    """Runs that all sinks have accepted."""
    frames: int
    """Frames found in documents."""
    commits: int
    """Commits that the cluster took."""
    failed_commits: int
    """Commits that it did not; what they said is committed later, or read again."""

    def __str__(self) -> str:
        return (
            f"{self.messages} messages, {self.frames} frames, {self.stored_runs} runs stored, {self.open_runs} open; "
            f"skipped: {self.refused} undecodable, {self.unknown_run} of unknown runs, {self.no_run} of no run, "
            f"{self.repeated_starts} repeated starts; {self.given_up_runs} runs given up; "
            f"{self.commits} commits, {self.failed_commits} failed"
        )


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
    """

    def __init__(
        self,
        settings: DaemonSettings,
        annotator: SupportsAnnotate,
        *,
        detectors: Mapping[str, Geometry | GeometryProvider],
        sinks_for_partition: Callable[[], Sequence[Sink]],
    ) -> None:
        self._settings = settings
        self._annotator = SharedAnnotator(annotator)
        self._sinks_for_lane = sinks_for_partition
        self._detectors = detectors or None
        self._stopping = threading.Event()
        self.metrics = Metrics()
        """What all lanes count and time."""
        self._lanes: dict[TopicPartition, PartitionPipeline] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._verdicts = dict.fromkeys(Verdict, 0)
        self._messages = self._refused = self._given_up = self._commits = self._failed_commits = 0
        self._closed_frames = self._closed_runs = 0
        self._next_commit = self._next_report = 0.0

    def stop(self) -> None:
        """Have `run` finish what it has in its hands, and return. For any thread, and for signal handlers."""
        self._stopping.set()

    def run(self) -> None:
        """Read until `stop` is called.

        Raises
        ------
        BrokerError
            When the cluster cannot be reached at the start, or refuses us.
        StorageError
            When a sink failed, or the pipeline did: what was not stored was not committed, and a daemon that is
            started again takes it up there.
        """
        kafka = self._settings.kafka
        consumer = open_consumer(kafka)
        assignment = Assignment(consumer, patience=kafka.session_timeout / 3)
        logger.info("reading %s as group %r", ", ".join(kafka.topics), kafka.group)
        try:
            consumer.subscribe(topics=list(kafka.topics), listener=assignment)
            while not self._stopping.is_set():
                self._step(consumer, assignment)
            self._drain()
            self._commit(consumer)
        except KafkaError as error:
            raise BrokerError(f"the Kafka cluster refuses us: {type(error).__name__}: {error}") from error
        finally:
            for partition in list(self._lanes):
                self._close(partition)
            # Tells the group that we leave, so that others need not wait for the session to time out.
            consumer.close(autocommit=False, timeout_ms=milliseconds(_COMMIT_SECONDS))
            logger.info("%s", self.stats())

    def stats(self) -> DaemonStats:
        """Return what was done so far. For the thread of `run`, and for others once it is over."""
        lanes = [lane.stats() for lane in self._lanes.values()]
        return DaemonStats(
            messages=self._messages,
            refused=self._refused,
            unknown_run=self._verdicts[Verdict.UNKNOWN_RUN],
            no_run=self._verdicts[Verdict.NO_RUN],
            repeated_starts=self._verdicts[Verdict.REPEATED_START],
            given_up_runs=self._given_up,
            open_runs=sum(len(lane.runs) for lane in self._lanes.values()),
            stored_runs=self._closed_runs + sum(stats.stored_runs for stats in lanes),
            frames=self._closed_frames + sum(stats.frames for stats in lanes),
            commits=self._commits,
            failed_commits=self._failed_commits,
        )

    def _step(self, consumer: Any, assignment: Assignment) -> None:
        self._follow(assignment)
        self._pause(consumer)
        for partition, records in consumer.poll(timeout_ms=milliseconds(_POLL_SECONDS)).items():
            # Without a lane: assigned while we polled and still paused, so these were read under an ownership
            # before, and will be read again.
            if (lane := self._lanes.get(partition)) is not None:
                for record in records:
                    self._read(partition, lane, record)
        self._raise_failures()
        self._give_up()
        now = time.monotonic()
        if now >= self._next_commit:
            self._commit(consumer)
            self._next_commit = now + self._settings.kafka.commit_interval
        if now >= self._next_report:
            logger.info("%s", self.stats())
            self._next_report = now + _REPORT_SECONDS

    def _follow(self, assignment: Assignment) -> None:
        """Open and close lanes as partitions come and go; between two polls, so that no record is in hand."""
        owned = assignment.owned()
        for partition, lane in list(self._lanes.items()):
            if owned.get(partition) is not lane.runs:
                self._close(partition)
        for partition, runs in owned.items():
            if partition not in self._lanes:
                self._lanes[partition] = PartitionPipeline(
                    self._annotator,
                    sinks=self._sinks_for_lane(),
                    detectors=self._detectors,
                    root_map=self._settings.root_map,
                    metrics=self.metrics,
                    runs=runs,
                    limits=self._settings.limits,
                )

    def _pause(self, consumer: Any) -> None:
        """Fetch from partitions whose lane has room, and from no other; heartbeats and polls go on."""
        paused = consumer.paused()
        for partition, lane in self._lanes.items():
            if lane.runs.ended:
                continue
            if lane.is_full and partition not in paused:
                consumer.pause(partition)
            elif partition in paused and not lane.is_full:
                consumer.resume(partition)

    def _read(self, partition: TopicPartition, lane: PartitionPipeline, record: Any) -> None:
        self._messages += 1
        try:
            name, doc = decode(record.value, max_bytes=self._settings.kafka.max_message_bytes)
        except MessageError as error:
            lane.runs.skip(record.offset)
            self._refused += 1
            if self._refused <= _REFUSALS_LOGGED:
                logger.warning("skipping %s offset %d: %s", listed([partition]), record.offset, error)
            if self._refused == _REFUSALS_LOGGED:
                logger.warning("further messages that cannot be decoded are only counted")
            return
        verdict = lane.put(record.offset, name, doc, size=len(record.value))
        self._verdicts[verdict] += 1
        if verdict not in (Verdict.FEED, Verdict.NOT_OURS) and self._verdicts[verdict] == 1:
            logger.warning(
                "skipping %s offset %d, a %s document: %s; further ones are only counted",
                listed([partition]),
                record.offset,
                name,
                _WHY[verdict],
            )

    def _raise_failures(self) -> None:
        for partition, lane in self._lanes.items():
            if lane.failure is not None:
                raise StorageError(
                    f"rows of {listed([partition])} could not be stored: {type(lane.failure).__name__}: "
                    f"{(str(lane.failure).splitlines() or [''])[0]}; nothing after them was committed: "
                    "start the daemon again when this is cured, and it goes on where it was"
                ) from lane.failure

    def _give_up(self) -> None:
        limit = self._settings.limits.max_open_run_age
        for partition, lane in self._lanes.items():
            for uid in lane.runs.give_up(limit):
                self._given_up += 1
                logger.error(
                    "giving up run %s of %s: no document for %g s, and not stored; its analysis run has no stop",
                    uid,
                    listed([partition]),
                    limit,
                )

    def _commit(self, consumer: Any) -> None:
        ends = {partition: lane.runs.committable() for partition, lane in self._lanes.items()}
        offsets = {
            partition: offset
            for partition, offset in ends.items()
            if offset is not None
            and not self._lanes[partition].runs.ended
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

    def _drain(self) -> None:
        deadline = time.monotonic() + self._settings.limits.drain_timeout
        logger.info("stopping: finishing what is in hand")
        for partition, lane in self._lanes.items():
            if not lane.drain(max(0.0, deadline - time.monotonic())) and lane.failure is None:
                logger.warning(
                    "%s was not finished in time; its open runs will be read again", listed([partition])
                )
        self._raise_failures()

    def _close(self, partition: TopicPartition) -> None:
        lane = self._lanes.pop(partition)
        self._committed.pop(partition, None)
        lane.close(timeout=0.0)
        stats = lane.stats()
        self._closed_frames += stats.frames
        self._closed_runs += stats.stored_runs


_WHY = {
    Verdict.REPEATED_START: "its run is open already",
    Verdict.UNKNOWN_RUN: "the start of its run was not read, or the run was finished or given up before",
    Verdict.NO_RUN: "it does not say which run it belongs to",
}
