"""An annotator for other processes: answers with the mean pixel, and comes to grief where a frame says so."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import BundleError, FrameError
from dvfb_stream.frames import Frame, Geometry, Origin

FACTORY = "fragile:Fragile"
GEOMETRY = Geometry(shape=(3, 5), center_x=1.5, center_y=0.25)


def frame(value: float, index: int = 0, geometry: Geometry = GEOMETRY) -> Frame:
    origin = Origin(run_uid="run", stream="primary", data_key="image", index=index, event_uid="e")
    return Frame(np.full(geometry.shape, float(value)), geometry, origin)


class Grief(IntEnum):
    """Value of the first pixel of a frame, and what comes of it."""

    EXIT = 1001
    KILL = 1002
    HANG = 1003
    VALUE_ERROR = 1004
    FRAME_ERROR = 1005
    DEVICE = 1006
    """On any device but the CPU."""
    MEMORY = 1007
    """In batches of more than one."""


class Fragile:
    """Its version is what a file says when it is made, where one is named."""

    def __init__(self, device: str = "cuda", version_file: str = "", refuse: str = "") -> None:
        if refuse:
            raise {"bundle": BundleError, "value": ValueError}[refuse](f"refused for the sake of {refuse}")
        version = Path(version_file).read_text() if version_file else "1"
        self.identity = ModelIdentity(name="fragile", version=version, sha256="0" * 64)
        self.device = device

    def provenance(self) -> dict[str, object]:
        return {"labels": ["rings"], "thresholds": {"rings": 0.5}}

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        for frame in frames:
            self._come_to(int(frame.pixels.flat[0]), alone=len(frames) == 1)
        return [
            Annotation(
                status="ok",
                model=self.identity,
                origin=frame.origin,
                scores={"rings": float(frame.pixels.mean())},
                labels=("rings",),
                fit_residual=float("nan"),
                novelty=float(frame.geometry.center_x),
                reason=f"{self.device} {frame.pixels.dtype.str} {frame.geometry.digest}",
            )
            for frame in frames
        ]

    def _come_to(self, value: int, *, alone: bool) -> None:
        match value:
            case Grief.EXIT:
                os._exit(3)
            case Grief.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Grief.HANG:
                threading.Event().wait()
            case Grief.VALUE_ERROR:
                raise ValueError("not of value")
            case Grief.FRAME_ERROR:
                raise FrameError("not a frame")
            case Grief.DEVICE if self.device != "cpu":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case Grief.MEMORY if not alone:
                raise MemoryError


class Diligent(Fragile):
    """Prepares ahead, and says on which thread it has prepared a frame."""

    prepares_ahead = True

    def prepare(self, frame: Frame) -> tuple[Frame, str]:
        return frame, threading.current_thread().name

    def annotate_prepared(self, prepared: Sequence[tuple[Frame, str]]) -> list[Annotation]:
        annotations = self.annotate([frame for frame, _ in prepared])
        return [
            replace(annotation, reason=thread)
            for annotation, (_, thread) in zip(annotations, prepared, strict=True)
        ]
