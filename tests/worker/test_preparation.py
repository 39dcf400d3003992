"""Frames are prepared ahead of their batches, once each, by whichever thread is free."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.frames import Frame
from dvfb_stream.worker import Worker

from .conftest import PATIENCE, Echo, frame, index_of


class Prepared:
    """What is prepared of a frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame


class Diligent(Echo):
    """Prepares frames; tells who did; annotates only what is prepared."""

    prepares_ahead = True

    def __init__(self) -> None:
        super().__init__()
        self.by: dict[int, str] = {}
        self.times: Counter[int] = Counter()
        self.gate = threading.Event()
        self.reached = threading.Event()
        self.all_prepared = threading.Event()
        self.expected = 0

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        raise AssertionError("a worker annotates what it has prepared")

    def prepare(self, frame: Frame) -> Any:
        self.times[index_of(frame)] += 1
        self.by[index_of(frame)] = threading.current_thread().name
        if len(self.by) == self.expected:
            self.all_prepared.set()
        return Prepared(frame)

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        return Echo.annotate(self, [one.frame for one in prepared])


def test_while_a_batch_is_annotated_the_next_is_prepared_and_no_more(inbox):
    annotator = Diligent()
    annotator.expected = 4
    with Worker(annotator, batch_size=2) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)
        for index in range(1, 12):
            worker.submit(frame(index), inbox)
        assert annotator.all_prepared.wait(PATIENCE)
        assert set(annotator.by) == {0, 1, 2, 3}  # two batches' worth, that in work included
        assert {annotator.by[index] for index in (1, 2, 3)} == {"dvfb-prepare"}
        annotator.gate.set()
    assert inbox.indices == list(range(12))
    assert annotator.times == Counter(range(12))


def test_the_thread_that_annotates_does_not_wait_for_frames_that_it_can_prepare_itself(inbox):
    stuck, others = threading.Event(), threading.Event()

    class Slow(Diligent):
        def prepare(self, frame: Frame) -> Any:
            if index_of(frame) == 1:
                stuck.set()
                assert others.wait(PATIENCE)
            prepared = super().prepare(frame)
            if {2, 3, 4} <= set(self.by):
                others.set()
            return prepared

    annotator = Slow()
    with Worker(annotator, batch_size=4) as worker:
        worker.submit(frame(0), inbox)
        assert annotator.reached.wait(PATIENCE)
        worker.submit(frame(1), inbox)
        assert stuck.wait(PATIENCE)  # the second thread, in the first frame of the next batch
        for index in range(2, 12):
            worker.submit(frame(index), inbox)
        annotator.gate.set()
        assert worker.drain(PATIENCE)
    assert inbox.indices == list(range(12))
    assert annotator.times == Counter(range(12))
    assert {annotator.by[index] for index in (2, 3, 4)} == {"dvfb-worker"}


def test_a_preparation_that_raises_costs_the_row_of_its_frame(inbox):
    class Clumsy(Diligent):
        def prepare(self, frame: Frame) -> Any:
            if index_of(frame) % 5 == 3:
                raise MemoryError(f"frame {index_of(frame)}")
            return super().prepare(frame)

    annotator = Clumsy()
    annotator.gate.set()
    with Worker(annotator, batch_size=4) as worker:
        for index in range(20):
            worker.submit(frame(index), inbox)
    assert inbox.indices == list(range(20))
    failed = [a for a in inbox.annotations if not a.ok]
    assert [a.origin.index for a in failed] == [3, 8, 13, 18]
    assert failed[0].reason == "MemoryError: frame 3"


def test_what_is_prepared_is_let_go_with_its_row(inbox):
    class Leaving(Diligent):
        def __init__(self) -> None:
            super().__init__()
            self.references: list[weakref.ref[Any]] = []

        def prepare(self, frame: Frame) -> Any:
            prepared = super().prepare(frame)
            self.references.append(weakref.ref(prepared))
            return prepared

    annotator = Leaving()
    annotator.gate.set()
    with Worker(annotator, batch_size=2) as worker:
        for index in range(8):
            worker.submit(frame(index), inbox)
    assert len(annotator.references) == 8
    assert not any(reference() for reference in annotator.references)


def test_closing_in_no_time_while_a_frame_is_being_prepared(inbox):
    stuck, go_on = threading.Event(), threading.Event()

    class Slow(Diligent):
        def prepare(self, frame: Frame) -> Any:
            stuck.set()
            assert go_on.wait(PATIENCE)
            return super().prepare(frame)

    annotator = Slow()
    annotator.gate.set()
    worker = Worker(annotator, batch_size=1)
    for index in range(6):
        worker.submit(frame(index), inbox)
    assert stuck.wait(PATIENCE)
    worker.close(timeout=0)
    go_on.set()
    worker.close()
    assert sorted(inbox.indices) == list(range(6))


def test_where_it_does_not_pay_no_second_thread_begins(inbox):
    class Alone(Diligent):
        prepares_ahead = False

        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            return Echo.annotate(self, frames)

    annotator = Alone()
    with Worker(annotator) as worker:
        worker.submit(frame(0), inbox)
        assert worker.drain(PATIENCE)
        assert "dvfb-prepare" not in {thread.name for thread in threading.enumerate()}
    assert inbox.indices == [0]
    assert annotator.times == Counter()


def test_after_falling_back_the_second_thread_rests(inbox):
    class Fallen(Diligent):
        def fall_back(self) -> str:
            self.prepares_ahead = False
            return "cpu"

        def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
            if self.prepares_ahead:
                raise RuntimeError("CUDA error: unspecified launch failure")
            return super().annotate_prepared(prepared)

    annotator = Fallen()
    annotator.gate.set()
    with Worker(annotator, batch_size=1) as worker:
        worker.submit(frame(0), inbox)
        assert worker.drain(PATIENCE)
        for index in range(1, 20):
            worker.submit(frame(index), inbox)
    assert inbox.indices == list(range(20))
    assert all(annotation.ok for annotation in inbox.annotations)
    assert {annotator.by[index] for index in range(1, 20)} == {"dvfb-worker"}


class Failing(Diligent):
    """Prepares ahead, and fails at one frame as long as it is told to."""

    def __init__(self, error: Exception, at: int) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.at = at

    def prepare(self, frame: Frame) -> Any:
        prepared = super().prepare(frame)
        if self.error is not None and index_of(frame) == self.at:
            raise self.error
        return prepared


def held_back(annotator: Failing, inbox) -> Worker:
    """Return a worker that has prepared frames 0 to 7 ahead, and annotates frame 0 until the gate opens."""
    annotator.expected = 8
    worker = Worker(annotator, batch_size=8)
    worker.submit(frame(0), inbox)
    assert annotator.reached.wait(PATIENCE)
    for index in range(1, 8):
        worker.submit(frame(index), inbox)
    assert annotator.all_prepared.wait(PATIENCE)
    return worker


def test_what_could_not_be_prepared_once_is_prepared_again_with_the_retry(inbox):
    class Short(Failing):
        def prepare(self, frame: Frame) -> Any:
            if self.times[index_of(frame)]:
                self.error = None  # there is memory again
            return super().prepare(frame)

    annotator = Short(MemoryError("not now"), at=5)
    with held_back(annotator, inbox) as worker:
        annotator.gate.set()
        assert worker.drain(PATIENCE)
        assert worker.stats().halvings == 1
    assert sorted(inbox.indices) == list(range(8))
    assert all(annotation.ok for annotation in inbox.annotations)
    assert annotator.times == Counter(range(8)) + Counter([5])


def test_after_falling_back_everything_is_prepared_anew(inbox):
    class Falls(Failing):
        def fall_back(self) -> str:
            self.error = None
            return "cpu"

        def prepare(self, frame: Frame) -> Any:
            prepared = super().prepare(frame)
            prepared.device = "cuda" if self.error else "cpu"
            return prepared

        def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
            if not self.error:
                assert {one.device for one in prepared} == {"cpu"}
            return super().annotate_prepared(prepared)

    annotator = Falls(RuntimeError("CUDA error: device lost"), at=5)
    with held_back(annotator, inbox) as worker:
        annotator.gate.set()
        assert worker.drain(PATIENCE)
        assert worker.stats().fallbacks == 1
    assert sorted(inbox.indices) == list(range(8))
    assert all(annotation.ok for annotation in inbox.annotations)
