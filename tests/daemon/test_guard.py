"""A daemon that is stuck is ended with the reason, told to stop or not; one that works is left alone."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from dvfb_stream.daemon import guard as guard_module
from dvfb_stream.daemon.guard import Guard
from dvfb_stream.daemon.health import Health
from dvfb_stream.daemon.progress import Stuck, drain_while_busy
from dvfb_stream.daemon.supervisor import READY, tell_supervisor
from dvfb_stream.daemon.waiting import wait_for
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.metrics import Metrics


class Ended:
    """Takes the place of the end of the process."""

    def __init__(self):
        self.reason = ""
        self.heard = threading.Event()

    def __call__(self, reason):
        self.reason = reason
        self.heard.set()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(guard_module, "_LOOK_SECONDS", 0.02)


def test_a_loop_that_does_not_turn_ends_the_process():
    ended = Ended()
    health = Health((), patience=0.1, metrics=Metrics())
    with Guard(health, patience=0.2, drain_timeout=60, end=ended):
        assert ended.heard.wait(30)
    assert "the loop has not turned for" in ended.reason


def test_one_that_turns_is_left_alone_until_it_is_told_to_stop_and_does_not(monkeypatch):
    monkeypatch.setattr(guard_module, "SECONDS_TO_CLOSE", 0.2)
    ended = Ended()
    health = Health((), patience=60, metrics=Metrics())
    with Guard(health, patience=60, drain_timeout=0.2, end=ended) as guard:
        assert not ended.heard.wait(0.6)
        guard.expect_end()
        assert ended.heard.wait(30)
    assert "told to stop" in ended.reason


def test_the_end_says_the_reason_and_where_each_thread_is():
    script = (
        "import logging, threading\n"
        "logging.basicConfig()\n"
        "from dvfb_stream.daemon.guard import end_process\n"
        "def stuck_here(): threading.Event().wait()\n"
        "threading.Thread(target=stuck_here, daemon=True).start()\n"
        "end_process('nothing moves')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "nothing moves" in ended.stderr
    assert "in stuck_here" in ended.stderr


def test_systemd_is_told(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        assert tell_supervisor(READY, environment={"NOTIFY_SOCKET": address})
        assert systemd.recv(100) == b"READY=1"
    assert not tell_supervisor(READY, environment={"NOTIFY_SOCKET": address})  # it has gone
    assert not tell_supervisor(READY, environment={})


@pytest.mark.skipif(not hasattr(os, "uname") or os.uname().sysname != "Linux", reason="abstract addresses")
def test_systemd_is_told_at_an_abstract_address():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0dvfb-test-{os.getpid()}")
        assert tell_supervisor(READY, environment={"NOTIFY_SOCKET": f"@dvfb-test-{os.getpid()}"})
        assert systemd.recv(100) == b"READY=1"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_what_has_work_and_does_none_of_it_is_stuck():
    stuck = Stuck()
    assert stuck.seconds("p", 1, 0.0, works=True) == 0
    assert stuck.seconds("p", 1, 5.0, works=True) == 5
    assert stuck.seconds("p", 2, 6.0, works=True) == 0
    assert stuck.seconds("p", 2, 8.0, works=False) == 0
    assert stuck.seconds("p", 2, 9.0, works=True) == 1


@pytest.mark.parametrize(("goes_on", "lasts"), [(True, 100.0), (False, 10.0)])
def test_draining_lasts_as_long_as_something_is_done_and_no_longer(goes_on, lasts):
    clock = Clock()

    def drained(timeout):
        clock.now += timeout
        return False

    assert not drain_while_busy(
        drained, lambda: clock.now if goes_on else 0, timeout=100.0, meanwhile=lambda: None, clock=clock
    )
    assert clock.now == pytest.approx(lasts, abs=1.0)


def test_draining_ends_where_nothing_is_left_to_wait_for_though_not_everything_is_stored():
    clock, asked = Clock(), []

    def drained(timeout):
        asked.append(timeout)
        clock.now += timeout if len(asked) < 3 else 0.001  # then a run is set aside
        return False

    assert drain_while_busy(drained, lambda: 0, timeout=100.0, meanwhile=lambda: None, clock=clock)
    assert len(asked) == 3


def test_what_comes_late_is_waited_for_and_said_so_once_in_a_while(caplog, monkeypatch):
    monkeypatch.setattr("dvfb_stream.daemon.waiting.SECONDS_BETWEEN_ATTEMPTS", 0.001)
    attempts = []

    def opened():
        attempts.append(1)
        if len(attempts) < 20:
            raise SettingsError("nobody there")
        return "open"

    with caplog.at_level("WARNING"):
        found = wait_for("it", opened, patience=60, stopping=threading.Event(), passes=SettingsError)
    assert found == "open"
    (line,) = caplog.messages
    assert line.startswith("waiting for it, 60 s more at most: nobody there")


def test_what_does_not_come_and_what_never_will_is_raised():
    def never():
        raise SettingsError("nobody there")

    with pytest.raises(SettingsError, match="nobody there"):
        wait_for("it", never, patience=0, stopping=threading.Event(), passes=SettingsError)

    class AwayError(DvfbError):
        pass

    with pytest.raises(SettingsError):
        wait_for("it", never, patience=60, stopping=threading.Event(), passes=AwayError)
    stopping = threading.Event()
    stopping.set()
    assert wait_for("it", never, patience=60, stopping=stopping, passes=SettingsError) is None
