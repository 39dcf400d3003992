"""When batches close and how large they may be, on a clock of the tests' own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy
from dvfb_stream.worker.frame_queue import FrameQueue
from dvfb_stream.worker.policy import ENOUGH, BatchLimit, Pace
from dvfb_stream.worker.stats import Tally

from .conftest import IDENTITY, TALL, WIDE, frame


class Queue(FrameQueue):
    """On a clock that the test sets."""

    def __init__(self, *, max_wait=1.0, max_frames=100):
        self.now = 0.0
        super().__init__(
            max_frames=max_frames,
            max_bytes=1 << 20,
            max_wait=max_wait,
            policy=FullQueuePolicy.DROP_NEWEST,
            tally=Tally(Metrics()),
            clock=lambda: self.now,
        )


def add(queue, index, now, geometry=WIDE):
    queue.now = now
    assert queue.admit(frame(index, geometry), lambda annotation: None) is None


def take(queue, now, limit=4):
    queue.now = now
    return queue.take(limit)


def finish(queue, entry):
    queue.finish(entry, Annotation.failed("done", model=IDENTITY))


def numbers(batch):
    return [entry.number for entry in batch]


def test_of_a_slow_scan_every_frame_goes_at_once():
    queue = Queue(max_wait=1.0)
    for index in range(10):
        add(queue, index, now=0.5 * index)
        assert numbers(take(queue, now=0.5 * index)) == [index]


def test_of_a_fast_scan_a_batch_that_will_fill_is_waited_for():
    queue = Queue(max_wait=1.0)
    for index in range(20):  # every 10 ms: the pace is learned
        add(queue, index, now=0.01 * index)
    queue.drain(0)
    while numbers(take(queue, now=0.2))[-1] < 19:
        pass
    add(queue, 20, now=0.2)
    wake = take(queue, now=0.2)
    assert 0.2 < wake <= 1.2
    for index in range(21, 24):
        assert not isinstance(take(queue, now=0.01 * index), list)
        add(queue, index, now=0.01 * index)
    assert numbers(take(queue, now=0.23)) == [20, 21, 22, 23]


def test_a_burst_that_has_ended_waits_a_fraction_for_what_does_not_come():
    queue = Queue(max_wait=1.0)
    for index in range(25):
        add(queue, index, now=0.001 * index)
    assert len(take(queue, now=0.024, limit=20)) == 20
    wake = take(queue, now=0.024, limit=20)
    assert wake == pytest.approx(0.024 + 1.0 / 16, abs=0.005)  # 15 are missing
    assert numbers(take(queue, now=wake, limit=20)) == [20, 21, 22, 23, 24]


def test_frames_too_slow_to_fill_a_batch_wait_for_enough_of_them():
    """One every 50 ms: three more are expected within 200 ms, and fifteen are not."""
    queue, batches = Queue(max_wait=0.2), []
    for index in range(60):
        now = 0.05 * index
        add(queue, index, now)
        if isinstance(found := take(queue, now, limit=16), list):
            batches.append(len(found))
            for entry in found:
                finish(queue, entry)
    assert batches[-5:] == [ENOUGH] * 5


def test_frames_too_slow_for_enough_of_them_go_at_once():
    queue = Queue(max_wait=0.2)
    for index in range(30):
        now = 0.1 * index
        add(queue, index, now)
        found = take(queue, now, limit=16)
    assert numbers(found) == [29]


def test_without_waiting_whatever_is_there_goes():
    queue = Queue(max_wait=0.0)
    for index in range(3):
        add(queue, index, now=0.0)
    assert numbers(take(queue, now=0.0)) == [0, 1, 2]


@given(
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from([WIDE, TALL])), min_size=1, max_size=40),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_no_frame_waits_longer_than_it_may_and_the_oldest_goes_first(arrivals, limit, max_wait):
    """An idle worker, which wakes when it is told to and at each arrival."""
    queue, now, taken, wake = Queue(max_wait=max_wait), 0.0, [], math.inf

    def work():
        nonlocal wake
        while isinstance(found := take(queue, now, limit), list):
            assert len({entry.frame.geometry for entry in found}) == 1
            assert 1 <= len(found) <= limit
            for entry in found:
                assert now - entry.admitted_at <= max_wait + 1e-9
                finish(queue, entry)
            taken.extend(found)
        wake = found
        assert wake > now

    for index, (pause, geometry) in enumerate(arrivals):
        arrival = now + pause
        while wake <= arrival:
            now = wake
            work()
        now = arrival
        add(queue, index, now, geometry)
        work()
    while wake < math.inf:
        now = wake
        work()
    assert sorted(numbers(taken)) == list(range(len(arrivals)))
    for geometry in (WIDE, TALL):
        own = [entry.number for entry in taken if entry.frame.geometry == geometry]
        assert own == sorted(own)
    assert len(queue) == 0


def test_who_drains_and_a_queue_without_room_wait_for_no_batch():
    queue = Queue(max_wait=100.0, max_frames=30)
    for index in range(25):
        add(queue, index, now=0.0)
    assert len(take(queue, now=0.0, limit=20)) == 20
    assert not isinstance(take(queue, now=0.0, limit=20), list)
    assert not queue.drain(0)
    assert numbers(take(queue, now=0.0, limit=20)) == [20, 21, 22, 23, 24]
    for index in range(25, 30):
        add(queue, index, now=0.0)
    assert queue.admit(frame(30), lambda annotation: None).status is Status.DROPPED
    assert len(take(queue, now=0.0, limit=20)) == 5


def test_the_pace_of_few_geometries_is_remembered():
    pace = Pace(1.0)
    for number in range(1000):
        for _ in range(30):
            pace.arrived(str(number), now=0.0)
    assert len(pace._arrivals) == 64
    assert pace.closes_at("0", 13, 16, oldest=0.0) <= 0.0  # forgotten: goes at once
    assert pace.closes_at("999", 13, 16, oldest=0.0) > 0.2


def test_a_batch_that_does_not_fit_halves_the_limit_and_it_grows_back_with_care():
    limit = BatchLimit(16)
    limit.did_not_fit(16)
    assert limit.frames == 8
    limit.did_not_fit(3)
    assert limit.frames == 1
    sizes = []
    for _ in range(1000):
        limit.fitted(limit.frames)
        sizes.append(limit.frames)
    assert sizes[-1] == 16
    assert sizes == sorted(sizes)
    assert sizes.index(2) == 15  # after sixteen batches in a row


def test_batches_that_were_small_anyway_prove_nothing():
    limit = BatchLimit(16)
    limit.did_not_fit(16)
    for _ in range(1000):
        limit.fitted(7)
    assert limit.frames == 8


def test_where_larger_batches_fail_again_and_again_they_become_rare():
    limit, attempts = BatchLimit(16), 0
    for _ in range(100_000):
        if limit.frames > 8:
            attempts += 1
            limit.did_not_fit(limit.frames)
            limit.frames = max(limit.frames, 5)  # not what is tested: 8 fit, and are reached at once
        else:
            limit.frames = 8
            limit.fitted(8)
    assert 5 <= attempts <= 40
    limit.forget()
    assert limit.frames == 16


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.integers(1, 64))))
def test_the_limit_stays_within_its_bounds(most, events):
    limit = BatchLimit(most)
    for fits, frames in events:
        (limit.fitted if fits else limit.did_not_fit)(frames)
        assert 1 <= limit.frames <= most


def test_work_on_a_frame_with_a_head_start_begins_later_unless_somebody_waits():
    queue = Queue(max_wait=1.0)
    queue.now = 10.0
    assert queue.admit(frame(0), lambda annotation: None, head_start=0.005) is None
    assert take(queue, now=10.0) == pytest.approx(10.005)
    assert numbers(take(queue, now=10.006)) == [0]
    assert queue.admit(frame(1), lambda annotation: None, head_start=0.005) is None
    queue.drain(0)
    assert numbers(take(queue, now=10.006)) == [1]


def test_the_pace_is_the_mean_gap_of_the_last_four_frames_or_so():
    pace, mean = Pace(1.0), 1.0
    for number in range(6):
        pace.arrived("g", now=0.1 * number)
        if number:
            mean = 0.75 * mean + 0.25 * 0.1
        assert pace.closes_at("g", 15, 16, oldest=0.1 * number) == pytest.approx(
            0.1 * number + min(1.0 - mean, 0.5)
        )


def test_larger_batches_are_tried_every_4096_at_the_least():
    limit, since, between = BatchLimit(16), 0, []
    limit.did_not_fit(16)
    for _ in range(40_000):
        limit.fitted(8)
        since += 1
        if limit.frames > 8:
            between.append(since)
            since = 0
            limit.did_not_fit(limit.frames)
            limit.frames = 8  # not what is tested: what fits is reached at once
    assert between[:4] == [16, 32, 64, 128]
    assert set(between[8:]) == {4096}
