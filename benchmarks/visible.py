"""When does an ordinary client see a row, and does memory grow with the rows of a run?

    python -m benchmarks.visible delay [--seconds 60] > benchmarks/results/visible-delay.json
    python -m benchmarks.visible memory [--rows 100000] > benchmarks/results/visible-memory.json

A real `tiled serve` with its tables in PostgreSQL or DuckDB, a `TiledSink` with the settings that it has by itself.

`delay`: seconds from the sink's call with a row to the end of the read that has it, at 1, 10 and 100 rows a second.
Bluesky's client in a process of its own reads the frames of the run again and again; one of its reads is in the
figure, and takes as long as `read_s` says.

`memory`: resident memory of the process with the sink and of the server, and the time and the server's processor that
a row takes, all along a run of so many rows that come as fast as they are stored, 64 in a call.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any

import httpx
import numpy as np

from benchmarks.command import run
from benchmarks.outages import raw, until
from benchmarks.store import Documents, documents
from benchmarks.tiled_server import TABLES, TiledServer, processor_seconds_of, resident_bytes_of, serving
from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.place import STREAM, TABLE, find_place
from dvfb_stream.catalog.run_table import FRAME

RATES = (1, 10, 100)
"""Rows a second."""
SECONDS_BETWEEN_READS = 0.02
SECONDS_OF_BEGINNING = 5.0
"""Of a run, in which its nodes are made, which takes a dozen requests."""
AT_A_TIME = 2_000
"""Rows that wait in the spool at most, while the memory is looked at."""


def watch(address: str, key: str, uid: str, rows: int, seen: Any) -> None:
    """Read the frames of a run again and again; tell when each was there, and how long a read takes."""
    from tiled.client import from_uri

    client, there, took, failed = from_uri(address, api_key=key)["raw"], 0, [], 0
    seen.put("ready")
    table = None
    while there < rows:
        begun = time.monotonic()
        if table is None:
            place = find_place(client)
            found = place.get(uid) if place is not None else None
            stream = found.get(STREAM) if found is not None else None
            table = stream.base.get(TABLE) if stream is not None else None
            if table is None:
                time.sleep(SECONDS_BETWEEN_READS)
                continue
        # Not `stream["frame"].read()`: of a column that grows between its two requests, Tiled makes status 500.
        try:
            frames = table.read([FRAME])[FRAME]
        except (httpx.HTTPError, OSError):  # whoever reads does so again
            failed += 1
            table = None
            continue
        now = time.monotonic()
        took.append(now - begun)
        seen.put([(int(frame), now) for frame in frames.unique()[there:]])
        there = frames.nunique()
        time.sleep(SECONDS_BETWEEN_READS)
    seen.put((float(np.median(took)), failed))


def delay(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    found: dict[str, Any] = {}
    with serving(tables=options.tables) as server, tempfile.TemporaryDirectory() as spool:
        client = raw(server)
        # What each run begins with is in the first figures only: the containers are there before.
        with TiledSink(client, spool=spool) as sink:
            sink.probe()
        for rate in RATES:
            found[f"{rate} rows a second"] = delay_at(rate, options.seconds, server, client, spool)
            print(f"{rate}: {found[f'{rate} rows a second']}", file=sys.stderr)
        ended = server.ended_by_itself
    return {
        "tables": options.tables,
        "server_ended_by_itself": ended,
        "delays": found,
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
    }


def delay_at(rate: int, seconds: int, server: TiledServer, client: Any, spool: str) -> dict[str, Any]:
    """Put rows at a rate, and compare when they were put with when they were seen."""
    analysis = documents(rate * seconds)
    context = multiprocessing.get_context("spawn")
    seen = context.Queue()
    rows = len(analysis.events)
    watching = context.Process(
        target=watch, args=(server.address, server.key, analysis.start["uid"], rows, seen)
    )
    watching.start()
    seen.get(timeout=120.0)
    put = {}
    with TiledSink(client, spool=spool) as sink:
        sink("start", analysis.start)
        sink("descriptor", analysis.descriptor)
        begin = time.monotonic()
        for frame, event in enumerate(analysis.events):
            time.sleep(max(0.0, begin + frame / rate - time.monotonic()))
            put[frame] = time.monotonic()
            sink("event", event)
        first_seen: dict[int, float] = {}
        while not isinstance(told := seen.get(timeout=120.0), tuple):
            for frame, when in told:
                first_seen.setdefault(frame, when)
        sink("stop", analysis.stop)
    watching.join()
    late = np.array([first_seen[frame] - put[frame] for frame in put])
    later = late[int(SECONDS_OF_BEGINNING * rate) :]
    return {
        "rows": len(late),
        "first_row_s": round(float(late[0]), 3),
        **{f"p{share}_s": round(float(np.percentile(late, share)), 3) for share in (50, 99)},
        **{
            f"p{share}_s_without_the_first_5_s": round(float(np.percentile(later, share)), 3)
            for share in (50, 99)
        },
        "max_s": round(float(late.max()), 3),
        "within_1_s": round(float((late <= 1.0).mean()), 4),
        "read_s": round(told[0], 3),
        "reads_failed": told[1],
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    analysis: Documents = documents(options.rows)
    every = max(1, options.rows // 20)
    along = []
    with serving(tables=options.tables) as server, tempfile.TemporaryDirectory() as spool:
        client = raw(server)
        with TiledSink(client, spool=spool) as sink:
            sink("start", analysis.start)
            sink("descriptor", analysis.descriptor)
            begun, processor = time.monotonic(), processor_seconds_of(server.pid)
            for number, event in enumerate(analysis.events, start=1):
                if number % AT_A_TIME == 0:
                    until(lambda: sink.stats().spooled_rows < AT_A_TIME // 2)
                sink("event", event)
                if number % every == 0:
                    until(lambda n=number: sink.stats().stored_rows == n)  # type: ignore[misc]
                    now, used = time.monotonic(), processor_seconds_of(server.pid)
                    along.append(
                        {
                            "rows": number,
                            "process_mb": round(resident_bytes_of(os.getpid()) / 1e6, 1),
                            "server_mb": round(resident_bytes_of(server.pid) / 1e6, 1),
                            "ms_a_row": round(1e3 * (now - begun) / every, 3),
                            "server_processor_ms_a_row": round(1e3 * (used - processor) / every, 3),
                        }
                    )
                    print(along[-1], file=sys.stderr)
                    begun, processor = now, used
            begun = time.monotonic()
            sink("stop", analysis.stop)
            stored = sink.wait(600.0)
            stop = {
                "stored": stored,
                "seconds": round(time.monotonic() - begun, 2),
                "process_mb": round(resident_bytes_of(os.getpid()) / 1e6, 1),
                "server_mb": round(resident_bytes_of(server.pid) / 1e6, 1),
            }
        ended = server.ended_by_itself
    return {
        "tables": options.tables,
        "server_ended_by_itself": ended,
        "along": along,
        "stop": stop,
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
    }


if __name__ == "__main__":
    run(
        "visible",
        __doc__,
        {"delay": delay, "memory": memory},
        seconds=(60, "how long rows come at each rate"),
        rows=(100_000, "of the run whose memory is looked at"),
        tables=TABLES,
    )
