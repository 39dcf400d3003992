"""What annotates while a scan is timed: the model, in each way there is; or something that is always far behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from benchmarks.live.documents import GEOMETRY
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS

WAYS = ("process", "thread")
"""See `LiveAnnotator`."""


class FarBehind:
    """An annotator that takes a second a batch, until it is told to catch up."""

    identity = ModelIdentity(name="far behind", version="1", sha256="0" * 64)

    def __init__(self) -> None:
        self.hurry = threading.Event()

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Take its time."""
        self.hurry.wait(1.0)
        scores = dict.fromkeys(LABELS, 0.5)
        return [Annotation(status="ok", model=self.identity, origin=f.origin, scores=scores) for f in frames]


def live(annotator: Any, **settings: Any) -> LiveAnnotator:
    """The callback, for the frames of the benchmarks."""
    return LiveAnnotator(annotator, detectors={"image": GEOMETRY}, **settings)
