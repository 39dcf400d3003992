"""What several daemons say of themselves at one address."""

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from urllib.error import HTTPError

import pytest

from dvfb_stream.daemon.health import Health, Part, State
from dvfb_stream.daemon.http import serve_health
from dvfb_stream.daemon.members import Member
from dvfb_stream.daemon.members_http import has_begun, serve_members
from dvfb_stream.daemon.store_reach import StoreReach
from dvfb_stream.metrics import Metrics, catalogue
from tests.catalog.tiled_process import free_port


class Daemon:
    """Answers as a daemon does."""

    def __init__(self, number):
        self.metrics = Metrics()
        self.health = Health([Part.MODEL], patience=60.0, metrics=self.metrics)
        self.server = serve_health(self.health, self.metrics, address="127.0.0.1", port=0)
        self.member = Member(number, self.server.port)


@pytest.fixture
def daemons():
    made = [Daemon(0), Daemon(1)]
    yield made
    for one in made:
        one.server.close()


@pytest.fixture
def hanging():
    """A process that lives and answers nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def ask(daemons):
    """Function that asks the two for a path; with `silent`, there is a third that does not answer."""

    def answer(path, *, silent=False, age=0.0):
        members = [one.member for one in daemons] + ([Member(2, free_port())] if silent else [])
        with serve_members(members, lambda: age, patience=5.0, address="127.0.0.1", port=0) as server:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as told:
                    return told.status, told.read().decode()
            except HTTPError as error:
                with error:
                    return error.code, error.read().decode()

    return answer


def test_it_is_ready_once_all_are_and_says_who_is_not(ask, daemons):
    daemons[0].health.say(Part.MODEL, ok=True, reason="loaded")
    assert [has_begun(one.member) for one in daemons] == [True, False]
    status, told = ask("/readyz")
    assert status == 503
    assert [each["ready"] for each in json.loads(told)["workers"].values()] == [True, False]
    daemons[1].health.say(Part.MODEL, ok=True, reason="loaded")
    assert ask("/readyz")[0] == 200
    status, told = ask("/readyz", silent=True)
    assert status == 503
    assert json.loads(told)["workers"]["2"] == {"reason": "does not answer"}


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_one_that_is_killed_amid_its_answer_has_not_answered(status):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def begin_to_answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(f"HTTP/1.0 {status}\r\nContent-Length: 99\r\n\r\n{{".encode())

        thread = threading.Thread(target=begin_to_answer)
        thread.start()
        assert not has_begun(Member(0, server.getsockname()[1]))
        thread.join()


def test_it_is_alive_while_all_at_work_turn_and_the_supervising_process_does(ask, daemons, hanging):
    assert ask("/livez")[0] == 200
    assert ask("/livez", age=6.0)[0] == 503
    daemons[1].server.close()
    daemons[1].member.process, daemons[1].member.has_run = hanging, True
    status, told = ask("/livez")
    assert status == 503
    assert "workers [1]" in json.loads(told)["reason"]


def test_one_that_has_ended_or_starts_is_away_and_the_service_alive(ask, daemons, hanging):
    """Kubernetes would end the others for it."""
    member = daemons[1].member
    daemons[1].server.close()
    member.last_end = "by SIGKILL"
    for process in (None, hanging):
        member.process = process
        assert ask("/livez")[0] == 200
        status, told = ask("/readyz")
        assert status == 503
        assert json.loads(told)["workers"]["1"] == {"reason": "ended by SIGKILL; it is started again"}


def test_series_of_all_have_the_number_of_their_daemon(ask, daemons):
    for number, one in enumerate(daemons):
        one.metrics.add(catalogue.LOST_ROWS, 3 + number)
    _, told = ask("/metrics")
    lines = [line for line in told.splitlines() if line.startswith("dvfb_lost_rows_total")]
    assert lines == ['dvfb_lost_rows_total{worker="0"} 3.0', 'dvfb_lost_rows_total{worker="1"} 4.0']
    assert told.count("# TYPE dvfb_lost_rows_total counter") == 1
    without = [line for line in told.splitlines() if line.startswith("dvfb_") and "worker=" not in line]
    assert without == ["dvfb_workers 0.0"]  # none of these has a process


def test_how_often_each_was_started_again_is_counted(ask, daemons):
    daemons[1].member.starts = 3
    _, told = ask("/metrics")
    counted = [line for line in told.splitlines() if line.startswith("dvfb_worker_restarts_total")]
    assert counted == [
        'dvfb_worker_restarts_total{worker="0"} 0.0',
        'dvfb_worker_restarts_total{worker="1"} 2.0',
    ]


def test_series_are_there_while_the_store_keeps_silent(ask, daemons):
    """A daemon then waits for the store before it says how it is: that is when they are needed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reach = StoreReach(f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1")

        def look():
            trouble = reach.trouble()
            return State(ok=not trouble, reason=trouble)

        daemons[0].health.look_at(Part.STORE, look)
        _, told = ask("/metrics")
    up = [line for line in told.splitlines() if line.startswith("dvfb_up")]
    assert 'dvfb_up{part="store",worker="0"} 0.0' in up
