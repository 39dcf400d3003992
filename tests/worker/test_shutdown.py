"""The end of a process: one deadline for all that end with it, and nothing to wait for in a process forked off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STAND_INS = f"""
import os, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import Gated, frame
from dvfb_stream.worker import Worker, shutdown

began = time.monotonic()
def stuck():
    annotator = Gated()
    worker = Worker(annotator, batch_size=1)
    for index in range(3):
        worker.submit(frame(index), lambda annotation: None)
    assert annotator.reached.wait(10)
    return worker
"""


def end_of(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", STAND_INS + script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_that_end_with_a_process_share_one_deadline():
    said = end_of("""
import atexit
clock = [0.0]
shutdown.time = type("Clock", (), {"monotonic": lambda: clock[0]})
def after(seconds):
    clock[0] += seconds
    return round(shutdown.seconds_for_rows(), 3), round(shutdown.seconds_left(), 3)
clock[0] = 1000.0
print(after(0.0), after(3.0), after(6.0), after(5.0))
""")
    assert said.strip() == "(8.0, 10.0) (5.0, 7.0) (0.0, 1.0) (0.0, 0.0)"


def test_workers_that_are_stuck_do_not_add_up():
    said = end_of("""
shutdown.SECONDS_AT_EXIT = 0.5
import atexit
atexit._clear()
workers = [stuck() for _ in range(4)]
from dvfb_stream.worker.worker import _rest_all
began = time.monotonic()
_rest_all()
print(time.monotonic() - began < 0.5 * 4)
os._exit(0) if sys.stdout.flush() is None else None
""")
    assert said.strip() == "True"


def test_a_process_that_is_forked_off_has_nothing_to_wait_for():
    said = end_of("""
worker = stuck()
child = os.fork()
if child == 0:
    sys.exit(7)
began = time.monotonic()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), time.monotonic() - began < shutdown.SECONDS_AT_EXIT / 2, flush=True)
os._exit(0)
""")
    assert said.strip() == "7 True"
