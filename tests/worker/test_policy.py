"""Who is let in when frames come too fast, and how it is counted."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.annotations import Status
from dvfb_stream.frames import Origin
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import DropReason, FullQueuePolicy, Source, Worker
from dvfb_stream.worker.policy import LONGEST_INTERVAL, SOURCES_REMEMBERED, Sampler, sampling_interval

from .conftest import PATIENCE, Echo, Gated, frame, in_thread

IMAGE = Source("run", "primary", "image")


@given(st.floats(0, 0.5))
def test_half_a_queue_absorbs_bursts_without_loss(fill):
    assert sampling_interval(fill) == 1


@given(st.floats(0, 2), st.floats(0, 2))
def test_the_interval_grows_with_the_fill_up_to_the_stated_most(one, other):
    shorter, longer = sorted((sampling_interval(one), sampling_interval(other)))
    assert (one <= other) == (sampling_interval(one) == shorter) or shorter == longer
    assert 1 <= shorter <= longer <= LONGEST_INTERVAL == sampling_interval(1.0)


@given(st.integers(1, LONGEST_INTERVAL), st.integers(1, 300))
def test_every_kth_frame_of_a_source_is_let_in_whatever_the_others_do(interval, frames):
    sampler, taken = Sampler(), {"a": [], "b": []}
    for index in range(frames):
        for key in taken:
            source = Source("run", "primary", key)
            if sampler.is_due(source, interval):
                sampler.let_in(source)
                taken[key].append(index)
            else:
                sampler.left_out(source)
    assert taken == {"a": list(range(0, frames, interval)), "b": list(range(0, frames, interval))}


def test_a_frame_that_was_due_and_found_no_room_stays_due():
    sampler = Sampler()
    sampler.left_out(IMAGE)
    assert sampler.is_due(IMAGE, LONGEST_INTERVAL)


def test_sources_are_those_of_the_origin():
    origin = Origin(run_uid="run", stream="primary", data_key="image", index=3)
    assert Source.of(origin) == IMAGE
    assert Source.of(None) is None


def test_what_is_annotated_under_overload_is_spread_evenly_over_the_scan(inbox):
    """A detector four times as fast as the annotator, in lockstep: a frame is annotated after every fourth."""

    class Lockstep(Echo):
        def __init__(self):
            super().__init__()
            self.turns, self.taken = threading.Semaphore(0), threading.Semaphore(0)

        def annotate(self, frames):
            assert self.turns.acquire(timeout=PATIENCE)
            self.taken.release()
            return super().annotate(frames)

    annotator, count, speed = Lockstep(), 800, 4
    annotated = []

    def keep(annotation):
        if annotation.ok:
            annotated.append(annotation.origin.index)

    with Worker(annotator, batch_size=1, max_frames=40, policy=FullQueuePolicy.SAMPLE) as worker:
        for index in range(count):
            worker.submit(frame(index), keep)
            if index % speed == 0:
                annotator.turns.release()
                assert annotator.taken.acquire(timeout=PATIENCE)
        stats = worker.stats()
        annotator.turns.release(count)
    assert stats.dropped_by_reason[DropReason.QUEUE_FULL] == 0
    assert stats.dropped_by_reason[DropReason.SAMPLED_OUT] == stats.dropped > 0
    # Evenly: each tenth of the scan after the first, which finds an empty queue, has its tenth of the rows.
    by_part = [sum(start <= index < start + 80 for index in annotated) for start in range(80, count, 80)]
    assert max(by_part) - min(by_part) <= 6
    gaps = [b - a for a, b in pairwise(annotated)]
    assert max(gaps) <= 2 * speed


def test_a_frame_that_was_sampled_out_says_so(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=1, max_frames=4, policy=FullQueuePolicy.SAMPLE) as worker:
        for index in range(7):
            worker.submit(frame(index), inbox)
        stats = worker.stats()
        annotator.gate.set()
    # Filled to 3/4, one in 8 is let in; the last came in at the half.
    assert inbox.indices[:4] == [3, 4, 5, 6]
    for annotation in inbox.annotations[:4]:
        assert annotation.status is Status.DROPPED
        assert annotation.reason == ("sampled out, one frame in 8 was let in while the queue was 75% full")
    assert stats.dropped_by_reason == {DropReason.QUEUE_FULL: 0, DropReason.SAMPLED_OUT: 4}
    assert stats.dropped_by_source == {IMAGE: 4}
    assert json.loads(json.dumps(stats.as_dict()))["dropped_by_source"] == {"run/primary/image": 4}


@pytest.mark.parametrize("policy", [FullQueuePolicy.DROP_NEWEST, FullQueuePolicy.SAMPLE])
def test_a_reader_may_wait_although_the_policy_drops(inbox, policy):
    annotator = Gated()
    with Worker(annotator, batch_size=1, max_frames=2, policy=policy) as worker:
        reader = in_thread(lambda: [worker.submit(frame(index), inbox, wait=True) for index in range(20)])
        assert annotator.reached.wait(PATIENCE)
        annotator.gate.set()
        reader.join(PATIENCE)
        assert worker.drain(PATIENCE)
        assert worker.stats().dropped == 0
    assert inbox.indices == list(range(20))


def test_a_scan_may_refuse_to_wait_although_the_policy_blocks(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=1, max_frames=2) as worker:
        for index in range(4):
            worker.submit(frame(index), inbox, wait=False)
        assert inbox.indices == [2, 3]
        assert all(annotation.status is Status.DROPPED for annotation in inbox.annotations)
        annotator.gate.set()


def test_drops_are_counted_by_source_and_the_oldest_sources_are_forgotten():
    annotator = Gated()
    with Worker(annotator, max_frames=1, policy=FullQueuePolicy.DROP_NEWEST) as worker:
        worker.submit(frame(0), lambda annotation: None)
        for number in range(SOURCES_REMEMBERED + 3):
            worker.submit(frame(0, data_key=str(number)), lambda annotation: None)
        stats = worker.stats()
        annotator.gate.set()
    assert stats.dropped == SOURCES_REMEMBERED + 3
    assert len(stats.dropped_by_source) == SOURCES_REMEMBERED
    assert Source("run", "primary", "2") not in stats.dropped_by_source
    with pytest.raises(TypeError):
        stats.dropped_by_source[None] = 1  # type: ignore[index]


def test_metrics_count_what_the_stats_count(inbox):
    metrics = Metrics()
    with Worker(Echo(), metrics=metrics) as one, Worker(Echo(), metrics=metrics) as other:
        for index in range(10):
            one.submit(frame(index), inbox)
            other.submit(frame(index), inbox)
    found = {name: metric["values"] for name, metric in metrics.snapshot().items()}
    assert found["dvfb_received_frames"][0]["value"] == found["dvfb_annotated_frames"][0]["value"] == 20
    assert found["dvfb_queue_frames"][0]["value"] == found["dvfb_queue_bytes"][0]["value"] == 0
    assert found["dvfb_batch_frames"][0]["sum"] == 20
    batches = one.stats().batches + other.stats().batches
    assert found["dvfb_batch_wait_seconds"][0]["count"] == batches
    (annotate,) = found["dvfb_stage_seconds"]
    assert annotate["labels"] == {"stage": "annotate"}
    assert annotate["count"] == batches
