"""Each frame once, whatever is killed: raw runs of all kinds, annotated while processes are killed."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.history.noted import FACTORY, score_of
from benchmarks.history.raw_runs import DATA_KEY, SHAPE, documents, value_of
from benchmarks.store import served
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.history.run_workers import RunWorkers
from dvfb_stream.history.selection import raw_runs
from dvfb_stream.history.settings import HistorySettings

_SECONDS_BETWEEN_LOOKS = 0.005
_MOST_FAILED_CALLS = 5


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """Make raw runs, annotate them while processes are killed, and compare what is stored."""
    runs, frames = options.runs or 1000, options.frames or 3
    workers = int(options.workers or 2)
    with tempfile.TemporaryDirectory(prefix="dvfb-history-bench-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        with served(readable=[folder / "files"]) as (client, _):
            raw = client.create_container("raw", specs=list(CATALOG_SPECS))
            numbers = write_runs(raw, runs, frames, folder / "files")
            begun = time.monotonic()
            killing = Killing(raw, folder, runs * frames, workers, random.Random(options.seed), options.kills)
            killing.annotate_until_done()
            seconds = time.monotonic() - begun
            stored = compared(raw, numbers, frames)
        twice = annotated_twice(folder / "log", killing.killed)
    return {
        "runs": runs,
        "frames_a_run": frames,
        "workers": workers,
        "calls": killing.calls,
        "calls_that_failed": killing.failed_calls,
        "kills": {"worker": killing.of_workers, "call": killing.of_calls},
        "history_seconds": round(seconds, 1),
        "reports": killing.reports,
        **stored,
        **twice,
    }


def write_runs(raw: Any, runs: int, frames: int, folder: Path) -> dict[str, int]:
    """Store raw runs by TiledWriter; return the number of each by its uid."""
    from bluesky_tiled_plugins import TiledWriter

    numbers = {}
    for number in range(runs):
        writer = TiledWriter(raw)
        for name, doc in documents(number, frames, folder):
            if name == "start":
                numbers[doc["uid"]] = number
            writer(name, doc)
        if number % 50 == 49:
            print(f"{number + 1} of {runs} raw runs are stored", file=sys.stderr, flush=True)
    return numbers


@dataclass
class Killing:
    """Calls for history again and again, and kills a worker or the call at moments chosen by chance."""

    raw: Any
    folder: Path
    frames: int
    workers: int
    chance: random.Random
    kills: int
    killed: set[int] = field(default_factory=set)
    """Workers, whether they were killed or ended with the call that was."""
    of_workers: int = 0
    of_calls: int = 0
    calls: int = 0
    failed_calls: int = 0
    """That ended with an error: on a machine that is very busy no worker may start in time."""
    reports: list[dict[str, Any]] = field(default_factory=list)

    def annotate_until_done(self) -> None:
        """Call again and again, until a call says that it is done; kill at the moments that chance has chosen."""
        log = self.folder / "log"
        moments = sorted(self.chance.randrange(1, self.frames) for _ in range(self.kills))
        while True:
            self.calls += 1
            command = [
                sys.executable,
                "-m",
                "benchmarks.history.call",
                self.raw.uri,
                str(log),
                str(self.workers),
            ]
            environment = os.environ | {"TILED_API_KEY": self.raw.context.api_key}
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as call:
                while call.poll() is None:
                    rows = log.stat().st_size // _BYTES_A_LINE if log.exists() else 0
                    if moments and rows >= moments[0] and self._kill_one(call):
                        moments.pop(0)
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                assert call.stdout is not None
                said = call.stdout.read()
            if call.returncode == 0:
                self.reports.append(json.loads(said))
                return
            if call.returncode != -signal.SIGKILL:
                self.failed_calls += 1
                if self.failed_calls > _MOST_FAILED_CALLS:
                    raise RuntimeError(f"the call ended with {call.returncode}")

    def _kill_one(self, call: subprocess.Popen[bytes]) -> bool:
        """Kill a worker, or the call; return whether there was one."""
        living = _children(call.pid)
        if not living:
            return False
        if self.of_workers <= self.of_calls:
            victim = self.chance.choice(living)
            self.killed.add(victim)
            self.of_workers += 1
        else:
            victim = call.pid
            self.killed.update(living)
            self.of_calls += 1
        print(f"kill {self.of_workers + self.of_calls}: process {victim}", file=sys.stderr, flush=True)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return True


_BYTES_A_LINE = 44
"""Of the notes, about: a process, a uid of 36 characters, a frame."""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def compared(raw: Any, numbers: dict[str, int], frames: int) -> dict[str, Any]:
    """Read each analysis run with Bluesky's ordinary client, and compare its rows with the frames."""
    from tiled.client import from_uri

    place = from_uri(f"{raw.uri}_annotations", api_key=raw.context.api_key)
    wrong: list[str] = []
    rows = finished = 0
    parents: Counter[str] = Counter()
    for run in place.values():
        parent = run.metadata["start"]["analysis"]["parent"]
        parents[parent] += 1
        finished += bool(run.metadata.get("stop"))
        table = run["annotations"].read()
        found = list(zip(table["frame"].values.tolist(), table["rings"].values.tolist(), strict=True))
        rows += len(found)
        wanted = [(k, score_of(value_of(numbers[parent], k))) for k in range(frames)]
        if [k for k, _ in found] != list(range(frames)) or any(
            abs(a - b) > 1e-9 for (_, a), (_, b) in zip(found, wanted, strict=True)
        ):
            wrong.append(parent)
    return {
        "analysis_runs": len(place),
        "raw_runs_annotated": len(parents),
        "finished": finished,
        "rows": rows,
        "rows_expected": len(numbers) * frames,
        "runs_with_wrong_rows": wrong,
    }


def annotated_twice(log: Path, killed: set[int]) -> dict[str, Any]:
    """Return what was annotated twice, and what of it was not in hand when its process was killed."""
    times: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    last: dict[int, str] = {}
    for line in log.read_text().splitlines():
        process, uid, frame = line.split()
        times[uid, frame].append(int(process))
        last[int(process)] = uid
    repeated = {key: processes for key, processes in times.items() if len(processes) > 1}
    unexplained = [
        uid
        for (uid, _), processes in repeated.items()
        if any(process not in killed or last[process] != uid for process in processes[:-1])
    ]
    return {
        "frames_annotated": len(times),
        "annotations": sum(map(len, times.values())),
        "frames_annotated_twice": len(repeated),
        "runs_annotated_twice": len({uid for uid, _ in repeated}),
        "of_them_not_in_hand_when_killed": sorted(set(unexplained)),
    }


def settings(log: str) -> HistorySettings:
    """Return how the runs are annotated."""
    return HistorySettings(
        detectors={DATA_KEY: {"center_x": 3.5, "center_y": 2.5, "shape": SHAPE}}, model=log, annotator=FACTORY
    )


def call(address: str, log: str, workers: int) -> dict[str, Any]:
    """Annotate what is not annotated; return what became of it."""
    from dvfb_stream.catalog import connect

    client = connect(address)
    uids = raw_runs(client)
    history = RunWorkers(client.uri, settings(log), workers=workers)
    for _ in history.annotate(uids):
        pass
    return history.report.as_json() | {"remarks": history.remarks}
