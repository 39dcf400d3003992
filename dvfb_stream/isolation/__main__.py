"""The far end: makes one service, handles request after request, ends with the process that has started it.

    python -m dvfb_stream.isolation CONNECTION MEMORY

with the descriptors of a connection and of shared memory; a `ServiceProcess` starts it.
"""

from __future__ import annotations

import importlib
import logging
import mmap
import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread, main_thread
from typing import Any

from dvfb_stream.device_failures import failure_of
from dvfb_stream.errors import DvfbError
from dvfb_stream.isolation.frame_memory import MappedFrames
from dvfb_stream.isolation.limits import ProcessLimits
from dvfb_stream.isolation.messages import MOST_SAID, Kind, Service, receive, send
from dvfb_stream.texts import printable

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0
"""How often it is looked whether the parent still lives. Its end closes the connection, unless a process that it
forked holds the other end open."""

_SECONDS_TO_FINISH = 1.0
"""From then until the process ends, whatever it is at: nobody waits for it."""


def main(connection_file: int, memory: int) -> None:
    """Serve one parent until it closes the connection, or ends."""
    with Connection(connection_file) as connection:
        try:
            _serve(connection, memory)
        except (EOFError, OSError):
            return


def _serve(connection: Connection, memory: int) -> None:
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    setup = receive(connection).content
    os.nice(int(setup["niceness"]))
    if setup["limits"] is not None:
        ProcessLimits.from_json(setup["limits"]).apply()
    taken = MappedFrames(memory, mmap.ACCESS_WRITE).array(setup["taken"])
    try:
        module, _, name = setup["service"].partition(":")
        service: Service = getattr(importlib.import_module(module), name)(memory, **setup["settings"])
        description = service.describe()
    except Exception as error:  # noqa: BLE001 - raised again where the service is asked for
        send(connection, Kind.FAILED, _as_json(error))
        return
    send(connection, Kind.READY, description)
    requests: Queue[Mapping[str, Any] | None] = Queue()
    Thread(target=_listen, args=(connection, service, requests), daemon=True).start()
    while (request := requests.get()) is not None:
        taken[0] = 1
        try:
            answer = service.handle(request)
        except Exception as error:  # noqa: BLE001 - likewise
            send(connection, Kind.FAILED, _as_json(error))
        else:
            send(connection, Kind.DONE, answer)


def _listen(connection: Connection, service: Service, requests: Queue[Mapping[str, Any] | None]) -> None:
    """Hand on requests and notes, until no more can come."""
    try:
        while True:
            message = receive(connection)
            if message.kind is Kind.REQUEST:
                requests.put(message.content)
                continue
            try:
                service.notify(message.content)
            except Exception:
                logger.exception("a note is lost; the request that it helps with can do without")
    except (EOFError, OSError):
        return
    finally:
        requests.put(None)
        _leave()


def _end_with(parent: int) -> None:
    """End this process when the one that has started it ends, even while a service is being made, or stuck."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    _leave()


def _leave() -> None:
    main_thread().join(_SECONDS_TO_FINISH)
    if main_thread().is_alive():
        os._exit(1)


def _as_json(error: Exception) -> dict[str, Any]:
    """Return an error as JSON. What it means is decided here, where an exception of torch's still is what it is."""
    known = isinstance(error, DvfbError)
    if not known:
        logger.warning("a request failed", exc_info=True)
    return {
        "error": type(error).__name__,
        "message": printable(str(error) if known else f"{type(error).__name__}: {error}", MOST_SAID),
        "failure": failure_of(error).value,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
