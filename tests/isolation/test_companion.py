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

from dvfb_stream.errors import DvfbError
from dvfb_stream.failures import ReportedFailureError
from dvfb_stream.isolation import Cause, Companion, child_process
from dvfb_stream.isolation.frame_memory import FrameMemory

PATIENCE = 30.0
"""Seconds after which a test that waits has failed; none waits that long."""


@pytest.fixture
def memory():
    return FrameMemory()


@pytest.fixture
def make(memory):
    """Make companions of `Obedient`, and close them afterwards."""
    made = []

    def make(answer_within: float = PATIENCE) -> Companion:
        made.append(
            Companion(
                "fragile:Obedient", {}, memory=memory, called="the obedient", answer_within=answer_within
            )
        )
        return made[-1]

    yield make
    for companion in made:
        companion.close()


def asked(companion: Companion, do: str = "", held=()):
    with companion.asking() as ask:
        return ask({"do": do}, held)


def failed(companion: Companion, do: str = "", held=()) -> ReportedFailureError:
    with pytest.raises(ReportedFailureError) as raised:
        asked(companion, do, held)
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
    companion = make(answer_within=0.5 if do == "hang" else PATIENCE)
    failure = failed(companion, do)
    assert (failure.cause, failure.error) == (cause, error)
    assert asked(companion) == {"heard": []}


def test_a_note_that_cannot_be_heard_is_lost_and_nothing_else(make):
    companion = make()
    companion.start()
    pid = companion.pid
    companion.tell({"error": "for the sake of the note"})
    companion.tell({"say": "afterwards"})
    assert asked(companion) == {"heard": ["afterwards"]}
    assert companion.pid == pid


def test_it_runs_from_the_first_request_until_it_ends(make):
    companion = make()
    assert not companion.is_running
    asked(companion)
    assert companion.is_running
    failed(companion, "exit")
    assert not companion.is_running
    asked(companion)
    companion.close()
    assert not companion.is_running


def test_it_can_be_closed_where_sigterm_is_ignored(make):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        companion, failures = make(), []
        companion.start()
        thread = threading.Thread(target=lambda: failures.append(failed(companion, "hang")))
        thread.start()
        started = time.monotonic()
        companion.close()
        thread.join(PATIENCE)
        assert time.monotonic() - started < child_process.SECONDS_TO_END
        assert [failure.cause for failure in failures] == [Cause.CLOSED]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_closing_frees_who_tells_what_nobody_hears(make):
    companion = make()
    companion.start()
    os.kill(companion.pid, signal.SIGSTOP)
    teller = threading.Thread(target=companion.tell, args=({"say": "x" * (1 << 24)},), daemon=True)
    teller.start()
    teller.join(0.2)
    companion.close()
    teller.join(PATIENCE)
    assert not teller.is_alive()


def test_what_cannot_be_ended_is_left_and_what_was_lent_to_it_is_not_used_again(make, memory, monkeypatch):
    # As a process that waits for a file server: the signal is sent, and nothing comes of it for now.
    monkeypatch.setattr(child_process, "SECONDS_TO_END", 0.1)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: None)
    companion = make(answer_within=0.5)
    companion.start()
    stuck = companion.pid
    pixels = memory.shared((600, 600), np.float64)
    place = memory.place_of(pixels)
    assert failed(companion, "hang", [pixels]).cause is Cause.TIMED_OUT
    del pixels
    gc.collect()
    other = memory.shared((600, 600), np.float64)
    assert memory.place_of(other) != place
    assert asked(companion) == {"heard": []}
    assert companion.pid != stuck

    monkeypatch.undo()
    os.kill(stuck, signal.SIGKILL)
    os.waitid(os.P_PID, stuck, os.WEXITED | os.WNOWAIT)
    companion.end()
    asked(companion)
    gc.collect()
    assert memory.place_of(memory.shared((600, 600), np.float64)) == place


def test_closing_does_not_wait_for_ever_for_what_cannot_be_ended(make, monkeypatch):
    monkeypatch.setattr("dvfb_stream.isolation.service_process.SECONDS_TO_CLOSE", 0.1)
    companion = make()
    companion.start()
    with companion.asking():
        closing = threading.Thread(target=companion.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
    assert companion.pid is None


def test_paths_that_are_no_strings_do_not_keep_it_from_starting(make, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, None])
    assert asked(make()) == {"heard": []}


@pytest.mark.parametrize(
    ("executable", "error"), [("/nowhere/python", "FileNotFoundError"), ("/", "PermissionError")]
)
def test_what_the_system_does_not_start_is_tried_again_later(make, monkeypatch, executable, error):
    companion = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", executable)
        failure = failed(companion)
        assert failure.cause is Cause.NOT_STARTED
        assert error in str(failure)
        failure = failed(companion)
        assert failure.cause is Cause.NOT_STARTED
        assert "it is tried again within 1 s" in str(failure)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert asked(companion) == {"heard": []}
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
