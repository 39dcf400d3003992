"""SIGKILL at random moments of a process that writes to a real Tiled server, and what a client reads then."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.spool import Pace

from ..tiled_process import TiledProcess
from . import putting_process
from .conftest import until
from .putting_process import FRAMES, documents

KILLS = int(os.environ.get("DVFB_KILLS", "5"))
PATIENCE = 120.0 + 12.0 * KILLS
"""Seconds for what all of them left, on a machine that is busy with other things."""


class Putting:
    """A process that puts runs, and what it has said."""

    def __init__(self, pid: int, said: Path) -> None:
        self._pid = pid
        self._said = said

    @property
    def said(self) -> list[str]:
        text = self._said.read_text() if self._said.exists() else ""
        return text.split("\n")[:-1]

    def is_ready(self) -> None:
        until(lambda: "ready" in self.said, PATIENCE)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{self._pid}").exists(), PATIENCE)


@pytest.fixture
def put(tiled_process: TiledProcess, tmp_path: Path) -> Iterator[Callable[..., Putting]]:
    """Have runs put by processes of their own."""
    with subprocess.Popen(
        [sys.executable, putting_process.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TILED_API_KEY": tiled_process.key},
    ) as forking:
        numbers = itertools.count()

        def order(address: str, spool: Path, *uids: str) -> Putting:
            said = tmp_path / f"said-{next(numbers)}"
            what = {"address": address, "spool": str(spool), "said": str(said), "uids": uids}
            forking.stdin.write(json.dumps(what) + "\n")
            forking.stdin.flush()
            return Putting(int(forking.stdout.readline()), said)

        yield order
        forking.stdin.close()


def stored(client, uid):
    """Return what an ordinary client reads of the frames of a raw run, and the stop."""
    runs = find_place(client)
    analysis_uid = documents(uid)[0][1]["uid"]
    if runs is None or analysis_uid not in runs:
        return [], None
    run = runs[analysis_uid]
    if "annotations" not in run:
        return [], None
    return list(run["annotations"].base["internal"].read()["frame"]), run.metadata.get("stop")


def test_no_row_is_missing_and_none_is_there_twice(put, raw_container, tmp_path):
    client, chance, spool = raw_container, random.Random(19), tmp_path / "spool"
    address = client.uri.partition("?")[0]
    said: list[str] = []
    for number in range(KILLS):
        # Half of them deliver what the one before left, and are given nothing themselves until they are killed.
        putting = put(address, spool, *([f"run-{number}"] if number % 2 == 0 else []))
        putting.is_ready()
        time.sleep(chance.uniform(0.0, 0.8))
        putting.kill()
        said += putting.said
    with TiledSink(client, spool=spool, pace=Pace(max_age=0.01)) as sink:
        until(lambda: not list(spool.glob("*.sqlite"))[1:] and not sink.stats().inherited_rows, PATIENCE)
        for number in range(0, KILLS, 2):
            uid = f"run-{number}"
            acknowledged = [
                int(line.split()[1]) for line in said if line.startswith(f"{uid} ") and "stop" not in line
            ]
            frames, stop = stored(client, uid)
            # The next row may have been on the disk, and its number not yet in the pipe.
            assert frames[: len(acknowledged)] == acknowledged
            assert len(frames) <= len(acknowledged) + 1
            if f"{uid} stop" in said:
                assert stop["summary"]["frames"] == FRAMES
        for number in range(0, KILLS, 2):
            for name, doc in documents(f"run-{number}"):
                sink(name, doc)
        assert sink.wait(PATIENCE)
    for number in range(0, KILLS, 2):
        frames, stop = stored(client, f"run-{number}")
        assert frames == list(range(FRAMES))
        assert stop["summary"]["frames"] == FRAMES
    assert not list(spool.glob("*.sqlite"))
