"""Whatever is submitted, drained, closed and broken, in whatever order: each frame one row, and counts add up."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Frame
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy, Worker

from .conftest import BYTES, PATIENCE, TALL, WIDE, Echo, frame, in_thread, index_of


class Moody(Echo):
    """Goes on only while the gate is open, runs out of memory, fails and loses its device, by the frames' indices."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.lost = False
        self.moved = False

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        assert self.gate.wait(PATIENCE)
        indices = [index_of(frame) for frame in frames]
        if any(index % 13 == 5 for index in indices) and len(frames) > 1:
            raise MemoryError
        if any(index % 11 == 7 for index in indices):
            raise FrameError("not this one")
        self.lost |= any(index % 17 == 16 for index in indices)
        if self.lost and not self.moved:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return super().annotate(frames)

    def fall_back(self) -> str:
        self.moved = True
        return "cpu"


class MoodyAhead(Moody):
    """The same, of prepared frames."""

    prepares_ahead = True

    def prepare(self, frame: Frame) -> Any:
        return frame

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        return self.annotate(prepared)


class WorkerMachine(RuleBasedStateMachine):
    """Frames have running numbers as their index; two geometries and two data keys take turns as drawn."""

    @initialize(
        kind=st.sampled_from([Moody, MoodyAhead]),
        batch_size=st.integers(1, 5),
        max_frames=st.integers(1, 8),
        max_bytes=st.integers(1, 6 * BYTES),
        max_wait=st.sampled_from([0.0, 0.001, 5.0]),
        policy=st.sampled_from(FullQueuePolicy),
    )
    def begin(self, kind, batch_size, max_frames, max_bytes, max_wait, policy):
        self.annotator = kind()
        self.metrics = Metrics()
        self.max_frames, self.max_bytes = max_frames, max_bytes
        self.worker = Worker(
            self.annotator,
            batch_size=batch_size,
            max_wait=max_wait,
            max_frames=max_frames,
            max_bytes=max_bytes,
            policy=policy,
            metrics=self.metrics,
        )
        self.policy = policy
        self.rows: list[Annotation] = []
        self.geometries: list[Any] = []
        self.blocked: list[threading.Thread] = []
        self.closed = False

    def next_frame(self, geometry, data_key):
        self.geometries.append(geometry)
        return frame(len(self.geometries) - 1, geometry, data_key=data_key)

    @rule(geometry=st.sampled_from([WIDE, TALL]), data_key=st.sampled_from("ab"), count=st.integers(1, 8))
    def submit_without_waiting(self, geometry, data_key, count):
        wait = False if self.policy is FullQueuePolicy.BLOCK else None
        for _ in range(count):
            self.worker.submit(self.next_frame(geometry, data_key), self.rows.append, wait=wait)

    @precondition(lambda self: len(self.blocked) < 3)
    @rule(geometry=st.sampled_from([WIDE, TALL]))
    def submit_and_wait(self, geometry):
        one = self.next_frame(geometry, "waits")
        self.blocked.append(in_thread(lambda: self.worker.submit(one, self.rows.append, wait=True)))

    @rule()
    def open_the_gate(self):
        self.annotator.gate.set()

    @rule()
    def shut_the_gate(self):
        self.annotator.gate.clear()

    @rule()
    def drain(self):
        submitted = len(self.geometries) if not self.blocked else 0
        self.annotator.gate.set()
        assert self.worker.drain(PATIENCE)
        assert len(self.rows) >= submitted

    @rule(timeout=st.sampled_from([0, PATIENCE]))
    def close(self, timeout):
        if timeout:
            self.annotator.gate.set()
        self.closed = True
        self.worker.close(timeout=timeout)
        for thread in self.blocked:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.blocked = []

    @invariant()
    def bounds_hold_and_counts_add_up(self):
        stats = self.worker.stats()
        assert stats.received == stats.annotated + stats.failed + stats.dropped + stats.queued_frames
        assert stats.received <= len(self.geometries)
        assert stats.queued_frames <= self.max_frames
        assert stats.queued_bytes == BYTES * stats.queued_frames
        assert stats.queued_bytes <= self.max_bytes or stats.queued_frames == 1
        assert stats.dropped == sum(stats.dropped_by_reason.values()) == sum(stats.dropped_by_source.values())
        assert stats.undelivered == 0

    @invariant()
    def no_row_comes_twice(self):
        rows = tuple(self.rows)
        assert max(Counter(row.origin.index for row in rows).values(), default=0) <= 1

    def teardown(self):
        if not hasattr(self, "worker"):
            return
        self.annotator.gate.set()
        for thread in self.blocked:
            thread.join(PATIENCE)
        self.worker.close()
        assert Counter(row.origin.index for row in self.rows) == Counter(range(len(self.geometries)))
        for geometry in (WIDE, TALL):
            # Rows from other threads, of frames dropped or left to closing, come when they come; so does the number
            # of a frame that had to wait for room.
            came = [
                row.origin.index
                for row in self.rows
                if row.status is not Status.DROPPED
                and "was closed" not in row.reason
                and row.origin.data_key != "waits"
                and self.geometries[row.origin.index] is geometry
            ]
            assert came == sorted(came)
        stats = self.worker.stats()
        assert stats.received == len(self.rows)
        assert stats.queued_frames == stats.queued_bytes == 0
        assert stats.annotated == sum(row.ok for row in self.rows)
        assert stats.dropped == sum(row.status is Status.DROPPED for row in self.rows)
        values = {name: metric["values"] for name, metric in self.metrics.snapshot().items()}
        for name, count in (
            ("dvfb_received_frames", stats.received),
            ("dvfb_annotated_frames", stats.annotated),
            ("dvfb_failed_frames", stats.failed),
            ("dvfb_queue_frames", 0),
            ("dvfb_queue_bytes", 0),
            ("dvfb_batch_halvings", stats.halvings),
            ("dvfb_device_fallbacks", stats.fallbacks),
        ):
            assert values[name][0]["value"] == count, name
        assert sum(value["value"] for value in values["dvfb_dropped_frames"]) == stats.dropped


TestWorkerMachine = WorkerMachine.TestCase
TestWorkerMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
