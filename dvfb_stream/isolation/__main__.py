"""The far end: makes one service, answers request after request, ends with the process that has started it.

    python -m dvfb_stream.isolation CONNECTION MEMORY

with the descriptors of a connection and of shared memory; a `Companion` starts it.
"""

from __future__ import annotations

import importlib
import logging
import mmap
import os
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread
from typing import Any

from dvfb_stream.errors import DvfbError
from dvfb_stream.failures import failure_of
from dvfb_stream.isolation.frame_memory import MappedFrames
from dvfb_stream.isolation.messages import Kind, receive, send
from dvfb_stream.isolation.service import Service

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 5.0
"""How often it is looked whether the parent still lives. Its end closes the connection, unless a process that it
forked holds the other end open."""


def main(connection_file: int, memory: int) -> None:
    """Serve one parent until it closes the connection, or ends."""
    with Connection(connection_file) as connection:
        try:
            _serve(connection, memory)
        except (EOFError, OSError):
            return


def _serve(connection: Connection, memory: int) -> None:
    setup = receive(connection).content
    os.nice(int(setup["niceness"]))
    taken = MappedFrames(memory, mmap.ACCESS_WRITE).array(setup["taken"])
    try:
        service = _made(setup["service"], memory, setup["settings"])
        introduction = service.introduction()
    except Exception as error:  # noqa: BLE001 - raised again where the service is asked for
        send(connection, Kind.FAILED, _described(error))
        return
    send(connection, Kind.READY, introduction)
    requests: Queue[Mapping[str, Any] | None] = Queue()
    listening = Thread(target=_listen, args=(connection, service, requests), daemon=True)
    listening.start()
    while (request := requests.get()) is not None:
        taken[0] = 1
        try:
            answer = service.answer(request)
        except Exception as error:  # noqa: BLE001 - likewise
            send(connection, Kind.FAILED, _described(error))
        else:
            send(connection, Kind.DONE, answer)


def _listen(connection: Connection, service: Service, requests: Queue[Mapping[str, Any] | None]) -> None:
    """Hand on requests and notes, until no more can come."""
    parent = os.getppid()
    try:
        while True:
            while not connection.poll(_SECONDS_BETWEEN_LOOKS):
                if os.getppid() != parent:
                    return
            message = receive(connection)
            if message.kind is Kind.NOTE:
                _hear(service, message.content)
            else:
                requests.put(message.content)
    except (EOFError, OSError):
        return
    finally:
        requests.put(None)


def _hear(service: Service, note: Mapping[str, Any]) -> None:
    try:
        service.hear(note)
    except Exception:
        logger.exception("a note is lost; the request that it helps with can do without")


def _made(name: str, memory: int, settings: Mapping[str, Any]) -> Service:
    module, _, within = name.partition(":")
    made: Service = getattr(importlib.import_module(module), within)(memory, **settings)
    return made


def _described(error: Exception) -> dict[str, Any]:
    """Return an error as JSON. What it means is decided here, where an exception of torch's still is what it is."""
    known = isinstance(error, DvfbError)
    if not known:
        logger.warning("a request failed", exc_info=True)
    return {
        "error": type(error).__name__,
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "failure": failure_of(error).value,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
