"""A Kafka daemon as a process, to be killed: it notes which frames it annotates, where SIGKILL does not reach.

    python -m benchmarks.annotating_daemon '{"servers": ["localhost:9092"], "topic": ..., "tiled": URI, ...}'

Scores of every label are a frame's mean pixel over 100,000, so that a row tells which frame it was made from.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS

SHAPE = (4, 6)
MOST = 100_000
"""Brightness of a frame that scores 1."""


class NotingAnnotator:
    """Takes as long for a frame as it is told, and notes each one in a file as soon as it has it."""

    identity = ModelIdentity(name="brightness", version="1", sha256="0" * 64)
    arrays: ClassVar[dict[str, tuple[int, ...]]] = {}

    def __init__(self, notes: Path, seconds: float) -> None:
        self._notes = os.open(notes, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._seconds = seconds

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame."""
        said = "".join(f"{f.origin.run_uid} {f.origin.index} {len(frames)}\n" for f in frames if f.origin)
        os.write(self._notes, said.encode())
        time.sleep(self._seconds * len(frames))
        return [
            Annotation(
                status="ok", model=self.identity, origin=frame.origin, fit_residual=0.0, novelty=0.0,
                scores=dict.fromkeys(LABELS, float(np.mean(frame.pixels)) / MOST),
            )
            for frame in frames
        ]  # fmt: skip


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a daemon that is missed by its group after `session` seconds, 1.5 by default."""
    session = options.get("session", 1.5)
    return {
        "kafka": {
            "bootstrap_servers": options["servers"],
            "topics": [options["topic"]],
            "group": options["group"],
            "session_timeout": session,
            "heartbeat_interval": session / 5,
            "max_poll_interval": 30.0,
            "commit_interval": 0.2,
        },
        "sinks": {"jsonl": "unused"},
        "limits": {"batch_size": options["batch"], "max_wait": 0.05, "drain_timeout": 20.0},
        "root_map": options.get("root_map", {}),
        "dead_letters": {"folder": options.get("letters", f"{options['spool']}-letters")},
    }


def annotate(options: dict[str, Any]) -> None:
    """Be a daemon until SIGTERM, with the server's key in TILED_API_KEY."""
    from dvfb_stream.catalog import TiledSink
    from dvfb_stream.catalog.later import LaterCatalog
    from dvfb_stream.catalog.spool import WhenFull
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.kafka.daemon import Daemon

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "kafka", "tiled"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    logging.getLogger("kafka.coordinator").setLevel(logging.INFO)  # says when it joins its group
    sink = TiledSink(LaterCatalog(options["tiled"]), spool=options["spool"], when_full=WhenFull.WAIT)
    daemon = Daemon(
        DaemonSettings.model_validate(settings_of(options)),
        NotingAnnotator(Path(options["notes"]), options["seconds"]),
        detectors={"image": Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)},
        sinks_for_partition=lambda: (sink,),
        store_trouble=lambda: sink.stats().trouble,
    )
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    daemon.run()
    sink.close(20.0)


if __name__ == "__main__":
    annotate(json.loads(sys.argv[1]))
