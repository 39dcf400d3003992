from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.frames import Frame, Geometry, Origin
from dvfb_stream.worker import FullQueuePolicy, Worker, was_dropped

IDENTITY = ModelIdentity(name="echo", version="1", sha256="0" * 64)
WIDE = Geometry(shape=(2, 4), center_x=0, center_y=0)
TALL = Geometry(shape=(4, 2), center_x=0, center_y=0)
BYTES = 8 * 8
"""Of one frame of either geometry."""
PATIENCE = 10.0
"""Seconds after which a test that waits has failed; none waits that long."""


def frame(index: int, geometry: Geometry = WIDE) -> Frame:
    origin = Origin(run_uid="run", stream="primary", data_key="image", index=index)
    return Frame(np.full(geometry.shape, float(index)), geometry, origin)


class Echo:
    """Answers each frame with its first pixel as the rings' score; remembers the batches."""

    identity = IDENTITY

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.batches.append([int(frame.pixels[0, 0]) for frame in frames])
        return [self._annotate(frame) for frame in frames]

    def _annotate(self, frame: Frame) -> Annotation:
        return Annotation(
            status="ok", model=IDENTITY, origin=frame.origin, scores={"rings": float(frame.pixels[0, 0])}
        )


class Gated(Echo):
    """Annotates only once the gate is open; tells when it stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        return super().annotate(frames)


class Grumpy(Echo):
    """Raises for a batch in which any frame's index is a multiple of seven."""

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        annotations = super().annotate(frames)
        for frame in frames:
            assert frame.origin is not None
            if frame.origin.index % 7 == 0:
                raise FrameError(f"frame {frame.origin.index} is not to my taste")
        return annotations


class Inbox:
    """Collects annotations by the index of their frame."""

    def __init__(self) -> None:
        self.annotations: list[Annotation] = []

    def __call__(self, annotation: Annotation) -> None:
        self.annotations.append(annotation)

    @property
    def indices(self) -> list[int]:
        return [annotation.origin.index for annotation in self.annotations if annotation.origin is not None]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def in_thread(task: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    return thread


def test_every_frame_gets_its_own_annotation_in_order(inbox):
    with Worker(Echo()) as worker:
        for index in range(100):
            worker.submit(frame(index), inbox)
    assert inbox.indices == list(range(100))
    assert [annotation.scores["rings"] for annotation in inbox.annotations] == list(range(100))


def test_a_full_batch_goes_at_once_and_others_when_they_are_old_enough(inbox):
    annotator = Gated()
    with Worker(annotator, batch_size=3, max_wait=0.01) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)  # by its age
        for index in range(1, 8):
            worker.submit(frame(index), inbox)
        annotator.gate.set()
    assert annotator.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_a_batch_that_is_not_full_waits_until_somebody_drains(inbox):
    annotator = Echo()
    with Worker(annotator, batch_size=3, max_wait=PATIENCE) as worker:
        worker.submit(frame(0), inbox)
        worker.submit(frame(1), inbox)
        assert annotator.batches == []
        assert worker.drain(PATIENCE)
        assert annotator.batches == [[0, 1]]


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
    annotator = Echo()
    with Worker(annotator, max_wait=PATIENCE) as worker:
        for index in range(3):
            worker.submit(frame(index, Geometry(shape=(2, 4), center_x=0, center_y=0)), inbox)
    assert annotator.batches == [[0, 1, 2]]


def test_a_frame_that_fails_costs_its_own_row_and_not_its_batch(inbox):
    with Worker(Grumpy(), batch_size=10, max_wait=PATIENCE) as worker:
        for index in range(10):
            worker.submit(frame(index), inbox)
        assert worker.drain(PATIENCE)
        stats = worker.stats()
    assert inbox.indices == list(range(10))
    assert [annotation.origin.index for annotation in inbox.annotations if not annotation.ok] == [0, 7]
    assert inbox.annotations[7].reason == "frame 7 is not to my taste"
    assert (stats.annotated, stats.failed, stats.batches) == (8, 2, 1)


def test_an_annotator_that_miscounts_is_not_believed(inbox):
    class Forgetful(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            return super().annotate(frames)[1:]

    with Worker(Forgetful()) as worker:
        worker.submit(frame(0), inbox)
        worker.submit(frame(1), inbox)
    assert inbox.indices == [0, 1]
    assert [annotation.status for annotation in inbox.annotations] == ["failed", "failed"]
    assert "0 annotations for 1 frames" in inbox.annotations[0].reason


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
        assert all(was_dropped(annotation) for annotation in inbox.annotations)
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
            if policy is FullQueuePolicy.DROP_NEWEST:
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
    [{"batch_size": 0}, {"max_frames": 0}, {"max_bytes": 0}, {"max_wait": -1}, {"max_wait": float("nan")}],
)
def test_bounds_out_of_range_are_named(setting):
    with pytest.raises(SettingsError, match=next(iter(setting))):
        Worker(Echo(), **setting)


def test_an_unknown_policy_is_named_with_the_known_ones():
    assert FullQueuePolicy.named("block") is FullQueuePolicy.BLOCK
    assert FullQueuePolicy.named(FullQueuePolicy.DROP_NEWEST) is FullQueuePolicy.DROP_NEWEST
    with pytest.raises(SettingsError, match=r"'drop-oldest'.*'block', 'drop-newest'"):
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
    inbox = Inbox()
    worker = Worker(
        Grumpy(), batch_size=batch_size, max_wait=0, max_frames=max_frames, max_bytes=max_bytes, policy=policy
    )
    for index, geometry in enumerate(geometries):
        worker.submit(frame(index, geometry), inbox)
    worker.close(timeout=0 if closes_early else None)
    assert worker.drain(PATIENCE)
    assert Counter(inbox.indices) == Counter(range(len(geometries)))
    stats = worker.stats()
    assert stats.queued_frames == stats.queued_bytes == stats.undelivered == 0
    assert stats.received == len(geometries) == stats.annotated + stats.failed + stats.dropped
    if policy is FullQueuePolicy.BLOCK:
        assert stats.dropped == 0
