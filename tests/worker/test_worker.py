"""A worker gives every frame its row: in batches, in order, and whatever becomes of it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import FullQueuePolicy, Worker

from .conftest import BYTES, PATIENCE, TALL, WIDE, Echo, Gated, Grumpy, frame, in_thread


def test_every_frame_gets_its_own_annotation_in_order(inbox):
    with Worker(Echo()) as worker:
        for index in range(100):
            worker.submit(frame(index), inbox)
    assert inbox.indices == list(range(100))
    assert [annotation.scores["rings"] for annotation in inbox.annotations] == list(range(100))


def test_doubtful_labels_are_counted_by_label_and_no_others(inbox):
    class Doubting(Echo):
        def annotate(self, frames):
            said = [("two_fold",), ("two_fold", "grazing", "of another's own"), ()]
            return [replace(one, doubtful=said[one.origin.index % 3]) for one in super().annotate(frames)]

    metrics = Metrics()
    with Worker(Doubting(), metrics=metrics) as worker:
        for index in range(6):
            worker.submit(frame(index), inbox)
    assert all(annotation.ok for annotation in inbox.annotations)
    assert metrics.snapshot()["dvfb_doubtful_labels"]["values"] == [
        {"labels": {"label": "two_fold"}, "value": 4},
        {"labels": {"label": "grazing"}, "value": 2},
    ]


def test_the_first_frame_goes_at_once_and_what_comes_meanwhile_goes_together(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=3, max_wait=PATIENCE) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)
        for index in range(1, 8):
            worker.submit(frame(index), inbox)
        annotator.gate.set()
    assert annotator.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_a_batch_that_fills_quickly_is_waited_for_until_somebody_drains(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=20, max_wait=60) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)
        # As many at once as teach the worker the pace, and five that make no batch.
        for index in range(1, 26):
            worker.submit(frame(index), inbox)
        annotator.gate.set()
        last = threading.Event()
        worker.submit(frame(26), lambda annotation: last.set())
        assert not last.is_set()
        assert worker.drain(PATIENCE)
        assert last.is_set()
    assert annotator.batches == [[0], list(range(1, 21)), list(range(21, 27))]


def test_frames_of_one_geometry_make_a_batch(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=4, max_wait=0) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)
        for index in range(1, 9):
            worker.submit(frame(index, WIDE if index % 2 else TALL), inbox)
        annotator.gate.set()
    assert annotator.batches == [[0], [1, 3, 5, 7], [2, 4, 6, 8]]


def test_equal_geometries_are_one_geometry(inbox):
    annotator = Gated()
    with Worker(annotator) as worker:
        worker.submit(frame(0, TALL), inbox)
        assert annotator.reached.wait(PATIENCE)
        for index in range(1, 4):
            worker.submit(frame(index, Geometry(shape=(2, 4), center_x=0, center_y=0)), inbox)
        annotator.gate.set()
    assert annotator.batches == [[0], [1, 2, 3]]


def test_a_receiver_that_raises_is_counted_and_the_others_are_served(inbox):
    def refuse(annotation: Annotation) -> None:
        raise ValueError("no")

    with Worker(Echo()) as worker:
        worker.submit(frame(0), refuse)
        worker.submit(frame(1), inbox)
        assert worker.drain(PATIENCE)
        assert worker.stats().undelivered == 1
    assert inbox.indices == [1]


@pytest.mark.parametrize("bounds", [{"max_frames": 2}, {"max_bytes": 2 * BYTES}])
def test_a_full_queue_drops_the_newest_and_says_so_in_its_row(inbox, bounds):
    annotator = Gated()
    with Worker(annotator, batch_size=1, policy=FullQueuePolicy.DROP_NEWEST, **bounds) as worker:
        for index in range(5):
            worker.submit(frame(index), inbox)
        assert inbox.indices == [2, 3, 4]  # before anything is annotated, from this thread
        assert all(annotation.status is Status.DROPPED for annotation in inbox.annotations)
        assert "the queue was full" in inbox.annotations[0].reason
        stats = worker.stats()
        assert (stats.received, stats.dropped, stats.queued_frames, stats.queued_bytes) == (
            5,
            3,
            2,
            2 * BYTES,
        )
        annotator.gate.set()
    assert sorted(inbox.indices) == [0, 1, 2, 3, 4]
    assert worker.stats().queued_bytes == 0


@pytest.mark.parametrize("bounds", [{"max_frames": 2}, {"max_bytes": 2 * BYTES}])
def test_a_full_queue_blocks_until_there_is_room(inbox, bounds):
    annotator = Gated()
    with Worker(annotator, batch_size=1, **bounds) as worker:
        for index in range(2):
            worker.submit(frame(index), inbox)
        third = in_thread(lambda: worker.submit(frame(2), inbox))
        assert annotator.reached.wait(PATIENCE)
        assert worker.stats().received == 2
        annotator.gate.set()
        third.join(PATIENCE)
    assert inbox.indices == [0, 1, 2]


@pytest.mark.parametrize("policy", list(FullQueuePolicy))
def test_a_frame_larger_than_the_queue_is_annotated_when_nothing_else_is_held(inbox, policy):
    with Worker(Echo(), max_bytes=1, policy=policy) as worker:
        for index in range(3):
            worker.submit(frame(index), inbox)
            if policy is not FullQueuePolicy.BLOCK:
                assert worker.drain(PATIENCE)
    assert inbox.indices == [0, 1, 2]
    assert all(annotation.ok for annotation in inbox.annotations)


def test_a_frame_that_waits_for_room_does_not_wait_for_the_age_of_what_is_held(inbox):
    with Worker(Echo(), max_bytes=3 * BYTES, max_wait=60) as worker:
        worker.submit(frame(0), inbox)
        large = Geometry(shape=(8, 4), center_x=0, center_y=0)
        worker.submit(frame(1, large), inbox)
        assert inbox.indices == [0]
    assert inbox.indices == [0, 1]


def test_a_queue_smaller_than_a_batch_does_not_wait_for_the_batch(inbox):
    with Worker(Echo(), batch_size=16, max_frames=2, max_wait=PATIENCE) as worker:
        for index in range(6):
            worker.submit(frame(index), inbox)
    assert inbox.indices == list(range(6))


def test_drain_waits_for_what_was_taken_in_before_it_and_tells_when_that_took_too_long(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=1) as worker:
        worker.submit(frame(0), inbox)
        assert not worker.drain(0.001)
        annotator.gate.set()
        assert worker.drain(PATIENCE)
        assert inbox.indices == [0]


def test_closing_annotates_what_is_held_and_fails_what_comes_later(inbox):
    annotator = Echo()
    worker = Worker(annotator, max_wait=PATIENCE)
    worker.submit(frame(0), inbox)
    worker.close()
    worker.close()
    worker.submit(frame(1), inbox)
    assert [annotation.ok for annotation in inbox.annotations] == [True, False]
    assert "closed" in inbox.annotations[1].reason
    stats = worker.stats()
    assert (stats.received, stats.annotated, stats.failed) == (2, 1, 1)


def test_closing_in_no_time_fails_what_waits_and_leaves_what_is_in_work_to_the_annotator(inbox):
    annotator = Gated()
    worker = Worker(annotator, batch_size=1)
    for index in range(3):
        worker.submit(frame(index), inbox)
    assert annotator.reached.wait(PATIENCE)
    worker.close(timeout=0)
    assert inbox.indices == [1, 2]
    annotator.gate.set()
    assert worker.drain(PATIENCE)
    assert inbox.indices == [1, 2, 0]
    assert inbox.annotations[2].ok


def test_closing_frees_who_waits_for_room(inbox):
    annotator = Gated()
    worker = Worker(annotator, batch_size=1, max_frames=1)
    worker.submit(frame(0), inbox)
    second = in_thread(lambda: worker.submit(frame(1), inbox))
    assert annotator.reached.wait(PATIENCE)
    worker.close(timeout=0)
    second.join(PATIENCE)
    assert not second.is_alive()
    annotator.gate.set()
    assert worker.drain(PATIENCE)
    assert sorted(inbox.indices) == [0, 1]


def test_pixels_are_let_go_with_their_row(inbox):
    import gc
    import weakref

    with Worker(Echo(), batch_size=2) as worker:
        frames = [frame(0), frame(1)]
        pixels = [weakref.ref(frame.pixels) for frame in frames]
        for each in frames:
            worker.submit(each, inbox)
        del frames, each
        assert worker.drain(PATIENCE)
        gc.collect()
        # One more batch has come and gone, so the thread holds nothing of the first.
        worker.submit(frame(2), inbox)
        assert worker.drain(PATIENCE)
        assert [reference() for reference in pixels] == [None, None]


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 0},
        {"max_frames": 0},
        {"max_bytes": 0},
        {"max_wait": -1},
        {"max_wait": float("nan")},
        {"max_wait": float("inf")},
    ],
)
def test_bounds_out_of_range_are_named(setting):
    with pytest.raises(SettingsError, match=next(iter(setting))):
        Worker(Echo(), **setting)


def test_an_unknown_policy_is_named_with_the_known_ones():
    assert FullQueuePolicy.named("block") is FullQueuePolicy.BLOCK
    assert FullQueuePolicy.named(FullQueuePolicy.DROP_NEWEST) is FullQueuePolicy.DROP_NEWEST
    with pytest.raises(SettingsError, match=r"'drop-oldest'.*'block', 'drop-newest', 'sample'"):
        FullQueuePolicy.named("drop-oldest")


@settings(max_examples=40, deadline=None)
@given(
    batch_size=st.integers(1, 5),
    max_frames=st.integers(1, 6),
    max_bytes=st.integers(1, 5 * BYTES),
    policy=st.sampled_from(FullQueuePolicy),
    geometries=st.lists(st.sampled_from([WIDE, TALL]), max_size=30),
    closes_early=st.booleans(),
)
def test_whatever_the_bounds_every_frame_is_delivered_exactly_once_and_counted(
    batch_size, max_frames, max_bytes, policy, geometries, closes_early
):
    rows: list[Annotation] = []
    worker = Worker(
        Grumpy(), batch_size=batch_size, max_wait=0, max_frames=max_frames, max_bytes=max_bytes, policy=policy
    )
    for index, geometry in enumerate(geometries):
        worker.submit(frame(index, geometry), rows.append)
    worker.close(timeout=0 if closes_early else None)
    assert worker.drain(PATIENCE)
    assert Counter(row.origin.index for row in rows if row.origin) == Counter(range(len(geometries)))
    stats = worker.stats()
    assert stats.queued_frames == stats.queued_bytes == stats.undelivered == 0
    assert stats.received == len(geometries) == stats.annotated + stats.failed + stats.dropped
    if policy is FullQueuePolicy.BLOCK:
        assert stats.dropped == 0


class KeepsPixels:
    """Waits for leave, and keeps what it saw."""

    identity = Echo.identity

    def __init__(self):
        self.go_on, self.seen = threading.Event(), []

    def annotate(self, frames):
        self.go_on.wait(PATIENCE)
        self.seen += [float(frame.pixels[0, 0]) for frame in frames]
        return [Annotation(status="ok", model=self.identity, origin=frame.origin) for frame in frames]


def test_only_what_is_let_in_is_copied():
    """A dropped frame costs no copy; a kept one is annotated as it was, though the detector has a new exposure."""
    annotator, copies, buffer = KeepsPixels(), [], np.zeros(WIDE.shape)

    def keep(borrowed):
        copies.append(1)
        return borrowed.copy()

    with Worker(annotator, max_frames=3, policy=FullQueuePolicy.DROP_NEWEST) as worker:
        for number in range(10):
            buffer[...] = number
            worker.submit(Frame(buffer, WIDE), lambda annotation: None, keep=keep)
        annotator.go_on.set()
    assert len(copies) == 3
    assert annotator.seen == [0.0, 1.0, 2.0]


def test_a_frame_that_cannot_be_kept_is_refused_and_has_its_row(inbox):
    def keep(borrowed):
        if borrowed[0, 0] == 1:
            raise MemoryError("no room")
        return borrowed

    with Worker(Echo()) as worker:
        for index in range(3):
            worker.submit(frame(index), inbox, keep=keep)
    assert sorted(inbox.indices) == [0, 1, 2]
    (failed,) = [annotation for annotation in inbox.annotations if not annotation.ok]
    assert failed.reason == "the frame could not be kept: MemoryError: no room"
    stats = worker.stats()
    assert (stats.received, stats.annotated, stats.failed, stats.queued_frames) == (3, 2, 1, 0)


def test_while_a_frame_is_copied_others_are_submitted_counted_and_annotated(inbox):
    copying, go_on = threading.Event(), threading.Event()

    def slowly(borrowed):
        copying.set()
        assert go_on.wait(PATIENCE)
        return borrowed

    with Worker(Echo(), max_frames=2, policy=FullQueuePolicy.DROP_NEWEST) as worker:
        copier = in_thread(lambda: worker.submit(frame(0), inbox, keep=slowly))
        assert copying.wait(PATIENCE)
        worker.submit(frame(1), inbox)
        assert worker.drain(PATIENCE)
        assert inbox.indices == [1]
        stats = worker.stats()
        assert (stats.received, stats.annotated, stats.queued_frames) == (1, 1, 0)
        go_on.set()
        copier.join(PATIENCE)
        assert worker.drain(PATIENCE)
    assert inbox.indices == [1, 0]


def test_a_frame_that_is_copied_has_its_room(inbox):
    copying, go_on = threading.Event(), threading.Event()

    def slowly(borrowed):
        copying.set()
        assert go_on.wait(PATIENCE)
        return borrowed

    annotator = Gated()
    with Worker(annotator, max_frames=2, policy=FullQueuePolicy.DROP_NEWEST) as worker:
        copier = in_thread(lambda: worker.submit(frame(0), inbox, keep=slowly))
        assert copying.wait(PATIENCE)
        for index in (1, 2):
            worker.submit(frame(index), inbox)
        assert [annotation.status for annotation in inbox.annotations] == [Status.DROPPED]
        assert inbox.indices == [2]
        go_on.set()
        copier.join(PATIENCE)
        assert worker.stats().queued_frames == 2
        annotator.gate.set()


def test_a_frame_that_was_being_copied_when_the_worker_was_closed_came_too_late(inbox):
    worker = Worker(Echo())

    def closing(borrowed):
        worker.close(PATIENCE)
        return borrowed

    worker.submit(frame(0), inbox, keep=closing)
    (annotation,) = inbox.annotations
    assert annotation.reason == "the worker was closed before the frame came"
    stats = worker.stats()
    assert (stats.received, stats.failed, stats.queued_frames, stats.queued_bytes) == (1, 1, 0, 0)


def test_room_is_given_back_where_a_frame_cannot_be_kept(inbox):
    def keep(borrowed):
        raise MemoryError("no room")

    with Worker(Echo(), max_frames=1) as worker:
        worker.submit(frame(0), inbox, keep=keep)
        worker.submit(frame(1), inbox)
        assert worker.drain(PATIENCE)
    assert inbox.indices == [0, 1]


def test_an_interrupt_while_a_frame_is_copied_gives_its_room_back_and_its_row(inbox):
    def keep(borrowed):
        raise KeyboardInterrupt

    with Worker(Echo(), max_frames=1) as worker:
        with pytest.raises(KeyboardInterrupt):
            worker.submit(frame(0), inbox, keep=keep)
        worker.submit(frame(1), inbox)
        assert worker.drain(PATIENCE)
    assert inbox.indices == [0, 1]
    assert [annotation.ok for annotation in inbox.annotations] == [False, True]


@pytest.mark.parametrize(
    "bad", [Frame(np.zeros((2, 2)), None), "no frame", None], ids=["bare", "text", "none"]
)
def test_what_is_no_frame_has_a_row_that_says_so(inbox, bad):
    rows = []
    with Worker(Echo()) as worker:
        worker.submit(bad, rows.append)
    (row,) = rows
    assert not row.ok
    assert "must be a" in row.reason
