"""Writes analysis runs in processes that are killed at a request: called as a script, it forks one for each order.

An order is a line of JSON on standard input: ``{"uri", "documents", "batch", "shuffle", "kill_at", "kill"}``. The
answer is a line of JSON: how the process ended, and how many requests it sent. Forking spares each process the import
of Tiled, which takes seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tiled.client import from_uri

from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreUnavailableError

PAUSE = 0.05


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        children = []
        for _ in range(order.get("processes", 1)):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                _work(order, writing)
            os.close(writing)
            children.append((pid, reading))
        answers = []
        for pid, reading in children:
            with os.fdopen(reading) as said:
                text = said.read()
            _, status = os.waitpid(pid, 0)
            answers.append({"ended": os.waitstatus_to_exitcode(status), "said": text})
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


def _work(order: dict[str, Any], writing: int) -> None:
    status = 1
    try:
        requests = _write(order)
        os.write(writing, str(requests).encode())
        status = 0
    except BaseException as error:  # noqa: BLE001 told to the test
        os.write(writing, repr(error).encode())
    finally:
        os._exit(status)


def _write(order: dict[str, Any]) -> int:
    client = from_uri(order["uri"])["raw"]
    counted = _Requests(client.context.http_client, order.get("kill_at"), order.get("kill"))
    documents = json.loads(Path(order["documents"]).read_text())
    start, descriptor, *events, stop = (doc for _, doc in documents)
    if order.get("shuffle"):
        random.Random(os.getpid()).shuffle(events)
    store = AnnotationStore(client)
    batch = order["batch"]
    for first in range(0, len(events), batch):
        _until_stored(store.write, start, descriptor, events[first : first + batch])
    _until_stored(store.finish, start, descriptor, stop)
    return counted.sent


def _until_stored(call: Any, *documents: Any) -> None:
    while True:
        try:
            return call(*documents)
        except StoreUnavailableError:
            time.sleep(PAUSE)


class _Requests:
    """Counts the requests of a client, and kills this process before or after one: sent, but not answered."""

    def __init__(self, http_client: Any, kill_at: int | None, kill: str | None) -> None:
        self.sent = 0
        self._send = http_client.send
        self._kill_at, self._kill = kill_at, kill
        http_client.send = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.sent += 1
        if self.sent == self._kill_at and self._kill == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = self._send(*args, **kwargs)
        if self.sent == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


if __name__ == "__main__":
    main()
