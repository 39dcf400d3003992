"""An annotator in a process of its own answers as one in this process does, and what befalls it stays there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fragile import FACTORY, GEOMETRY, Diligent, Grief, frame

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.device_failures import Failure, ReportedFailureError, failure_of
from dvfb_stream.errors import BundleError, FrameError, SettingsError
from dvfb_stream.isolation import AnnotatorProcess
from dvfb_stream.isolation.annotator_service import AnnotatorService
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.shared_batches import BatchWriter
from dvfb_stream.metrics import Metrics, catalogue
from dvfb_stream.worker import Worker

PATIENCE = 30.0
"""Seconds after which a test that waits has failed; none waits that long."""


@pytest.fixture
def start():
    """Start processes of `Fragile`, and end them afterwards."""
    started = []

    def start(
        *, factory=FACTORY, answer_within: float = PATIENCE, metrics: Metrics | None = None, **settings
    ):
        started.append(AnnotatorProcess(factory, settings, answer_within=answer_within, metrics=metrics))
        return started[-1]

    yield start
    for process in started:
        process.close()


def restarts(metrics: Metrics) -> float:
    (value,) = metrics.snapshot()[catalogue.RESTARTS.name]["values"]
    return value["value"]


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has not looked at yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.02)


def annotates(process: AnnotatorProcess) -> bool:
    try:
        return process.annotate([frame(1)])[0].ok
    except ReportedFailureError:
        return False


def test_annotations_are_those_of_the_annotator_in_this_process(tiny_bundle):
    rng = np.random.default_rng(0)
    shape = (180, 200)
    mask = rng.random(shape) > 0.1
    plain, masked = (Geometry(shape=shape, center_x=90.3, center_y=70.1, mask=m) for m in (None, mask))
    counts = rng.poisson(20, (4, *shape))
    frames = [
        Frame(counts[0].astype(np.uint16), plain),
        Frame(counts[1].astype(">i4"), plain),
        Frame(counts[2].astype(np.float32).T.copy().T, plain),
        Frame(counts[3].astype(np.float64)[:, :-1], plain),  # of another shape
        Frame(np.full(shape, np.nan), plain),
        Frame(counts[0].astype(np.int64), masked),
        Frame(counts[1].astype(np.uint8), masked),
    ]
    here = Annotator.load(tiny_bundle, device="cpu")
    there = AnnotatorProcess.load(tiny_bundle, device="cpu")
    try:
        assert there.identity == here.identity
        assert there.provenance() == here.provenance()
        for group in (frames[:5], frames[5:]):
            for expected, found in zip(here.annotate(group), there.annotate(group), strict=True):
                for name in ("status", "reason", "remark", "labels", "doubtful", "measured_order"):
                    assert getattr(found, name) == getattr(expected, name)
                np.testing.assert_allclose(
                    list(found.scores.values()), list(expected.scores.values()), rtol=1e-5
                )
                np.testing.assert_allclose(
                    [found.fit_residual, found.novelty, found.measured_contrast],
                    [expected.fit_residual, expected.novelty, expected.measured_contrast],
                    rtol=1e-5,
                )
    finally:
        there.close()


def test_arrays_that_were_asked_for_come_back_also_from_a_process_that_was_started_again(start):
    process = start()
    assert process.arrays == {"features": (2,)}
    assert process.annotate([frame(3)])[0].features is None
    process.keep_arrays(["features"])
    np.testing.assert_array_equal(process.annotate([frame(3)])[0].features, [3, 3])
    with pytest.raises(ReportedFailureError):
        process.annotate([frame(Grief.KILL)])
    wait_for(lambda: annotates(process))
    np.testing.assert_array_equal(process.annotate([frame(4)])[0].features, [4, 4])


def test_origin_model_and_values_come_back_as_they_are(start):
    process = start()
    masked = Geometry(shape=(3, 5), center_x=-7.25, center_y=0, mask=np.arange(15).reshape(3, 5) != 4)
    frames = [frame(7, 3), frame(8, 4, masked), frame(9, 5)]
    annotations = process.annotate(frames)
    assert [annotation.origin for annotation in annotations] == [frame.origin for frame in frames]
    assert {annotation.model for annotation in annotations} == {process.identity}
    assert [annotation.scores for annotation in annotations] == [{"rings": v} for v in (7.0, 8.0, 9.0)]
    assert [annotation.novelty for annotation in annotations] == [1.5, -7.25, 1.5]
    assert {annotation.doubtful for annotation in annotations} == {("two_fold", "halo")}
    assert {annotation.measured_order for annotation in annotations} == {6}
    assert [annotation.measured_contrast for annotation in annotations] == [
        annotation.scores["rings"] / 2 for annotation in annotations
    ]
    assert all(np.isnan(annotation.fit_residual) for annotation in annotations)
    assert [annotation.reason.split()[2] for annotation in annotations] == [
        frame.geometry.digest for frame in frames
    ]


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "<i2", ">u4", "<i8", "<f2", ">f8"])
def test_pixels_of_every_type_of_number_arrive(start, dtype):
    pixels = np.ones((3, 5), dtype)
    (annotation,) = start().annotate([Frame(pixels, GEOMETRY)])
    assert annotation.reason.split()[1] == dtype
    assert annotation.scores == {"rings": 1.0}


def test_batches_may_grow_and_shrink_and_be_empty(start):
    process = start()
    large = Geometry(shape=(700, 800), center_x=0, center_y=0)
    for count, geometry in ((1, GEOMETRY), (3, large), (2, GEOMETRY), (5, large), (0, large)):
        frames = [frame(value, geometry=geometry) for value in range(count)]
        assert [a.scores["rings"] for a in process.annotate(frames)] == list(range(count))


def test_pixels_that_are_no_numbers_are_refused_here(start):
    with pytest.raises(FrameError, match="object"):
        start().annotate([Frame(np.full((3, 5), "a", dtype=object), GEOMETRY)])


def test_what_the_factory_refuses_is_raised_here():
    with pytest.raises(BundleError, match="no-such-model"):
        AnnotatorProcess.load("no-such-model")
    with pytest.raises(SettingsError, match="for the sake of settings"):
        AnnotatorProcess(FACTORY, {"refuse": "settings"})
    with pytest.raises(BundleError, match="for the sake of bundle"):
        AnnotatorProcess(FACTORY, {"refuse": "bundle"})
    with pytest.raises(ReportedFailureError, match="ValueError: refused for the sake of value"):
        AnnotatorProcess(FACTORY, {"refuse": "value"})
    with pytest.raises(SettingsError, match="answer_within"):
        AnnotatorProcess(FACTORY, {}, answer_within=0)


@pytest.mark.parametrize(
    ("grief", "failure", "message"),
    [
        (Grief.EXIT, Failure.OTHER, "the process of the annotator ended with exit status 3"),
        (Grief.KILL, Failure.MEMORY, "was killed: the system may be out of memory"),
        (Grief.HANG, Failure.DEVICE, "did not answer within 0.5 s"),
        (Grief.VALUE_ERROR, Failure.OTHER, "ValueError: not of value"),
        (Grief.FRAME_ERROR, Failure.OTHER, "not a frame"),
        (Grief.DEVICE, Failure.DEVICE, "illegal memory access"),
        (Grief.MEMORY, Failure.MEMORY, "MemoryError"),
    ],
)
def test_what_befalls_it_is_said_and_the_next_batch_is_annotated(start, grief, failure, message):
    process = start(answer_within=0.5 if grief is Grief.HANG else PATIENCE)
    with pytest.raises(ReportedFailureError, match=message) as raised:
        process.annotate([frame(grief), frame(1)])
    assert failure_of(raised.value) is failure
    assert process.annotate([frame(5)])[0].scores == {"rings": 5.0}


def test_a_batch_that_hangs_on_the_cpu_is_no_lost_device(start):
    process = start(answer_within=0.5, device="cpu")
    with pytest.raises(ReportedFailureError, match="did not answer") as raised:
        process.annotate([frame(Grief.HANG)])
    assert failure_of(raised.value) is Failure.OTHER


def test_a_frame_that_brings_the_process_down_costs_its_own_row(start, inbox):
    metrics = Metrics()
    process = start(metrics=metrics)
    values = [1, 2, Grief.EXIT, 3, Grief.VALUE_ERROR, 4]
    with Worker(process, batch_size=6, max_wait=PATIENCE) as worker:
        for index, value in enumerate(values):
            worker.submit(frame(value, index), inbox)
        assert worker.drain(PATIENCE)
    rows = {a.origin.index: a for a in inbox.annotations}
    assert [rows[index].ok for index in range(6)] == [True, True, False, True, False, True]
    assert "exit status 3" in rows[2].reason
    assert rows[4].reason == "ValueError: not of value"
    assert restarts(metrics) >= 1


def test_three_kills_cost_no_frame_that_waits(start, inbox, tmp_path):
    """While the process cannot even be started again, for a while, as where its model lies on a slow file server."""
    version, starts = tmp_path / "version", tmp_path / "starts"
    version.write_text("1")
    process = start(version_file=str(version), starts_file=str(starts))
    with Worker(process, batch_size=4, max_wait=0) as worker:
        index = 0
        for _ in range(3):
            version.unlink()
            tried = len(starts.read_text())
            os.kill(process.pid, signal.SIGKILL)
            for _ in range(20):
                worker.submit(frame(index, index), inbox)
                index += 1
            wait_for(lambda tried=tried: len(starts.read_text()) > tried)
            version.write_text("1")
            assert worker.drain(PATIENCE)
        assert worker.stats().dropped == 0
    assert inbox.indices == list(range(60))
    assert [annotation.reason for annotation in inbox.annotations if not annotation.ok] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_frame_that_is_alone_in_a_process_that_somebody_ends_is_tried_again(start, inbox, tmp_path, number):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process = start(gate_file=str(gate))
    with Worker(process, batch_size=1) as worker:
        worker.submit(frame(Grief.GATE, 0), inbox)
        worker.submit(frame(7, 1), inbox)
        with gate.open("w"):  # opens when the frame is there, and lets it go when it is closed
            os.kill(process.pid, number)
            wait_for(lambda pid=process.pid: process.pid != pid)
        with gate.open("w"):
            pass
        assert worker.drain(PATIENCE)
    assert inbox.indices == [0, 1]
    assert all(annotation.ok for annotation in inbox.annotations)


def test_a_lost_device_goes_with_its_process_and_the_cpu_takes_over(start, inbox):
    process = start(device="cuda")
    first = process.pid
    with Worker(process, batch_size=4) as worker:
        for index, value in enumerate([1, Grief.DEVICE, 3]):
            worker.submit(frame(value, index), inbox)
        assert worker.drain(PATIENCE)
        assert (worker.stats().device, worker.stats().fallbacks) == ("cpu", 1)
    assert all(annotation.ok for annotation in inbox.annotations)
    assert process.pid != first
    assert process.annotate([frame(1)])[0].reason.startswith("cpu ")


def test_a_process_that_was_killed_between_batches_is_started_again(start):
    metrics = Metrics()
    process = start(metrics=metrics)
    process.annotate([frame(1)])
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda pid=process.pid: has_ended(pid))
    assert process.annotate([frame(2)])[0].scores == {"rings": 2.0}
    assert restarts(metrics) == 1


def test_another_model_after_a_restart_is_refused(start, tmp_path):
    file = tmp_path / "version"
    file.write_text("1")
    process = start(version_file=str(file))
    file.write_text("2")
    with pytest.raises(ReportedFailureError, match="exit status 3"):
        process.annotate([frame(Grief.EXIT)])
    with pytest.raises(ReportedFailureError, match=r"was fragile 1 .* and is fragile 2 .* now"):
        process.annotate([frame(1)])
    file.write_text("1")
    wait_for(lambda: annotates(process))


def test_a_process_that_does_not_start_is_tried_again_later(start, tmp_path):
    file = tmp_path / "version"
    file.write_text("1")
    process = start(version_file=str(file))
    file.unlink()
    with pytest.raises(ReportedFailureError, match="exit status 3"):
        process.annotate([frame(Grief.EXIT)])
    with pytest.raises(ReportedFailureError, match="FileNotFoundError"):
        process.annotate([frame(1)])
    with pytest.raises(ReportedFailureError, match=r"FileNotFoundError.*; it is tried again within 1 s"):
        process.annotate([frame(1)])
    file.write_text("1")
    wait_for(lambda: annotates(process))


def test_frames_are_prepared_there_on_other_threads_before_their_batch(start):
    process = start(factory="fragile:Diligent")
    assert process.prepares_ahead
    assert not start().prepares_ahead
    prepared = [process.prepare(frame(value, value)) for value in range(5)]
    annotations = process.annotate_prepared(prepared)
    assert [annotation.scores["rings"] for annotation in annotations] == list(range(5))
    assert [annotation.origin.index for annotation in annotations] == list(range(5))
    assert all(annotation.reason.startswith("dvfb-prepare") for annotation in annotations)


def test_what_was_prepared_in_a_process_that_has_ended_is_prepared_again(start):
    process = start(factory="fragile:Diligent")
    prepared = [process.prepare(frame(value)) for value in range(3)]
    with pytest.raises(ReportedFailureError, match="exit status 3"):
        process.annotate([frame(Grief.EXIT)])
    annotations = process.annotate_prepared(prepared)
    assert [(a.scores["rings"], a.reason) for a in annotations] == [(v, "MainThread") for v in range(3)]


def test_as_many_frames_are_prepared_ahead_as_two_batches_hold(start):
    process = start(factory="fragile:Diligent")
    batches = [[process.prepare(frame(value)) for value in range(400)] for _ in range(2)]
    for batch in batches:
        annotations = process.annotate_prepared(batch)
        assert {annotation.reason[:12] for annotation in annotations} == {"dvfb-prepare"}


def test_frames_that_are_prepared_and_dropped_are_let_go_there():
    memory = FrameMemory()
    batches = BatchWriter(memory)
    service = AnnotatorService(memory.file, "fragile:Diligent", {})
    frames = [batches.placed(frame(value)) for value in range(5)]
    for number, one in enumerate(frames):
        service.notify({"number": number, "batch": batches.as_json([one])[0]})
    service.handle({"batch": batches.as_json(frames[3:4])[0], "numbers": [3], "oldest": 3, "arrays": []})
    wait_for(lambda: [ready.frame.pixels[0, 0] for ready in Diligent.ready] == [4.0])


def test_a_worker_has_frames_prepared_there(start, inbox):
    process = start(factory="fragile:Diligent")
    with Worker(process, batch_size=4) as worker:
        for index in range(20):
            worker.submit(frame(index, index), inbox)
        assert worker.drain(PATIENCE)
    assert inbox.indices == list(range(20))
    assert {annotation.reason[:12] for annotation in inbox.annotations} == {"dvfb-prepare"}


def test_closing_ends_the_process_and_a_batch_in_work(start):
    process = start()
    pid, errors = process.pid, []

    def annotate():
        try:
            process.annotate([frame(Grief.HANG)])
        except ReportedFailureError as error:
            errors.append(str(error))

    thread = threading.Thread(target=annotate)
    thread.start()
    process.close()
    thread.join(PATIENCE)
    assert errors == ["the annotator was closed"]
    assert has_ended(pid)
    with pytest.raises(ReportedFailureError, match="closed"):
        process.annotate([frame(1)])
    process.close()


SCRIPT = """
import os, sys, threading
from fragile import FACTORY, frame
from dvfb_stream.isolation import AnnotatorProcess

settings = {settings}
process = AnnotatorProcess(FACTORY, settings)
print(process.pid, flush=True)
{then}
"""


def run_script(then: str, **settings: str) -> subprocess.Popen:
    script = SCRIPT.format(then=then, settings=settings)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # It hears Ctrl-C where these tests run in a shell's background, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    "then",
    [
        "print(flush=True)\nthreading.Event().wait()",
        # Another process keeps the connection open.
        "child = os.fork()\nprint(child, flush=True) if child else os.setsid()\nthreading.Event().wait()",
    ],
    ids=["alone", "forked"],
)
def test_it_ends_with_the_process_that_has_started_it(then):
    script = run_script(then)
    pid = int(script.stdout.readline())
    forked = script.stdout.readline().strip()
    assert not has_ended(pid)
    try:
        script.kill()
        script.wait(PATIENCE)
        wait_for(lambda: has_ended(pid))
    finally:
        if forked:
            os.kill(int(forked), signal.SIGKILL)
        script.stdout.close()


def test_it_ends_with_the_process_that_has_started_it_though_it_is_stuck():
    script = run_script("print(flush=True)\nprocess.annotate([frame(1003)])")  # Grief.HANG
    pid = int(script.stdout.readline())
    script.stdout.readline()
    script.kill()
    script.wait(PATIENCE)
    wait_for(lambda: has_ended(pid))
    script.stdout.close()


def test_an_answer_that_nobody_waits_for_is_not_taken_for_the_next(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    interrupt = (
        "import signal\n"
        "def leave(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, leave)\n"
        "gated, gate = [frame(1008)], settings['gate_file']\n"  # Grief.GATE
        "try:\n    signal.setitimer(signal.ITIMER_REAL, 0.5)\n    process.annotate(gated)\n"
        "except KeyboardInterrupt:\n"
        "    try: os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))\n"
        "    except OSError: pass\n"  # it waits there no more
        "    print(process.annotate([frame(3)])[0].scores)"
    )
    script = run_script(interrupt, gate_file=str(gate))
    out, _ = script.communicate(timeout=PATIENCE)
    assert out.splitlines()[1:] == ["{'rings': 3.0}"]


def test_a_process_that_ends_without_closing_it_leaves_nothing_behind():
    script = run_script("print(process.annotate([frame(3)])[0].scores)")
    out, _ = script.communicate(timeout=PATIENCE)
    pid, said = out.splitlines()
    assert said == "{'rings': 3.0}"
    assert script.returncode == 0
    wait_for(lambda: has_ended(int(pid)))


def test_ctrl_c_does_not_reach_it():
    script = run_script(
        "try:\n    print(flush=True)\n    threading.Event().wait(60)\nexcept KeyboardInterrupt:\n"
        "    print(process.pid, process.annotate([frame(3)])[0].ok)"
    )
    pid = script.stdout.readline().strip()
    script.stdout.readline()  # it waits
    os.killpg(script.pid, signal.SIGINT)
    assert script.stdout.readline().split() == [pid, "True"]
    assert script.wait(PATIENCE) == 0
    script.stdout.close()
