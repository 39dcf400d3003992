"""Processes that put analysis runs into a `TiledSink`, say what the sink's call has returned for, and are killed.

Called as a script, it forks one for each order, which is a line of JSON on standard input: ``{"address", "spool",
"said", "uids"}``; the answer is a line with its process id. The key is in TILED_API_KEY. Of each run all documents
are put; in the file `said` is "UID FRAME" after each row, "UID stop" after the stop, "stored" once all is stored.
Then it waits to be killed. Forking spares each process the import of Tiled, which takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.catalog import TiledSink, connect
from dvfb_stream.catalog.spool import Pace
from dvfb_stream.labels import LABELS

FRAMES = 150


def documents(uid: str, frames: int = FRAMES) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of an analysis run as they are composed live."""
    identity = ModelIdentity(name="small", version="1", sha256="0" * 64)
    run = AnalysisRun(
        {"uid": uid, "time": 1000.0},
        stream="primary",
        data_key="image",
        provenance={"model": {"name": "small", "version": "1", "sha256": "0" * 64}, "labels": list(LABELS)},
        geometry=None,
        started=1000.0,
        described=1001.0,
    )

    def row(frame: int) -> Row:
        scores = dict.fromkeys(LABELS, frame / frames)
        return Row(
            index=frame, time=1002.0, annotation=Annotation(status="ok", model=identity, scores=scores)
        )

    events = [("event", run.event(row(frame))) for frame in range(frames)]
    return [("start", run.start()), ("descriptor", run.descriptor()), *events, ("stop", run.stop(2000.0))]


def main() -> None:
    # Who is killed must be gone at once: another takes its run over when the system says so.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                put(order)
            finally:
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def put(order: dict[str, Any]) -> None:
    said = os.open(order["said"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def say(text: str) -> None:
        os.write(said, f"{text}\n".encode())

    # Short batches: more calls, and more moments to be killed in.
    sink = TiledSink(connect(order["address"]), spool=order["spool"], batch_size=10, pace=Pace(max_age=0.01))
    say("ready")
    for uid in order["uids"]:
        for name, doc in documents(uid):
            sink(name, doc)
            if name == "event":
                say(f"{uid} {doc['data']['frame']}")
        say(f"{uid} stop")
    if sink.wait(120):
        say("stored")
    signal.pause()


if __name__ == "__main__":
    main()
