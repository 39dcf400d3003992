"""Processes end with the one that they work for, whatever ends it, in the middle of a task."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from dvfb_stream.process_pool import process_pool

SECONDS = 5.0
"""Within which a process has to be gone."""

PARENT = """
import os, sys, threading
from dvfb_stream.process_pool import process_pool

def never_ends():
    os.write(1, f"{os.getpid()}\\n".encode())
    threading.Event().wait()

if __name__ == "__main__":
    with process_pool(2) as pool:
        for future in [pool.submit(never_ends) for _ in range(2)]:
            future.result()
"""


def ended(process_ids, seconds=SECONDS):
    """Whether all of the processes end within some seconds."""
    until = time.monotonic() + seconds
    for process_id in process_ids:
        try:
            descriptor = os.pidfd_open(process_id)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                return False
        finally:
            os.close(descriptor)
    return True


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes as Linux lets one")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_it_works_for(tmp_path, end):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # These tests may run in a shell's background, where Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        process_group=0,
    )
    with parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        try:
            # Ctrl-C goes to all processes of a terminal.
            (os.killpg if end == signal.SIGINT else os.kill)(parent.pid, end)
            assert ended([parent.pid, *workers])
        finally:
            for process_id in (parent.pid, *workers):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
        said = parent.stderr.read()
    assert said.count(b"Traceback") == (end == signal.SIGINT)  # the parent's own


def test_leaving_the_block_does_not_wait_for_what_runs():
    with process_pool(1) as pool:
        forever = pool.submit(signal.pause)
    assert forever.done()


def test_processes_compute_with_one_thread():
    with process_pool(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"


def test_ctrl_c_is_for_the_process_that_has_the_terminal():
    with process_pool(1) as pool:
        assert signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
