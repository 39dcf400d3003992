"""The annotator's process: makes one annotator, annotates batch after batch, ends with the process that started it.

    python -m dvfb_stream.worker.process CONNECTION MEMORY

with the descriptors of a connection and of shared memory; `AnnotatorProcess` starts it.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from dvfb_stream.errors import DvfbError
from dvfb_stream.metrics import Stage
from dvfb_stream.worker.device_failures import failure_of
from dvfb_stream.worker.interface import ReportsStages, SupportsAnnotate
from dvfb_stream.worker.process.messages import Kind, described, described_identity, receive, send
from dvfb_stream.worker.process.shared_frames import FrameReader

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 5.0
"""How often it is looked whether the parent still lives. Its end closes the connection, unless a process that it
forked holds the other end open."""


def main(connection_file: int, memory_file: int) -> None:
    """Serve one parent until it closes the connection, or ends."""
    parent = os.getppid()
    with Connection(connection_file) as connection:
        try:
            _serve(connection, FrameReader(memory_file), parent)
        except (EOFError, OSError):
            return


def _serve(connection: Connection, frames: FrameReader, parent: int) -> None:
    setup = receive(connection).content
    os.nice(int(setup["nice"]))
    try:
        annotator = _made(setup["factory"], setup["settings"])
        provenance = getattr(annotator, "provenance", dict)()
    except Exception as error:
        if not isinstance(error, DvfbError):
            logger.exception("the annotator cannot be made")
        send(connection, Kind.REFUSED, error=type(error).__name__, message=str(error))
        return
    stages: list[tuple[str, float]] = []
    if isinstance(annotator, ReportsStages):
        annotator.report_stages(lambda stage, seconds: stages.append((Stage(stage).value, seconds)))
    send(connection, Kind.READY, identity=described_identity(annotator.identity), provenance=provenance)
    while _wait(connection, parent):
        batch = receive(connection).content
        send(connection, Kind.TAKEN)
        stages.clear()
        try:
            annotations = annotator.annotate(frames.read(batch["frames"]))
            answer = [described(annotation) for annotation in annotations]
        except Exception as error:
            # What it means is decided here, where torch's own exceptions still are what they are.
            known = isinstance(error, DvfbError)
            if not known:
                logger.warning("a batch of %d frames failed", len(batch["frames"]), exc_info=True)
            message = str(error) if known else f"{type(error).__name__}: {error}"
            send(connection, Kind.FAILED, failure=failure_of(error).value, message=message)
        else:
            send(connection, Kind.ANNOTATED, annotations=answer, stages=stages)


def _wait(connection: Connection, parent: int) -> bool:
    """Wait for a message; False when the parent has ended without closing the connection."""
    while not connection.poll(_SECONDS_BETWEEN_LOOKS):
        if os.getppid() != parent:
            return False
    return True


def _made(factory: str, settings: Mapping[str, Any]) -> SupportsAnnotate:
    """Return what the factory ``module:name`` makes of the settings."""
    module, _, name = factory.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    made: SupportsAnnotate = found(**settings)
    return made


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
