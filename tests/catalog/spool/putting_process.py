"""A process that puts an analysis run into a `TiledSink`, says what the sink's call has returned for, and is killed.

Usage: python putting_process.py ADDRESS FOLDER UID... ; the key is in TILED_API_KEY. Of each run all documents are
put; it prints "UID FRAME" after each row, "UID stop" after the stop, "stored" once all is stored.
"""

from __future__ import annotations

import sys
from typing import Any

FRAMES = 150


def documents(uid: str, frames: int = FRAMES) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of an analysis run as they are composed live."""
    from dvfb_stream.annotations import Annotation, ModelIdentity
    from dvfb_stream.callbacks.analysis_run import AnalysisRun
    from dvfb_stream.callbacks.frame_sequence import Row
    from dvfb_stream.labels import LABELS

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


def main(address: str, folder: str, *uids: str) -> None:
    from dvfb_stream.catalog import TiledSink, connect
    from dvfb_stream.catalog.spool import Pace

    # Short batches: more calls, and more moments to be killed in.
    sink = TiledSink(connect(address), spool=folder, batch_size=10, pace=Pace(max_age=0.01))
    say("ready")
    for uid in uids:
        for name, doc in documents(uid):
            sink(name, doc)
            if name == "event":
                say(f"{uid} {doc['data']['frame']}")
        say(f"{uid} stop")
    if sink.wait(120):
        say("stored")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
