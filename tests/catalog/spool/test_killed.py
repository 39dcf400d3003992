"""SIGKILL at random moments of a process that writes to a real Tiled server, and what a client reads then."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.spool import Pace

from .conftest import until
from .putting_process import FRAMES, documents

KILLS = int(os.environ.get("DVFB_KILLS", "5"))
"""More of them take a minute for each dozen."""
PATIENCE = 120.0


class Putting:
    """The process, and what it has said."""

    def __init__(self, address: str, key: str, folder: Path, *uids: str) -> None:
        self.said: list[str] = []
        script = Path(__file__).with_name("putting_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), address, str(folder), *uids],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TILED_API_KEY": key},
        )
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.strip())

    def is_ready(self) -> None:
        until(lambda: "ready" in self.said, PATIENCE)

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        self._process.wait(PATIENCE)
        self._listening.join()
        self._process.stdout.close()


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


def test_no_row_is_missing_and_none_is_there_twice(tiled_process, raw_container, tmp_path):
    client, chance = raw_container, random.Random(19)
    address = client.uri.partition("?")[0]
    said: list[str] = []
    for number in range(KILLS):
        # Half of them deliver what the one before left, and are given nothing themselves until they are killed.
        putting = Putting(
            address, tiled_process.key, tmp_path, *([f"run-{number}"] if number % 2 == 0 else [])
        )
        putting.is_ready()
        time.sleep(chance.uniform(0.0, 0.8))
        putting.kill()
        said += putting.said
    with TiledSink(client, spool=tmp_path, pace=Pace(max_age=0.01)) as sink:
        until(lambda: not list(tmp_path.glob("*.sqlite"))[1:] and not sink.stats().inherited_rows, PATIENCE)
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
    assert not list(tmp_path.glob("*.sqlite"))
