"""Is each frame's row there once, in order, whatever happened to the catalog meanwhile, and did the scan notice?

    python -m benchmarks.outages [--only 'killed for 10 s'] > benchmarks/results/outages.json

Real `tiled serve` processes, a `LiveAnnotator` with a `TiledSink`, small frames and an annotator that says the same
of all: what is proven is the way from the document to the stored row. Waiting is real. Rows are read by Bluesky's
client.

- *killed for N s*: SIGKILL, and a new server on the same data N seconds later. Three scans: one begins without a
  server, one goes on before, during and after, one stops without a server.
- *hangs*: SIGSTOP for 40 s, longer than Tiled's client waits. *slow*: halted nine tenths of each second, for 30 s.
- *requests*: every third request ends so, for as long as the scan lasts: before the server or behind it.
- *disk*: of the server, full for 20 s; of the spool, full from when the server goes away until all that fitted is
  delivered. Both on small file systems in memory, which takes root.
- *keys*: on a server with users; a key that may only read, and one that is revoked in the middle.

Of each scan: `as_read`; times of the RunEngine's call per frame while the server is there, and while it is not;
`wait` and the numbers of rows while it is not, and in the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.as_read import as_read
from benchmarks.command import run
from benchmarks.live.documents import inline_run
from benchmarks.spool import Quick
from benchmarks.tiled_server import TiledServer, serving
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.later import LaterCatalog
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry

SHAPE = (16, 16)
GEOMETRY = Geometry(shape=SHAPE, center_x=7.5, center_y=7.5)
RATE = 5.0
"""Frames a second of each scan."""
BEFORE = AFTER = 10.0
"""Seconds of a scan before and after what happens."""
PATIENCE = 300.0
"""Seconds until all rows are stored once nothing is in the way; the longest pause of the spool is 30."""
READ_ALONE = ["read:metadata", "read:data"]


class Scan(threading.Thread):
    """A scan on a thread of its own, at `RATE`, and what became of it.

    Parameters
    ----------
    sink
        For its rows.
    seconds
        How long it takes.
    away
        Says, for each frame, whether the server is in order or not.
    """

    def __init__(self, sink: TiledSink, seconds: float, away: threading.Event) -> None:
        super().__init__(daemon=True)
        self.sink = sink
        self.frames = int(seconds * RATE)
        self._away = away
        self.uid = ""
        self.meanwhile: list[dict[str, Any]] = []
        self.documents = list(inline_run(np.ones((1, *SHAPE), np.int32), self.frames))
        self.uid = self.documents[0][1]["uid"]
        self.live = annotator(sink)
        self._spent: dict[bool, list[float]] = {True: [], False: []}
        self._failures: list[str] = []

    def run(self) -> None:
        """Feed the documents, evenly."""
        begin, taken = time.monotonic(), 0
        for name, doc in self.documents:
            if name == "event":
                time.sleep(max(0.0, begin + taken / RATE - time.monotonic()))
                taken += 1
            begun = time.perf_counter()
            try:
                self.live(name, doc)
            except Exception as error:  # noqa: BLE001 - which would end a plan, and is to be told
                self._failures.append(repr(error))
            if name == "event":
                self._spent[self._away.is_set()].append(time.perf_counter() - begun)

    def look(self) -> None:
        """Note what is said of the rows now."""
        waited, stats = self.live.wait(0.2), self.sink.stats()
        self.meanwhile.append(
            {
                "wait": waited,
                "stored": stats.stored_rows,
                "spooled": stats.spooled_rows,
                "quarantined": stats.quarantined_rows,
                "lost": stats.lost_rows,
                "trouble": stats.trouble[:160],
            }
        )

    def ended(self, client: Any, *, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for its end and its rows, and return what became of it."""
        self.join()
        began = time.monotonic()
        waited = self.live.wait(patience)
        took = time.monotonic() - began
        stats = self.sink.stats()
        self.live.close(1.0)
        return {
            "frames": self.frames,
            "as_read": as_read(client, self.uid, self.frames),
            "call_ms_server_there": spread(self._spent[False]),
            "call_ms_server_not_there": spread(self._spent[True]),
            "raised": self._failures,
            "meanwhile": self.meanwhile,
            "wait_in_the_end": waited,
            "seconds_waited_in_the_end": round(took, 1),
            "lost_rows": stats.lost_rows,
            "quarantined_rows": stats.quarantined_rows,
        }


def annotator(sink: TiledSink) -> LiveAnnotator:
    """Return the callback of a scan."""
    return LiveAnnotator(Quick(), sinks=[sink], detectors={"image": GEOMETRY}, annotate_in="thread")


def spread(seconds: list[float]) -> dict[str, float] | None:
    """Return the middle and the upper end of times, in milliseconds."""
    if not seconds:
        return None
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "calls": len(seconds),
        "p50": round(p50 * 1e3, 3),
        "p99": round(p99 * 1e3, 3),
        "max": round(max(seconds) * 1e3, 3),
    }


def raw(server: TiledServer, key: str | None = None) -> Any:
    """Return a client of the container of raw runs."""
    from tiled.client import from_uri

    root = from_uri(server.address, api_key=key or server.key)
    return root["raw"] if "raw" in root else root.create_container("raw")


def killed(seconds: float) -> dict[str, Any]:
    """A server that is killed, and comes back after some seconds."""
    away = threading.Event()
    with serving() as server, tempfile.TemporaryDirectory() as spool:
        client = raw(server)
        os.environ["TILED_API_KEY"] = server.key
        middle = Scan(TiledSink(client, spool=spool), BEFORE + seconds + AFTER, away)
        stop = Scan(TiledSink(client, spool=spool), BEFORE + 0.8 * seconds, away)
        middle.start()
        stop.start()
        time.sleep(BEFORE)
        away.set()
        server.kill()
        begun = time.monotonic()
        start = Scan(TiledSink(LaterCatalog(client.uri), spool=spool), seconds + AFTER, away)
        start.start()
        scans = {"at the start": start, "in the middle": middle, "at the stop": stop}
        for share in (0.5, 0.95):
            time.sleep(max(0.0, begun + share * seconds - time.monotonic()))
            for scan in scans.values():
                scan.look()
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        server.start()
        was_away = time.monotonic() - begun
        away.clear()
        found = {name: scan.ended(client) for name, scan in scans.items()}
        for scan in scans.values():
            scan.sink.close(PATIENCE)
        return {"seconds_away": round(was_away, 1), "scans": found}


def halted(seconds: float) -> dict[str, Any]:
    """A server that hangs for some seconds."""
    return disturbed(seconds, TiledServer.halt, TiledServer.go_on)


def slow(seconds: float) -> dict[str, Any]:
    """A server that works a tenth of the time."""
    over = threading.Event()

    def begin(server: TiledServer) -> None:
        def brake() -> None:
            while not over.is_set():
                server.halt()
                time.sleep(0.9)
                server.go_on()
                time.sleep(0.1)

        threading.Thread(target=brake).start()

    return disturbed(seconds, begin, lambda _: over.set())


def disturbed(
    seconds: float, begin: Callable[[TiledServer], object], end: Callable[[TiledServer], object]
) -> dict[str, Any]:
    """One scan, before, while and after something is done to the server."""
    away = threading.Event()
    with serving() as server, tempfile.TemporaryDirectory() as spool:
        client = raw(server)
        scan = Scan(TiledSink(client, spool=spool), BEFORE + seconds + AFTER, away)
        scan.start()
        time.sleep(BEFORE)
        away.set()
        begin(server)
        time.sleep(seconds / 2)
        scan.look()
        time.sleep(seconds / 2)
        end(server)
        away.clear()
        return {"scans": {"in the middle": scan.ended(client)}}


class Faulty(httpx.BaseTransport):
    """Between Tiled's client and its server: every third request ends in `fault`, while there is one."""

    def __init__(self, way: httpx.BaseTransport) -> None:
        self._way = way
        self._requests = self.faults = 0
        self.fault: Callable[[Callable[[], httpx.Response]], httpx.Response] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on, or not."""
        self._requests += 1
        if self.fault is None or self._requests % 3:
            return self._way.handle_request(request)
        self.faults += 1
        return self.fault(lambda: self._way.handle_request(request))

    def close(self) -> None:
        """Close what lies behind."""
        self._way.close()


def status(code: int, answer: Callable[[], httpx.Response]) -> httpx.Response:
    """A proxy answers in the server's place."""
    return httpx.Response(code, json={"detail": f"a proxy says {code}"})


def raises(error: Exception, answer: Callable[[], httpx.Response]) -> httpx.Response:
    """Nothing comes as far as the server."""
    raise error


def loses(answer: Callable[[], httpx.Response]) -> httpx.Response:
    """The server does it, and nobody is told."""
    answer().read()
    raise httpx.RemoteProtocolError("the server disconnected without an answer")


def page(answer: Callable[[], httpx.Response]) -> httpx.Response:
    """A page of a proxy's own, with status 200."""
    return httpx.Response(200, content=b"<html>maintenance</html>")


FAULTS: dict[str, Callable[[Callable[[], httpx.Response]], httpx.Response]] = {
    "answers are lost on the way": loses,
    "connections are refused": partial(raises, httpx.ConnectError("connection refused")),
    "answers time out": partial(raises, httpx.ReadTimeout("timed out")),
    "a proxy's page": page,
    **{str(code): partial(status, code) for code in (409, 429, 500, 503)},
}


def requests(seconds: float) -> dict[str, Any]:
    """Every third request fails, in one way after another; a server and a spool for all."""
    found: dict[str, Any] = {}
    with serving() as server:
        for name, fault in FAULTS.items():
            with tempfile.TemporaryDirectory() as spool:
                client = raw(server)
                http_client = client.context.http_client
                http_client._transport = faulty = Faulty(http_client._transport)
                away = threading.Event()
                away.set()
                scan = Scan(TiledSink(client, spool=spool), seconds, away)
                faulty.fault = fault
                scan.start()
                scan.join()
                scan.look()
                faulty.fault = None
                found[name] = scan.ended(client) | {"faults": faulty.faults}
    return {"scans": found}


@contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A file system in memory of so many kilobytes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def server_disk_full(seconds: float) -> dict[str, Any]:
    """The disk of the server is full for some seconds."""
    with small_disk(64 << 10) as disk:
        away, ballast = threading.Event(), disk / "ballast"
        with serving(disk / "server") as server, tempfile.TemporaryDirectory() as spool:
            client = raw(server)
            scan = Scan(TiledSink(client, spool=spool), BEFORE + seconds + AFTER, away)
            scan.start()
            time.sleep(BEFORE)
            away.set()
            fill(ballast)
            time.sleep(seconds)
            fill(ballast)
            scan.look()
            ballast.unlink()
            away.clear()
            return {"scans": {"in the middle": scan.ended(client)}}


def fill(path: Path) -> None:
    """Fill what is left of a file system."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def spool_disk_full(seconds: float) -> dict[str, Any]:
    """The disk of the spool is full from when the server goes away until all is delivered; then it is given again."""
    away = threading.Event()
    with small_disk(24 << 10) as disk, serving() as server:
        client, ballast = raw(server), disk / "ballast"
        sink = TiledSink(client, spool=disk / "spool")
        scan = Scan(sink, BEFORE + seconds, away)
        scan.start()
        time.sleep(BEFORE)
        away.set()
        server.kill()
        for _ in range(4):
            fill(ballast)
            time.sleep(seconds / 4)
        scan.look()
        scan.join()
        server.start()
        away.clear()
        until(lambda: not sink.stats().spooled_rows)
        first = scan.ended(client, patience=10.0)
        ballast.unlink()
        again = Scan(TiledSink(client, spool=disk / "spool"), 0.0, away)
        again.frames, again.documents, again.uid = scan.frames, scan.documents, scan.uid
        again.start()
        second = again.ended(client)
        sink.close(1.0)
        return {"scans": {"disk full": first, "given again": second}}


def keys(seconds: float) -> dict[str, Any]:
    """A key that may only read, and one that is revoked."""
    away = threading.Event()
    with serving(with_users=True) as server, tempfile.TemporaryDirectory() as spool:
        good = server.api_key()
        client = raw(server, good["secret"])
        reader = raw(server, server.api_key(READ_ALONE)["secret"])
        try:
            refused = "it starts"
            Scan(TiledSink(reader, spool=spool), seconds, away)
        except SettingsError as error:
            refused = str(error)
        revoked = server.api_key()
        sink = TiledSink(raw(server, revoked["secret"]), spool=spool)
        scan = Scan(sink, BEFORE + seconds, away)
        scan.start()
        time.sleep(BEFORE)
        away.set()
        server.revoke(revoked["first_eight"])
        time.sleep(seconds / 2)
        scan.look()
        scan.join()
        scan.look()
        before = scan.ended(client, patience=1.0)
        sink.close(0.0)
        # The process is started again with another key, and finds what the one before left.
        with TiledSink(client, spool=spool) as other:
            until(lambda: not other.stats().inherited_rows and len(list(Path(spool).glob("*.sqlite"))) == 1)
        after = as_read(client, scan.uid, scan.frames)
        return {
            "a key that may only read, at the start": refused,
            "scans": {"revoked in the middle": before | {"as_read_with_another_key": after}},
        }


def until(true: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to be")
        time.sleep(0.1)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"killed for {seconds} s": partial(killed, float(seconds)) for seconds in (600, 130, 60, 10)},
    "hangs for 40 s": partial(halted, 40.0),
    "slow for 30 s": partial(slow, 30.0),
    "every third request": partial(requests, 20.0),
    "the server's disk is full for 20 s": partial(server_disk_full, 20.0),
    "the spool's disk is full": partial(spool_disk_full, 60.0),
    "keys": partial(keys, 20.0),
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the cases, some at a time, each in a process of its own."""
    names = [name for name in CASES if options.only in name]
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(
        options.at_once, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        running = {pool.submit(_case, name): name for name in names}
        for done in as_completed(running):
            name = running[done]
            found[name] = done.result()
            print(f"{name}: {time.strftime('%H:%M:%S')}", file=sys.stderr)
    return {"rate": RATE, "load_average": os.getloadavg(), "cases": {name: found[name] for name in names}}


def _case(name: str) -> dict[str, Any]:
    try:
        return CASES[name]()
    except Exception as error:  # noqa: BLE001 - an hour of the other cases
        return {"failed": repr(error)}


if __name__ == "__main__":
    run(
        "outages", __doc__, measure, only=("", "a part of the names of cases"), at_once=(4, "cases at a time")
    )
