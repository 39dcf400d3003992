"""A daemon's own process outlives what its files do, goes on behind them, and ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
import sys
import uuid
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
MOST_MEMORY = 1_200_000_000
"""Bytes of a daemon and its processes together: the one that reads is the largest long before that."""

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


@pytest.fixture
def small_machine():
    """Function that gives a process, and those that it starts from now on, so much memory and no more."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    place, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = place / f"dvfb-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / limit).write_text(str(MOST_MEMORY))
    except OSError as error:
        pytest.skip(f"memory cannot be limited here, which takes root: {error}")

    def put(pid):
        (group / "cgroup.procs").write_text(str(pid))

    yield put
    for pid in (group / "cgroup.procs").read_text().split():
        (place / "cgroup.procs").write_text(pid)
    group.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_reading_process_that_the_system_kills_costs_its_frames_a_row_each(
    config, launch, topic, tmp_path, small_machine  # noqa: F811
):  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    rows, columns = poison.SHAPE
    written = config.read_text().replace("[96, 80]", f"[{rows}, {columns}]") + "patience = 0.5\n"
    # What the process may take by itself is more than there is.
    config.write_text(written + FILES.format(folder=folder).replace("300_000_000", "8_000_000_000"))
    topic.send(*documents_of("growing", *resources_of(poison.growing_handler(folder))))
    topic.send(*documents_of("good", *resources_of(poison.good(folder))))
    daemon = launch(PYTHONPATH=ISOLATION)
    small_machine(daemon.pid)
    annotations = config.parent / "annotations.jsonl"
    good = eventually(
        lambda: len(found := rows_in(annotations, "good")) == poison.FRAMES and found, timeout=120
    )
    assert [row["status"] for row in good] == ["ok"] * poison.FRAMES
    growing = rows_in(annotations, "growing")
    assert [row["frame"] for row in growing] == list(range(poison.FRAMES))
    for row in growing:
        assert row["status"] == "failed"
        assert re.search("handled.*was killed: the system may be out of memory", row["reason"])
    assert daemon.poll() is None
