"""Is a row missing, there twice or out of order after processes that write it were killed at random moments?

    python -m benchmarks.kills [--kills 50] [--seed 19] > benchmarks/results/kills.json

Writers are processes with a `LiveAnnotator` and a `TiledSink`, on a spool's folder that they share, and a real
`tiled serve`. One, two and three at a time are given a run, whole or a part of it, and get SIGKILL at a random
moment; then as many again. Meanwhile the server is killed, too, and comes back five seconds later: before the run,
during its first writers, during those to whom it is given again, or not at all, run by run in turns.

A run is read by Bluesky's client twice. *delivered*: when a new process has delivered what the killed ones left;
every row for which the sink's call had returned must be there (`acknowledged_missing`). *given_again*: after the
whole run was given once more to a writer that nobody kills; each frame must be there once, in order, and the stop
must say so.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.as_read import as_read, is_whole
from benchmarks.command import run
from benchmarks.live.documents import inline_run
from benchmarks.outages import PATIENCE, SHAPE, annotator, raw, until
from benchmarks.tiled_server import TABLES, TiledServer, serving
from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.later import LaterCatalog
from dvfb_stream.catalog.spool import Pace

FRAMES = 150
RATE = 60.0
"""Frames a second that a writer is given: a run takes 2.5 s."""
LATEST_KILL = 6.0
"""Seconds after a writer has begun: past the end of its documents, while it delivers and writes the stop."""
SECONDS_AWAY = 5.0
OUTAGES = ("none", "before", "during the first writers", "during those after them")
PACE = Pace(max_age=0.05, longest_pause=2.0)
"""Small batches: more calls, and more moments to be killed in."""

Documents = list[tuple[str, dict[str, Any]]]


class Acknowledging(TiledSink):
    """Writes down for which rows its call has returned, where SIGKILL does not reach."""

    def __init__(self, client: Any, *, spool: Path, acknowledged: Path) -> None:
        super().__init__(client, spool=spool, batch_size=10, pace=PACE)
        self._acknowledged = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Keep a document, and say so."""
        super().__call__(name, doc)
        if name == "event":
            os.write(self._acknowledged, f"{doc['data']['frame']}\n".encode())


def write(address: str, key: str, spool: Path, documents: Documents, acknowledged: Path, begun: Path) -> None:
    """Be a writer: annotate the documents as they come, wait until all is stored, and end with status 0 if it is."""
    os.environ["TILED_API_KEY"] = key
    live = annotator(Acknowledging(LaterCatalog(address), spool=spool, acknowledged=acknowledged))
    begun.touch()
    for number, (name, doc) in enumerate(documents):
        live(name, doc)
        if number > 1:
            time.sleep(1 / RATE)
    stored = live.wait(PATIENCE)
    live.close(5.0)
    sys.exit(0 if stored else 1)


class Runs:
    """Gives runs to writers and kills them."""

    def __init__(self, server: TiledServer, folder: Path, seed: int) -> None:
        self._server = server
        self._client = raw(server)
        self._address = self._client.uri.partition("?")[0]
        self._spool, self._folder = folder / "spool", folder
        self._chance = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.kills"])
        self._numbers = itertools.count()
        self.kills = 0

    def one(self, writers: int, outage: str) -> dict[str, Any]:
        """Have a run written by writers that are killed; return what is read of it."""
        documents = list(inline_run(np.ones((1, *SHAPE), np.int32), FRAMES))
        uid = documents[0][1]["uid"]
        acknowledged = self._folder / uid
        acknowledged.touch()
        gave: list[str] = []
        if outage == "before":
            self._restart()
        for attempt, during in enumerate(OUTAGES[2:]):
            away = threading.Thread(target=self._restart, args=(self._chance.uniform(0.0, 3.0),))
            if outage == during:
                away.start()
            gave += self._killed(writers, documents, acknowledged, attempt)
            if outage == during:
                away.join()
        with TiledSink(self._client, spool=self._spool, pace=PACE) as sink:
            until(lambda: not sink.stats().inherited_rows and len(list(self._spool.glob("*.sqlite"))) == 1)
        promised = {int(frame) for frame in acknowledged.read_text().split()}
        delivered = as_read(self._client, uid, FRAMES)
        missing = len(promised - set(frames_of(self._client, uid)))
        last, _ = self._writer(documents, acknowledged)
        last.join()
        again = as_read(self._client, uid, FRAMES)
        return {
            "writers": writers,
            "outage": outage,
            "given": gave,
            "acknowledged": len(promised),
            "acknowledged_missing": missing,
            "delivered": {name: delivered[name] for name in ("rows", "doubled", "in_order")},
            "given_again": again,
            "wait_was_true": last.exitcode == 0,
            "whole": is_whole(again) and again["stop_says"] == FRAMES and again["analysis_runs"] == 1,
        }

    def _killed(self, writers: int, documents: Documents, acknowledged: Path, attempt: int) -> list[str]:
        """Give writers the run, or its beginning, and kill each at a random moment."""
        going, gave = [], []
        for _ in range(writers):
            whole = self._chance.random() < 0.5
            count = FRAMES if whole else self._chance.randrange(10, FRAMES)
            writer = self._writer(documents if whole else documents[: 2 + count], acknowledged)
            going.append((*writer, self._chance.uniform(0.0, LATEST_KILL)))
            gave.append(f"{'again ' if attempt else ''}{count} frames{' and the stop' if whole else ''}")
        killers = [threading.Thread(target=self._kill, args=each) for each in going]
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
        return gave

    def _writer(self, documents: Documents, acknowledged: Path) -> tuple[Any, Path]:
        begun = self._folder / f"begun-{next(self._numbers)}"
        process = self._context.Process(
            target=write,
            args=(self._address, self._server.key, self._spool, documents, acknowledged, begun),
        )
        process.start()
        return process, begun

    def _kill(self, process: Any, begun: Path, after: float) -> None:
        until(begun.exists)
        time.sleep(after)
        process.kill()
        process.join()
        self.kills += 1

    def _restart(self, after: float = 0.0) -> None:
        time.sleep(after)
        self._server.kill()
        time.sleep(SECONDS_AWAY)
        self._server.start()


def frames_of(client: Any, uid: str) -> Sequence[int]:
    """Return the frames of a raw run's annotations."""
    from dvfb_stream.catalog import read_annotations

    return [row["frame"] for row in read_annotations(client, uid)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write and kill until there were so many kills."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, serving(tables=options.tables) as server:
        runs = Runs(server, Path(folder), options.seed)
        # Each number of writers meets each kind of outage: 3 and 4 have no common divisor.
        for writers, outage in zip(itertools.cycle((1, 2, 3)), itertools.cycle(OUTAGES), strict=False):
            found.append(runs.one(writers, outage))
            print(f"{runs.kills} kills; {found[-1]}", file=sys.stderr)
            if runs.kills >= options.kills:
                break
    totals: Counter[str] = Counter()
    for each in found:
        read = each["given_again"]
        totals["rows missing"] += read["missing"]
        totals["rows twice"] += read["doubled"] + each["delivered"]["doubled"]
        totals["runs out of order"] += not (read["in_order"] and each["delivered"]["in_order"])
        totals["rows acknowledged and missing"] += each["acknowledged_missing"]
        totals["runs not whole"] += not each["whole"]
    return {
        "kills": runs.kills,
        "runs": len(found),
        "frames_a_run": FRAMES,
        "tables": options.tables,
        "server_ended_by_itself": server.ended_by_itself,
        "load_average": os.getloadavg(),
        **totals,
        "each": found,
    }


if __name__ == "__main__":
    run(
        "kills",
        __doc__,
        measure,
        kills=(50, "at least so many"),
        seed=(19, "of what is left to chance"),
        tables=TABLES,
    )
