"""However a worker is closed, and whoever does it, nobody waits for himself and every frame gets its row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dvfb_stream.worker import FullQueuePolicy, Worker

from .conftest import PATIENCE, Echo, Gated, frame, in_thread


def test_closing_twice_while_the_annotator_is_stuck(inbox):
    annotator = Gated()
    worker = Worker(annotator, batch_size=1)
    for index in range(3):
        worker.submit(frame(index), inbox)
    assert annotator.reached.wait(PATIENCE)
    worker.close(timeout=0)
    worker.close(timeout=0)
    assert inbox.indices == [1, 2]
    annotator.gate.set()
    worker.close()
    assert inbox.indices == [1, 2, 0]
    assert [annotation.ok for annotation in inbox.annotations] == [False, False, True]


def test_closing_from_several_threads_at_once(inbox):
    annotator = Gated()
    worker = Worker(annotator, batch_size=1)
    for index in range(20):
        worker.submit(frame(index), inbox)
    assert annotator.reached.wait(PATIENCE)
    threads = [in_thread(lambda: worker.close(timeout=0)) for _ in range(4)]
    for thread in threads:
        thread.join(PATIENCE)
    annotator.gate.set()
    worker.close()
    assert sorted(inbox.indices) == list(range(20))


def test_a_receiver_that_closes_does_not_wait_for_itself(inbox):
    worker = Worker(Echo(), batch_size=1)

    def close_and_keep(annotation):
        worker.close()
        assert not worker.drain()
        inbox(annotation)

    worker.submit(frame(0), close_and_keep)
    worker.close()
    worker.submit(frame(1), inbox)
    assert [annotation.ok for annotation in inbox.annotations] == [True, False]


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, RuntimeError])
def test_whatever_a_receiver_raises_the_others_get_their_rows(inbox, kind):
    def refuse(annotation):
        raise kind("not mine")

    with Worker(Echo(), batch_size=1) as worker:
        worker.submit(frame(0), refuse)
        worker.submit(frame(1), inbox)
        assert worker.drain(PATIENCE)
        assert worker.stats().undelivered == 1
    assert inbox.indices == [1]


def test_closing_at_exit_annotates_what_is_held():
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, [str(index) for index in range(50)]), done.stderr


def test_a_process_that_ends_without_closing_abandons_what_is_held():
    source = AT_EXIT.replace(
        "atexit.register(worker.close)", "dvfb_stream.worker.shutdown.SECONDS_AT_EXIT = 0.1"
    )
    done = subprocess.run(
        [sys.executable, "-c", source.replace("gate.set()", "")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_end_of_a_process_waits_for_the_batch_in_work_and_begins_no_other():
    """The interpreter would stop the thread in the middle; in the middle of torch, that is an abort."""
    done = subprocess.run(
        [sys.executable, "-c", IN_WORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["annotated", "0"]), done.stderr


def test_who_is_let_go_by_closing_while_the_policy_samples(inbox):
    annotator = Gated()
    worker = Worker(annotator, batch_size=1, max_frames=1, policy=FullQueuePolicy.SAMPLE)
    worker.submit(frame(0), inbox)
    second = in_thread(lambda: worker.submit(frame(1), inbox, wait=True))
    assert annotator.reached.wait(PATIENCE)
    worker.close(timeout=0)
    second.join(PATIENCE)
    assert inbox.indices == [1]
    annotator.gate.set()
    worker.close()
    assert inbox.indices == [1, 0]


_STAND_INS = f"""
import sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import Gated, frame
import dvfb_stream.worker.shutdown
from dvfb_stream.worker import Worker
annotator = Gated()
gate = annotator.gate
"""

IN_WORK = (
    _STAND_INS
    + """
import threading
annotate = annotator.annotate

def slowly(frames):
    annotator.reached.set()
    threading.main_thread().join(10)  # until the process ends, this batch is in work
    print("annotated", flush=True)
    gate.set()
    return annotate(frames)

annotator.annotate = slowly
worker = Worker(annotator, batch_size=1)
for index in range(5):
    worker.submit(frame(index), lambda a: print(a.origin.index, flush=True))
assert annotator.reached.wait(10)
"""
)

AT_EXIT = (
    _STAND_INS
    + """
import atexit
worker = Worker(annotator)
atexit.register(worker.close)
for index in range(50):
    worker.submit(frame(index), lambda a: print(a.origin.index, flush=True))
gate.set()
"""
)
