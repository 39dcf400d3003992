"""A daemon says whether it turns and what it lacks, to whoever asks over HTTP, and nothing else."""

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from dvfb_stream.daemon.health import Health, Part, State
from dvfb_stream.daemon.http import serve_health
from dvfb_stream.errors import SettingsError
from dvfb_stream.metrics import Metrics, catalogue


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def health(clock, metrics):
    return Health((Part.BROKER, Part.STORE), patience=30.0, metrics=metrics, clock=clock)


@pytest.fixture
def server(health, metrics):
    with serve_health(health, metrics, address="127.0.0.1", port=0) as server:
        yield server


def get(server, path, method="GET"):
    try:
        with urlopen(Request(f"http://127.0.0.1:{server.port}{path}", method=method)) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_loop_that_has_not_turned_for_long_is_not_alive(server, health, clock):
    status, body = get(server, "/livez")
    assert (status, json.loads(body)["alive"]) == (200, True)
    clock.now += 31
    status, body = get(server, "/livez")
    assert status == 503
    assert json.loads(body) == {"alive": False, "reason": "the loop has not turned for 31 s"}
    health.turn()
    assert get(server, "/livez")[0] == 200


def test_it_is_ready_once_every_part_is_well_and_says_of_each_why_not(server, health):
    status, body = get(server, "/readyz")
    assert status == 503
    assert json.loads(body)["parts"]["broker"] == {"ok": False, "reason": "not there yet"}
    health.say(Part.BROKER, ok=True, reason="answers")
    health.look_at(Part.STORE, lambda: State(ok=False, reason="no key"))
    status, body = get(server, "/readyz?verbose")
    assert status == 503
    assert json.loads(body) == {
        "ready": False,
        "parts": {"broker": {"ok": True, "reason": "answers"}, "store": {"ok": False, "reason": "no key"}},
    }
    health.look_at(Part.STORE, lambda: State(ok=True, reason="takes rows"))
    assert get(server, "/readyz")[0] == 200


def test_prometheus_reads_the_parts_and_the_age_of_the_last_turn(server, health, clock):
    health.say(Part.BROKER, ok=True, reason="answers")
    clock.now += 2
    status, body = get(server, "/metrics")
    assert status == 200
    assert 'dvfb_up{part="broker"} 1.0' in body
    assert 'dvfb_up{part="store"} 0.0' in body
    assert "dvfb_loop_age_seconds 2.0" in body


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/livez/../etc/passwd", "/livez/"])
def test_any_other_path_is_not_found(server, path):
    status, body = get(server, path)
    assert status == 404
    assert "/readyz" in body


def test_nothing_but_reading_is_answered(server):
    assert get(server, "/livez", method="HEAD") == (200, "")
    assert get(server, "/livez", method="POST")[0] == 501


def test_a_port_that_is_taken_is_said_so_with_the_cure(server, health, metrics):
    with pytest.raises(
        SettingsError, match=r"127\.0\.0\.1:\d+: .*choose another port or address under \[http\]"
    ):
        serve_health(health, metrics, address="127.0.0.1", port=server.port)


def test_a_gauge_is_set_and_forgotten_and_a_counter_never_falls(metrics):
    metrics.set(catalogue.LAG, 7, "t", "0")
    metrics.set(catalogue.LAG, 3, "t", "0")
    metrics.raise_to(catalogue.COMMITS, 5)
    metrics.raise_to(catalogue.COMMITS, 4)
    found = metrics.snapshot()
    assert found["dvfb_lag_messages"]["values"] == [{"labels": {"topic": "t", "partition": "0"}, "value": 3}]
    assert found["dvfb_commits"]["values"][0]["value"] == 5
    metrics.forget(catalogue.LAG, "t", "0")
    assert metrics.snapshot()["dvfb_lag_messages"]["values"] == []
