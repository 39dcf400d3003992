"""What fails costs as little as possible: a frame its row, exhausted memory some speed, a lost device itself."""

from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation
from dvfb_stream.device_failures import Failure, failure_of
from dvfb_stream.frames import Frame
from dvfb_stream.metrics import Metrics
from dvfb_stream.worker import Worker

from .conftest import PATIENCE, Echo, Gated, Grumpy, frame, index_of


def held_back(annotator, indices, inbox, **settings):
    """Let a worker annotate frames in full batches, all there before the first is taken; return its stats."""
    gate = Gated()
    work, gate_only = annotator.annotate, [True]

    def annotate(frames):
        if gate_only:
            gate_only.clear()
            gate.reached.set()
            assert gate.gate.wait(PATIENCE)
            return Echo.annotate(Echo(), frames)
        return work(frames)

    annotator.annotate = annotate
    with Worker(annotator, **settings) as worker:
        worker.submit(frame(-1), lambda annotation: None)
        assert gate.reached.wait(PATIENCE)
        for index in indices:
            worker.submit(frame(index), inbox)
        gate.gate.set()
        assert worker.drain(PATIENCE)
        return worker.stats()


def test_a_frame_that_fails_costs_its_own_row_and_not_its_batch(inbox):
    stats = held_back(Grumpy(), range(10), inbox, batch_size=10)
    assert inbox.indices == list(range(10))
    assert [annotation.origin.index for annotation in inbox.annotations if not annotation.ok] == [0, 7]
    assert inbox.annotations[7].reason == "frame 7 is not to my taste"
    assert (stats.annotated, stats.failed, stats.batches) == (9, 2, 2)


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: None, "None (NoneType) where an annotation was due"),
        (lambda one: replace(one, status="perhaps"), "'perhaps' is not a valid Status"),
        (lambda one: replace(one, status="dropped"), "the status <Status.DROPPED"),
        (lambda one: replace(one, reason=None), "the reason None"),
        (lambda one: replace(one, labels="rings"), "the labels 'rings'"),
        (lambda one: replace(one, labels=(1,)), "the labels (1,)"),
        (lambda one: replace(one, labels=None), "the labels None"),
        (lambda one: replace(one, doubtful="rings"), "the doubtful labels 'rings'"),
        (lambda one: replace(one, doubtful=(1,)), "the doubtful labels (1,)"),
        (
            lambda one: replace(one, labels=("halo",), doubtful=("halo",)),
            "['halo'] (list) both among those accepted",
        ),
        (lambda one: replace(one, measured_order=2.0), "the measured order 2.0"),
        (lambda one: replace(one, measured_order=-2), "the measured order -2"),
        (lambda one: replace(one, measured_order=1 << 63), "the measured order 9223372036854775808"),
        (lambda one: replace(one, measured_contrast="high"), "measured_contrast = 'high'"),
        (lambda one: replace(one, measured_contrast=math.inf), "measured_contrast = inf"),
        (lambda one: replace(one, masked_pixels=1 << 63), "the number of masked pixels 9223372036854775808"),
        (lambda one: replace(one, scores={"rings": None}), "rings = None"),
        (lambda one: replace(one, scores={"rings": "plenty"}), "rings = 'plenty'"),
        (lambda one: replace(one, scores={"rings": math.inf}), "rings = inf"),
        (lambda one: replace(one, scores={5: 0.5}), "the scores {5: 0.5}"),
        (lambda one: replace(one, scores=[0.5]), "the scores [0.5]"),
        (lambda one: replace(one, novelty="new"), "novelty = 'new'"),
        (lambda one: replace(one, fit_residual=None), "fit_residual = None"),
        (lambda one: replace(one, origin=frame(99).origin), "index=99"),
    ],
)
def test_an_annotation_that_no_row_can_carry_costs_its_own_frame(inbox, change, said):
    class Odd(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            return [change(a) if a.scores["rings"] == 3 else a for a in super().annotate(frames)]

    held_back(Odd(), range(6), inbox, batch_size=6)
    assert inbox.indices == list(range(6))
    assert [annotation.origin.index for annotation in inbox.annotations if not annotation.ok] == [3]
    assert said in inbox.annotations[3].reason


@pytest.mark.parametrize("answer", [None, 5, iter([]), {"a": 1}])
def test_an_annotator_that_returns_no_list_costs_no_thread(inbox, answer):
    class Odd(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            return answer if index_of(frames[0]) == 0 else super().annotate(frames)

    with Worker(Odd(), batch_size=1) as worker:
        worker.submit(frame(0), inbox)
        worker.submit(frame(1), inbox)
    assert [annotation.ok for annotation in inbox.annotations] == [False, True]
    assert "not a list of annotations" in inbox.annotations[0].reason


def test_numbers_of_numpy_and_nan_are_numbers(inbox):
    class Numpy(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            scores = {"rings": np.float32(0.5), "halo": math.nan, "four_fold": 1}
            told = {"labels": ["rings"], "doubtful": ["halo"], "measured_order": np.int8(4)}
            return [replace(one, scores=scores, **told) for one in super().annotate(frames)]

    held_back(Numpy(), range(3), inbox, batch_size=3)
    assert all(annotation.ok for annotation in inbox.annotations)


def test_an_annotation_without_origin_gets_that_of_its_frame(inbox):
    class Anonymous(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            return [replace(one, origin=None) for one in super().annotate(frames)]

    held_back(Anonymous(), range(3), inbox, batch_size=3)
    assert inbox.indices == [0, 1, 2]


def test_an_annotator_that_ends_its_thread_ends_a_row(inbox):
    class Quitter(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            if index_of(frames[0]) == 0:
                raise SystemExit(3)
            return super().annotate(frames)

    with Worker(Quitter(), batch_size=1) as worker:
        worker.submit(frame(0), inbox)
        worker.submit(frame(1), inbox)
    assert [annotation.ok for annotation in inbox.annotations] == [False, True]


class Cramped(Echo):
    """Runs out of memory on batches above a size, and on one frame always."""

    def __init__(self, fits: int, *, monster: int | None = None) -> None:
        super().__init__()
        self.fits = fits
        self.monster = monster

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        annotations = super().annotate(frames)
        if len(frames) > self.fits or self.monster in map(index_of, frames):
            raise MemoryError(f"{len(frames)} frames")
        return annotations


def test_exhausted_memory_halves_batches_and_later_ones_are_small_from_the_start(inbox):
    annotator, metrics = Cramped(fits=3), Metrics()
    stats = held_back(annotator, range(24), inbox, batch_size=12, metrics=metrics)
    assert inbox.indices == list(range(24))
    assert all(annotation.ok for annotation in inbox.annotations)
    assert [len(batch) for batch in annotator.batches] == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]
    assert (stats.halvings, stats.batch_limit, stats.failed) == (2, 3, 0)
    assert metrics.snapshot()["dvfb_batch_halvings"]["values"][0]["value"] == 2


def test_the_limit_is_tried_again_after_a_while(inbox):
    annotator = Cramped(fits=3)
    stats = held_back(annotator, range(400), inbox, batch_size=12, max_frames=500)
    assert inbox.indices == list(range(400))
    assert max(len(batch) for batch in annotator.batches[4:]) == 4
    assert 2 < stats.halvings < 10


def test_a_frame_that_does_not_fit_alone_fails_alone(inbox):
    stats = held_back(Cramped(fits=100, monster=5), range(12), inbox, batch_size=12)
    assert inbox.indices == list(range(12))
    assert [annotation.origin.index for annotation in inbox.annotations if not annotation.ok] == [5]
    assert inbox.annotations[5].reason == "MemoryError: 1 frames"
    assert stats.failed == 1


class Breakable(Echo):
    """Loses its device at a frame, and works on another after it has fallen back."""

    def __init__(self, lost_at: int, *, also_elsewhere: bool = False) -> None:
        super().__init__()
        self.lost_at = lost_at
        self.also_elsewhere = also_elsewhere
        self.device = "cuda"
        self.broken = False
        self.moves = 0

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.broken |= self.lost_at in map(index_of, frames)
        if self.broken and (self.device == "cuda" or self.also_elsewhere):
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().annotate(frames)

    def fall_back(self) -> str:
        self.moves += 1
        self.device = "cpu"
        return self.device


def test_after_the_device_is_lost_no_frame_is(inbox, caplog):
    annotator, metrics = Breakable(lost_at=6), Metrics()
    with caplog.at_level(logging.ERROR):
        stats = held_back(annotator, range(20), inbox, batch_size=4, metrics=metrics)
    assert inbox.indices == list(range(20))
    assert all(annotation.ok for annotation in inbox.annotations)
    assert (stats.fallbacks, stats.device, annotator.moves) == (1, "cpu", 1)
    assert [record.message for record in caplog.records] == [
        "the device is lost: annotating on cpu from now on"
    ]
    assert metrics.snapshot()["dvfb_device_fallbacks"]["values"][0]["value"] == 1


def test_a_device_that_stays_lost_fails_frames_and_says_it_moved_once(inbox, caplog):
    annotator = Breakable(lost_at=2, also_elsewhere=True)
    with caplog.at_level(logging.ERROR):
        stats = held_back(annotator, range(8), inbox, batch_size=4)
    assert inbox.indices == list(range(8))
    assert not any(annotation.ok for annotation in inbox.annotations)
    assert "device-side assert" in inbox.annotations[0].reason
    assert (stats.fallbacks, stats.failed) == (1, 8)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("fall_back", [None, lambda: 1 / 0])
def test_an_annotator_that_cannot_fall_back_loses_frames_and_not_the_worker(inbox, fall_back):
    class Stuck(Echo):
        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            if index_of(frames[0]) < 4:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().annotate(frames)

    annotator = Stuck()
    if fall_back is not None:
        annotator.fall_back = fall_back
    stats = held_back(annotator, range(8), inbox, batch_size=4)
    assert [annotation.ok for annotation in inbox.annotations] == [False] * 4 + [True] * 4
    assert (stats.fallbacks, stats.device) == (0, "")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (MemoryError(), Failure.MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), Failure.MEMORY),
        (RuntimeError("CUDA error: out of memory"), Failure.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), Failure.MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), Failure.DEVICE),
        (RuntimeError("HIP error: invalid device function"), Failure.DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Failure.DEVICE),
        (RuntimeError("No CUDA GPUs are available"), Failure.DEVICE),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Failure.OTHER),
        (ValueError("CUDA error"), Failure.OTHER),
        (KeyError("x"), Failure.OTHER),
    ],
)
def test_errors_are_told_apart(error, meaning):
    assert failure_of(error) is meaning


def test_what_torch_raises_is_recognised():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as allocation:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failure_of(allocation.value) is Failure.MEMORY
    assert failure_of(torch.OutOfMemoryError("of no particular words")) is Failure.MEMORY
    assert failure_of(torch.AcceleratorError("of no particular words")) is Failure.DEVICE


def test_the_worker_does_not_load_torch():
    source = (
        "import sys, dvfb_stream.worker\n"
        "from dvfb_stream.device_failures import failure_of\n"
        "failure_of(RuntimeError('CUDA error'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_an_exception_does_not_keep_the_batch_alive(inbox):
    """Where memory is exhausted, the smaller batch needs what the larger one held."""

    class Hoarder(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.hoards: list[weakref.ref[set[int]]] = []

        def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
            assert not any(hoard() for hoard in self.hoards), "what the last attempt held is still there"
            hoard = {len(frames)}
            self.hoards.append(weakref.ref(hoard))
            if len(frames) > 1:
                raise MemoryError
            return super().annotate(frames)

    gc.disable()
    try:
        annotator = Hoarder()
        held_back(annotator, range(8), inbox, batch_size=8)
    finally:
        gc.enable()
    assert all(annotation.ok for annotation in inbox.annotations)
