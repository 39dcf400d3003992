"""`dvfb daemon` that follows a Tiled catalog, as a process: killed, started again, told to stop, told nonsense."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvfb_stream.catalog import read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.labels import LABELS
from tests.catalog.tiled_process import StreamingProcess
from tests.forked_processes import ForkedProcess, dvfb

from .conftest import PATIENCE, Beamline, eventually

SHAPE = (96, 80)

CONFIG = """
model = "{model}"
device = "cpu"

[source.tiled]
uri = "{uri}"

[sinks.tiled]
uri = "{uri}"
batch_size = 4

[detectors.image]
shape = [96, 80]
center_x = 39.5
center_y = 47.5

[limits]
batch_size = 2
start_timeout = 2
"""

Launch = Callable[..., ForkedProcess]


@pytest.fixture
def config(tmp_path: Path, tiny_bundle: Path, raw: Any) -> Path:
    path = tmp_path / "daemon.toml"
    path.write_text(CONFIG.format(model=tiny_bundle, uri=raw.uri.partition("?")[0]))
    return path


@pytest.fixture
def launch(config: Path, server: StreamingProcess) -> Iterator[Launch]:
    """Function that starts the daemon's process; its standard error goes to `log`, beside the configuration."""
    processes: list[ForkedProcess] = []

    def start(**environment: str) -> ForkedProcess:
        processes.append(
            dvfb(
                "daemon", "--config", config,
                environment={"TILED_API_KEY": server.key} | environment, stderr=config.parent / "log",
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.timeout(900)
def test_killed_in_the_middle_of_a_run_and_started_again_every_row_is_there_once(
    launch: Launch, raw: Any, config: Path
):
    daemon = launch()
    eventually(lambda: "the server tells of new runs" in (config.parent / "log").read_text())
    beamline = Beamline(raw, shape=SHAPE, sample_name="silver behenate")
    beamline.take(*range(9))
    eventually(lambda: len(read_annotations(raw, beamline.uid)) >= 8, pause_for=0.5)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()

    beamline.take(*range(9, 14))
    beamline.stop()
    meanwhile = Beamline(raw, shape=SHAPE)
    meanwhile.take(100, 101)
    meanwhile.stop()
    daemon = launch()

    def are_stored() -> bool:
        place = find_place(raw)
        return place is not None and sum(bool(run.metadata.get("stop")) for run in place.values()) == 2

    eventually(are_stored, pause_for=0.5)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE) == 0
    assert "2 runs stored" in (config.parent / "log").read_text().splitlines()[-1]

    rows = read_annotations(raw, beamline.uid)
    assert [row["frame"] for row in rows] == list(range(14))
    assert {row["status"] for row in rows} == {"ok"}
    assert len({tuple(row[label] for label in LABELS) for row in rows}) == 14  # each frame has other pixels
    assert [row["frame"] for row in read_annotations(raw, meanwhile.uid)] == [0, 1]

    again = launch()
    eventually(lambda: "the server tells of new runs" in (config.parent / "log").read_text())
    again.send_signal(signal.SIGTERM)
    assert again.wait(PATIENCE) == 0
    assert (
        (config.parent / "log").read_text().splitlines()[-1].partition(": ")[2].startswith("0 frames, 0 runs")
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "[source.tiled]\n",
            "[kafka]\nbootstrap_servers = ['a:1']\ntopics = ['t']\n[source.tiled]\n",
            "has both",
        ),
        ("http://127.0.0.1:", "http://127.0.0.1:1", "source.tiled: the catalog http://127.0.0.1:1"),
    ],
)
def test_nonsense_ends_it_with_one_line(launch: Launch, config: Path, old: str, new: str, complaint: str):
    config.write_text(config.read_text().replace(old, new))
    daemon = launch(TILED_RETRY_ATTEMPTS="1")
    assert daemon.wait(PATIENCE) == 1
    line = (config.parent / "log").read_text().splitlines()[-1]
    assert line.startswith("dvfb: error: ")
    assert complaint in line


def test_a_wrong_key_is_said_so_and_not_shown(launch: Launch, config: Path):
    daemon = launch(TILED_API_KEY="abad1dea")
    assert daemon.wait(PATIENCE) == 1
    log = (config.parent / "log").read_text()
    assert "cannot be opened (401: Invalid API key" in log.splitlines()[-1]
    assert "abad1dea" not in log
