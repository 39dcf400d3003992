"""A process that serves this one costs a request at most, whatever becomes of it, and never this process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dvfb_stream.device_failures import Cause, ReportedFailureError
from dvfb_stream.errors import DvfbError
from dvfb_stream.isolation import ServiceProcess, child_process
from dvfb_stream.isolation.frame_memory import FrameMemory

PATIENCE = 30.0
"""Seconds after which a test that waits has failed; none waits that long."""


@pytest.fixture
def memory():
    return FrameMemory()


@pytest.fixture
def make(memory):
    """Make processs of `Obedient`, and close them afterwards."""
    made = []

    def make(answer_within: float = PATIENCE) -> ServiceProcess:
        made.append(
            ServiceProcess(
                "fragile:Obedient", {}, memory=memory, called="the obedient", answer_within=answer_within
            )
        )
        return made[-1]

    yield make
    for process in made:
        process.close()


def asked(process: ServiceProcess, do: str = "", held=()):
    with process.asking() as ask:
        return ask({"do": do}, held)


def failed(process: ServiceProcess, do: str = "", held=()) -> ReportedFailureError:
    with pytest.raises(ReportedFailureError) as raised:
        asked(process, do, held)
    return raised.value


@pytest.mark.parametrize(
    ("do", "cause", "error"),
    [
        ("raise", Cause.RAISED, "FrameError"),
        ("exit", Cause.ENDED, ""),
        ("be killed", Cause.KILLED, ""),
        ("hang", Cause.TIMED_OUT, ""),
    ],
)
def test_it_is_said_how_a_request_came_to_fail(make, do, cause, error):
    process = make(answer_within=0.5 if do == "hang" else PATIENCE)
    failure = failed(process, do)
    assert (failure.cause, failure.error) == (cause, error)
    assert asked(process) == {"heard": []}


def test_a_note_that_cannot_be_heard_is_lost_and_nothing_else(make):
    process = make()
    process.start()
    pid = process.pid
    process.notify({"error": "for the sake of the note"})
    process.notify({"say": "afterwards"})
    assert asked(process) == {"heard": ["afterwards"]}
    assert process.pid == pid


def test_it_runs_from_the_first_request_until_it_ends(make):
    process = make()
    assert not process.is_running
    asked(process)
    assert process.is_running
    failed(process, "exit")
    assert not process.is_running
    asked(process)
    process.close()
    assert not process.is_running


def test_it_can_be_closed_where_sigterm_is_ignored(make):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        process, failures = make(), []
        process.start()
        thread = threading.Thread(target=lambda: failures.append(failed(process, "hang")))
        thread.start()
        started = time.monotonic()
        process.close()
        thread.join(PATIENCE)
        assert time.monotonic() - started < child_process.SECONDS_TO_END
        assert [failure.cause for failure in failures] == [Cause.CLOSED]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_closing_frees_who_tells_what_nobody_hears(make):
    process = make()
    process.start()
    os.kill(process.pid, signal.SIGSTOP)
    teller = threading.Thread(target=process.notify, args=({"say": "x" * (1 << 24)},), daemon=True)
    teller.start()
    teller.join(0.2)
    process.close()
    teller.join(PATIENCE)
    assert not teller.is_alive()


def test_what_cannot_be_ended_is_left_and_what_was_lent_to_it_is_not_used_again(make, memory, monkeypatch):
    # As a process that waits for a file server: the signal is sent, and nothing comes of it for now.
    monkeypatch.setattr(child_process, "SECONDS_TO_END", 0.1)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: None)
    process = make(answer_within=0.5)
    process.start()
    stuck = process.pid
    pixels = memory.shared((600, 600), np.float64)
    place = memory.place_of(pixels)
    assert failed(process, "hang", [pixels]).cause is Cause.TIMED_OUT
    del pixels
    gc.collect()
    other = memory.shared((600, 600), np.float64)
    assert memory.place_of(other) != place
    assert asked(process) == {"heard": []}
    assert process.pid != stuck

    monkeypatch.undo()
    os.kill(stuck, signal.SIGKILL)
    os.waitid(os.P_PID, stuck, os.WEXITED | os.WNOWAIT)
    process.end()
    asked(process)
    gc.collect()
    assert memory.place_of(memory.shared((600, 600), np.float64)) == place


def test_closing_does_not_wait_for_ever_for_what_cannot_be_ended(make, monkeypatch):
    monkeypatch.setattr("dvfb_stream.isolation.service_process.SECONDS_TO_CLOSE", 0.1)
    process = make()
    process.start()
    with process.asking():
        closing = threading.Thread(target=process.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
    assert process.pid is None


def test_paths_that_are_no_strings_do_not_keep_it_from_starting(make, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, None])
    assert asked(make()) == {"heard": []}


@pytest.mark.parametrize(
    ("executable", "error"), [("/nowhere/python", "FileNotFoundError"), ("/", "PermissionError")]
)
def test_what_the_system_does_not_start_is_tried_again_later(make, monkeypatch, executable, error):
    process = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", executable)
        failure = failed(process)
        assert failure.cause is Cause.NOT_STARTED
        assert error in str(failure)
        failure = failed(process)
        assert failure.cause is Cause.NOT_STARTED
        assert "it is tried again within 1 s" in str(failure)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert asked(process) == {"heard": []}
            return
        except ReportedFailureError:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)


def test_a_directory_that_was_deleted_is_said(make, monkeypatch, tmp_path):
    directory = tmp_path / "deleted"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert failed(make()).cause is Cause.NOT_STARTED


@pytest.mark.parametrize(("attribute", "value"), [("executable", ""), ("frozen", True)])
def test_where_there_is_no_python_it_is_said_what_to_do(make, monkeypatch, attribute, value):
    monkeypatch.setattr(sys, attribute, value, raising=False)
    with pytest.raises(DvfbError, match='annotate_in="thread"'):
        make().start()
