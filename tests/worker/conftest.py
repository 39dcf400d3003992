"""Annotators whose answers can be computed by hand, and that wait or fail as they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Frame, Geometry, Origin

IDENTITY = ModelIdentity(name="echo", version="1", sha256="0" * 64)
WIDE = Geometry(shape=(2, 4), center_x=0, center_y=0)
TALL = Geometry(shape=(4, 2), center_x=0, center_y=0)
BYTES = 8 * 8
"""Of one frame of either geometry."""
PATIENCE = 10.0
"""Seconds after which a test that waits has failed; none waits that long."""


def frame(index: int, geometry: Geometry = WIDE, *, data_key: str = "image") -> Frame:
    origin = Origin(run_uid="run", stream="primary", data_key=data_key, index=index)
    return Frame(np.full(geometry.shape, float(index)), geometry, origin)


def index_of(frame: Frame) -> int:
    assert frame.origin is not None
    return frame.origin.index


class Echo:
    """Answers each frame with its first pixel as the rings' score; remembers the batches."""

    identity = IDENTITY

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.batches.append([int(frame.pixels[0, 0]) for frame in frames])
        return [self._annotate(frame) for frame in frames]

    def _annotate(self, frame: Frame) -> Annotation:
        return Annotation(
            status="ok", model=IDENTITY, origin=frame.origin, scores={"rings": float(frame.pixels[0, 0])}
        )


class Gated(Echo):
    """Annotates only once the gate is open; tells when it stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        return super().annotate(frames)


class Grumpy(Echo):
    """Raises for a batch in which any frame's index is a multiple of seven."""

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        annotations = super().annotate(frames)
        for frame in frames:
            if index_of(frame) % 7 == 0:
                raise FrameError(f"frame {index_of(frame)} is not to my taste")
        return annotations


def in_thread(task: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    return thread
