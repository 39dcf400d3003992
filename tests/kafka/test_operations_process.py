"""`dvfb daemon` as its supervisor sees it: HTTP, JSON logs, SIGHUP, and what a slip in its configuration costs."""

import json
import signal
import socket
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.kafka.conftest import RawRun, eventually

CONFIG = """
[http]
port = {port}

[limits]
start_timeout = 2
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def config(write_config, port):
    return write_config(CONFIG.format(port=port))


def get(port, path):
    """Status and body; None while nobody listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (URLError, OSError):
        return None


def test_it_says_how_it_is_refuses_to_reload_and_ends_when_told(launch, config, port, topic):
    daemon = launch("--log-format", "json")
    eventually(lambda: get(port, "/livez"), timeout=120, pause_for=0.2)
    eventually(lambda: get(port, "/readyz")[0] == 200, timeout=120, pause_for=0.2)
    parts = json.loads(get(port, "/readyz")[1])["parts"]
    assert set(parts) == {"broker", "lag", "model", "store"}
    assert get(port, "/nothing")[0] == 404

    run = RawRun([1, 2])
    topic.send(b"no document", *run.documents)
    eventually(lambda: "dvfb_stored_runs_total 1.0" in get(port, "/metrics")[1], pause_for=0.2)
    assert 'dvfb_up{part="store"} 1.0' in get(port, "/metrics")[1]
    config.write_text(config.read_text().replace("port =", "prot ="))
    daemon.send_signal(signal.SIGHUP)
    log = config.parent / "log-0.txt"
    eventually(lambda: "http.prot" in log.read_text(), pause_for=0.2)
    assert get(port, "/livez")[0] == 200

    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (skipped,) = [line for line in lines if "skipping" in line["message"]]
    assert (skipped["topic"], skipped["partition"], skipped["offset"]) == (topic.name, 0, 0)
    (reload,) = [line for line in lines if line["message"].startswith("SIGHUP changes nothing")]
    assert reload["level"] == "WARNING"


def test_tls_against_a_plain_port_ends_it_with_one_line(launch, config):
    config.write_text(config.read_text().replace("[kafka]", '[kafka]\nsecurity_protocol = "SSL"'))
    daemon = launch()
    assert daemon.wait(60) == 1
    (line,) = (config.parent / "log-0.txt").read_text().splitlines()[1:]  # after where it listens
    assert line.startswith("dvfb: error: no Kafka broker answers")
    assert "does not speak TLS" in line


def test_a_broker_that_is_not_there_is_waited_for_and_told(launch, config, topic):
    config.write_text(config.read_text().replace(topic.bootstrap_servers[0], "127.0.0.1:1"))
    daemon = launch()
    assert daemon.wait(60) == 1
    _, waiting, error = (config.parent / "log-0.txt").read_text().splitlines()
    assert "waiting for Kafka, 2 s more at most: no Kafka broker answers" in waiting
    assert error.startswith("dvfb: error: no Kafka broker answers")
    assert "nobody listens there; is the port right" in error


def test_two_names_of_one_port_are_refused(launch, config):
    config.write_text("metrics_port = 9100\n" + config.read_text())
    daemon = launch()
    assert daemon.wait(60) == 1
    (line,) = (config.parent / "log-0.txt").read_text().splitlines()
    assert "it has both metrics_port and port under [http]: leave out metrics_port" in line
