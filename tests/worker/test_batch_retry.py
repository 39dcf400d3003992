"""While an annotator is not ready its frames wait, for a stated time; the clock is the test's own."""

from __future__ import annotations

import threading

import pytest

from dvfb_stream.device_failures import Cause, Failure, ReportedFailureError
from dvfb_stream.frame_annotator import as_frame_annotator
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import Worker
from dvfb_stream.worker.batch_retry import SECONDS_TO_COME_BACK, SHORTEST_PAUSE, BatchRetry
from dvfb_stream.worker.frame_queue import Entry
from dvfb_stream.worker.policy import BatchLimit
from dvfb_stream.worker.stats import Tally

from .conftest import BYTES, PATIENCE, Echo, frame, in_thread


def not_ready(retry_after: float = 0.0) -> ReportedFailureError:
    return ReportedFailureError(
        "it starts again", Failure.NOT_READY, cause=Cause.NOT_STARTED, retry_after=retry_after
    )


class Absent(Echo):
    """Is not ready until the stated time."""

    def __init__(self, until: float, retry_after: float = 0.0) -> None:
        super().__init__()
        self.now, self.until, self.retry_after = 0.0, until, retry_after
        self.pauses: list[float] = []
        self.is_waited_for = True

    def annotate(self, frames):
        if self.now < self.until:
            raise not_ready(self.retry_after)
        return super().annotate(frames)

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return self.is_waited_for


def retry(annotator: Absent) -> BatchRetry:
    return BatchRetry(
        as_frame_annotator(annotator),
        preparation=None,
        limit=BatchLimit(16),
        tally=Tally(Metrics()),
        metrics=Metrics(),
        pause=annotator.pause,
        clock=lambda: annotator.now,
    )


def batch(*indices: int) -> list[Entry]:
    return [Entry(index, frame(index), lambda annotation: None, BYTES, 0.0, 0.0) for index in indices]


def annotated(retry: BatchRetry, *indices: int):
    return [annotation for _, annotation in retry.annotated(batch(*indices))]


@pytest.mark.parametrize("retry_after", [0.0, 7.0])
def test_a_batch_waits_whole_until_the_annotator_is_ready(retry_after):
    annotator = Absent(until=250.0, retry_after=retry_after)
    assert all(one.ok for one in annotated(retry(annotator), 0, 1, 2))
    assert annotator.batches == [[0, 1, 2]]
    assert set(annotator.pauses) == {retry_after or SHORTEST_PAUSE}


def test_an_annotator_that_does_not_come_back_fails_frames_after_five_minutes():
    annotator = Absent(until=1e9, retry_after=60.0)
    ours = retry(annotator)
    assert [one.reason for one in annotated(ours, 0, 1)] == ["it starts again"] * 2
    assert annotator.now == SECONDS_TO_COME_BACK == 300.0
    assert [one.ok for one in annotated(ours, 2)] == [False]  # at once: it has been waited for
    assert annotator.now == 300.0
    annotator.until = 0.0
    assert [one.ok for one in annotated(ours, 3)] == [True]
    annotator.until = 500.0
    assert [one.ok for one in annotated(ours, 4)] == [True]  # waited for anew


def test_times_of_absence_do_not_add_up():
    annotator = Absent(until=200.0)
    ours = retry(annotator)
    for until in (200.0, 400.0, 600.0):
        annotator.until = until
        assert [one.ok for one in annotated(ours, 0)] == [True]


def test_an_annotator_that_fails_in_between_was_there():
    class Fails(Absent):
        def annotate(self, frames):
            annotations = super().annotate(frames)
            if frames[0].pixels[0, 0] == 1:
                raise ValueError("not this one")
            return annotations

    annotator = Fails(until=200.0)
    ours = retry(annotator)
    assert [one.ok for one in annotated(ours, 1)] == [False]
    annotator.until = 400.0
    assert [one.ok for one in annotated(ours, 0)] == [True]


def test_frames_that_nobody_waits_for_any_more_fail_at_once():
    annotator = Absent(until=250.0)
    annotator.is_waited_for = False
    assert [one.ok for one in annotated(retry(annotator), 0, 1)] == [False, False]
    assert len(annotator.pauses) == 1


class Gone(Echo):
    """Is not ready, and says when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.is_back = False

    def annotate(self, frames):
        self.asked.set()
        if not self.is_back:
            raise not_ready()
        return super().annotate(frames)


def test_frames_wait_in_the_queue_and_none_fails(inbox):
    annotator = Gone()
    with Worker(annotator, batch_size=4, max_frames=50) as worker:
        for index in range(50):
            worker.submit(frame(index), inbox)
        assert annotator.asked.wait(PATIENCE)
        waits_for_room = in_thread(lambda: worker.submit(frame(50), inbox))
        assert not worker.drain(0)
        assert worker.stats().queued_frames == 50
        annotator.is_back = True
        waits_for_room.join(PATIENCE)
        assert worker.drain(PATIENCE)
    assert inbox.indices == list(range(51))
    assert all(annotation.ok for annotation in inbox.annotations)


def test_closing_frees_who_waits_for_an_annotator_that_is_not_ready(inbox):
    annotator = Gone()
    worker = Worker(annotator, batch_size=2)
    for index in range(5):
        worker.submit(frame(index), inbox)
    assert annotator.asked.wait(PATIENCE)
    worker.close(timeout=0)
    worker.close()
    assert sorted(inbox.indices) == list(range(5))
    assert not any(annotation.ok for annotation in inbox.annotations)
    assert "it starts again" in {annotation.reason for annotation in inbox.annotations}


def test_a_frame_that_does_not_fit_alone_is_tried_once_more(inbox):
    class Short(Echo):
        def annotate(self, frames):
            annotations = super().annotate(frames)
            if len(self.batches) == 1 or self.batches[-1] == [1]:
                raise MemoryError("others have it")
            return annotations

    annotator = Short()
    with Worker(annotator, batch_size=1) as worker:
        for index in range(3):
            worker.submit(frame(index), inbox)
    assert [annotation.ok for annotation in inbox.annotations] == [True, False, True]
    assert annotator.batches == [[0], [0], [1], [1], [2]]
