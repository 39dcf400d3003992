"""What a process and the one that has started it say to one another: JSON, never pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

MOST_SAID = 4_000
"""Characters of an error that is told to another process: it may quote what a file or a document says."""


class Service(Protocol):
    """What a process does for the one that has started it; made as ``Service(memory, **settings)``."""

    def describe(self) -> Mapping[str, Any]:
        """Return what it says of itself once it is ready; JSON-ready.

        ``device``, unless it is the CPU: where it computes, which is lost when it does not answer.
        """
        ...

    def notify(self, note: Mapping[str, Any]) -> None:
        """Take note of what is to be known before a request; on another thread, while a request is handled.

        What it raises is logged, and the note is lost.
        """
        ...

    def handle(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is asked for; JSON-ready. May raise: the request has failed then."""
        ...


class Kind(StrEnum):
    """What a message is."""

    SETUP = "setup"
    """To the process: which service, and its settings. Answered by `READY` or `FAILED`."""
    READY = "ready"
    """The service is there, and how it describes itself."""
    NOTE = "note"
    """To the process, which does not answer: what helps with a request to come."""
    REQUEST = "request"
    """To the process. Answered by `DONE` or `FAILED`."""
    DONE = "done"
    """What was asked for."""
    FAILED = "failed"
    """The service raised: kind and text of the error, and what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message."""

    kind: Kind
    content: Mapping[str, Any]


def send(connection: Connection, kind: Kind, content: Mapping[str, Any]) -> None:
    """Send a message whole.

    Raises
    ------
    OSError
        When nobody is there to read it.
    TypeError
        When the content is not JSON, numbers of NumPy's aside.
    """
    connection.send_bytes(json.dumps({"kind": kind, "content": content}, default=_plain).encode())


def receive(connection: Connection) -> Message:
    """Wait for a message; EOFError or OSError when none can come any more."""
    message = json.loads(connection.recv_bytes())
    return Message(kind=Kind(message["kind"]), content=message["content"])


def _plain(value: object) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be said to another process")
