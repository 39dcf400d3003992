"""A daemon's own process outlives what its files do, goes on behind them, and ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.kafka.conftest import eventually
from tests.kafka.test_daemon_process import config  # noqa: F401 - a fixture

ISOLATION = str(Path(__file__).parents[1] / "isolation")
sys.path.insert(0, ISOLATION)

import poison  # noqa: E402 - beside other tests
from test_poisoned_runs import documents_of, resources_of  # noqa: E402 - likewise

MOST_RESIDENT = 1_500_000_000
"""Bytes, of the daemon's process."""

FILES = """
[files]
allowed_roots = ["{folder}"]
read_timeout = 600
max_memory = 300_000_000

[handlers]
POISON = "poison:Poison"
"""


def rows_in(path, uid):
    """Rows of a raw run, as far as they are written."""
    if not path.is_file():
        return []
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    runs = {d["uid"] for name, d in documents if name == "start" and d["analysis"]["parent"] == uid}
    descriptors = {d["uid"] for name, d in documents if name == "descriptor" and d["run_start"] in runs}
    return [d["data"] for name, d in documents if name == "event" and d["descriptor"] in descriptors]


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_daemon_goes_on_behind_poison_and_ends_while_a_read_hangs(
    config, launch, topic, tmp_path  # noqa: F811
):  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    rows, columns = poison.SHAPE
    config.write_text(
        config.read_text().replace("[96, 80]", f"[{rows}, {columns}]") + FILES.format(folder=folder)
    )
    culprits = {
        "crash": (poison.crashing_hdf5(folder), "crashing.h5.*SIGSEGV"),
        "bomb": (poison.hdf5_bomb(folder), "bomb.h5.*more memory"),
        "shadow": (poison.handlers_template(folder, "/etc/shadow"), "/etc/shadow.*allowed_roots"),
    }
    for uid, (frames, _) in culprits.items():
        topic.send(*documents_of(uid, *resources_of(frames)))
    topic.send(*documents_of("good", *resources_of(poison.good(folder))))
    daemon = launch(PYTHONPATH=ISOLATION)
    written = config.parent / "annotations.jsonl"
    good = eventually(lambda: len(found := rows_in(written, "good")) == poison.FRAMES and found, timeout=60)
    assert [row["status"] for row in good] == ["ok"] * poison.FRAMES
    for uid, (frames, why) in culprits.items():
        found = rows_in(written, uid)
        assert [row["frame"] for row in found] == list(range(len(frames)))
        assert all(row["status"] == "failed" and re.search(why, row["reason"]) for row in found)
    assert resident(daemon.pid) < MOST_RESIDENT

    topic.send(*documents_of("hanging", *resources_of(poison.endless_handler(folder))))
    eventually((folder / "handled.hangs").is_file, timeout=30)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert rows_in(written, "hanging") == []
