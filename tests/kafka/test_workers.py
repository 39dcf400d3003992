"""`dvfb daemon` with several processes: one service, whose members share the partitions of a real broker."""

import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from dvfb_stream.catalog import read_annotations
from tests.catalog.tiled_process import free_port
from tests.kafka.conftest import RawRun, eventually, rows_so_far

CONFIG = """
[http]
port = {port}

[workers]
processes = 2

[detectors.image]
shape = [4, 6]
center_x = 2.5
center_y = 1.5

[limits]
batch_size = 2
"""


@pytest.fixture
def topic(make_topic):
    return make_topic(partitions=2)


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def config(write_config, port):
    return write_config(CONFIG.format(port=port))


def ask(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except URLError:
        return 0, ""


def children_of(pid):
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def assigned_to(metrics):
    """Workers that read a partition."""
    return set(re.findall(r'^dvfb_read_offset\{.*worker="(\d)"', metrics, re.MULTILINE))


def test_two_workers_share_the_partitions_and_one_that_is_killed_comes_back(
    launch, topic, catalog, port, config
):
    def send(*runs, documents=slice(None)):
        for partition, run in enumerate(runs):
            topic.send(*run.documents[documents], partition=partition)

    def stored_whole(*runs):
        for run in runs:
            eventually(lambda run=run: len(rows_so_far(catalog, run.uid)) == 5, timeout=120, pause_for=0.2)
            assert [row["frame"] for row in read_annotations(catalog, run.uid)] == list(range(5))

    service = launch()
    eventually(lambda: ask(port, "/readyz")[0] == 200, timeout=120, pause_for=0.2)
    assert set(json.loads(ask(port, "/readyz")[1])["workers"]) == {"0", "1"}
    eventually(lambda: len(assigned_to(ask(port, "/metrics")[1])) == 2, timeout=60, pause_for=0.2)
    first = RawRun(range(100, 105)), RawRun(range(200, 205))
    send(*first, documents=slice(4))
    eventually(lambda: all(rows_so_far(catalog, run.uid) for run in first), timeout=120, pause_for=0.2)
    assert len(children_of(service.pid)) == 2
    victim = children_of(service.pid)[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: ask(port, "/readyz")[0] == 503, timeout=60)
    assert ask(port, "/livez")[0] == 200
    send(*first, documents=slice(4, None))
    stored_whole(*first)  # by the other one, or the one that has come back
    eventually(lambda: ask(port, "/readyz")[0] == 200, timeout=120, pause_for=0.2)
    assert victim not in children_of(service.pid)
    status, metrics = ask(port, "/metrics")
    assert status == 200
    assert sorted(re.findall(r"^dvfb_worker_restarts_total.* (\d)", metrics, re.MULTILINE)) == ["0", "1"]
    assert re.search(r"^dvfb_workers 2.0$", metrics, re.MULTILINE)
    members = children_of(service.pid)
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == 0
    assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]
    log = (config.parent / "log-0.txt").read_text()
    assert "worker 0: dvfb_stream" in log
    assert "ended by SIGKILL; it is started again" in log
