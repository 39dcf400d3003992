"""`dvfb daemon` as a process: killed, started again, told to stop, and told nonsense."""

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dvfb_stream.catalog import read_annotations
from dvfb_stream.catalog.place import find_place, table_of_run
from dvfb_stream.labels import LABELS
from tests.kafka.conftest import eventually, rows_so_far

CONFIG = """
batch_size = 4

[sinks]
jsonl = "annotations.jsonl"

[detectors.image]
shape = [96, 80]
center_x = 39.5
center_y = 47.5

[limits]
batch_size = 2
start_timeout = 3
"""


@pytest.fixture
def config(write_config):
    return write_config(CONFIG)


@pytest.fixture
def publish(topic):
    """Function that starts a beamline's publisher of one run."""
    processes = []

    def start(uid, frames, pause_after):
        script = Path(__file__).with_name("publish_run.py")
        process = subprocess.Popen(
            [sys.executable, str(script), ",".join(topic.bootstrap_servers), topic.name, uid, str(frames),
             str(pause_after)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_killed_in_the_middle_of_a_run_and_started_again_every_row_is_there_once(
    launch, publish, topic, catalog
):
    uid, frames = str(uuid.uuid4()), 14
    beamline = publish(uid, frames, pause_after=9)
    assert beamline.stdout.readline() == "paused\n"

    daemon = launch()
    # Seldom: the server answers from this process, whose processor the daemon wants.
    eventually(lambda: len(rows_so_far(catalog, uid)) >= 8, timeout=60, pause_for=0.2)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(10)
    assert topic.committed(f"dvfb-{topic.name}") in (None, 0)

    beamline.communicate("go on\n", timeout=30)
    assert beamline.returncode == 0
    daemon = launch()
    eventually(lambda: topic.committed(f"dvfb-{topic.name}") == frames + 3, timeout=60, pause_for=0.2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0

    rows = read_annotations(catalog, uid)
    assert [row["frame"] for row in rows] == list(range(frames))
    assert {row["status"] for row in rows} == {"ok"}
    scores = [tuple(row[label] for label in LABELS) for row in rows]
    assert all(0 <= score <= 1 for row in scores for score in row)
    assert len(set(scores)) == frames  # each frame has other pixels, so each row has other scores

    stored = find_place(catalog)[rows[0]["analysis_uid"]]
    assert stored.metadata["start"]["analysis"]["parent"] == uid
    assert stored.metadata["start"]["analysis"]["raw"]["sample_name"] == "silver behenate"
    assert stored.metadata["stop"]["summary"]["frames"] == frames
    assert sorted(table_of_run(stored).read(["frame"])["frame"]) == list(range(frames))


def last_line(log):
    return log.read_text().splitlines()[-1]


def test_nonsense_in_the_configuration_ends_it_with_one_line(launch, config):
    config.write_text(config.read_text().replace("topics =", "topic ="))
    daemon = launch()
    assert daemon.wait(60) == 1
    (line,) = (config.parent / "log-0.txt").read_text().splitlines()
    assert line.startswith("dvfb: error: ")
    assert "kafka.topics: Field required" in line
    assert "kafka.topic: there is no such key" in line


def test_a_tiled_server_that_does_not_answer_is_said_so(launch, config):
    config.write_text(config.read_text().replace("http://127.0.0.1:", "http://127.0.0.1:1"))
    daemon = launch()
    assert daemon.wait(60) == 1
    assert "waiting for the store" in (config.parent / "log-0.txt").read_text()
    line = last_line(config.parent / "log-0.txt")
    assert line.startswith("dvfb: error: sinks.tiled: the catalog http://127.0.0.1:1")


def test_a_wrong_key_is_said_so_and_not_shown(launch, config):
    daemon = launch(TILED_API_KEY="abad1dea")
    assert daemon.wait(60) == 1
    log = (config.parent / "log-0.txt").read_text()
    assert "cannot be opened (401: Invalid API key" in last_line(config.parent / "log-0.txt")
    assert "abad1dea" not in log
