"""Annotators for other processes that answer with the mean pixel, and come to grief where a frame says so."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import BundleError, FrameError, SettingsError
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
    GATE = 1008
    """Waits until somebody has opened the gate's file and closed it again."""


class Fragile:
    """Its version is what a file says when it is made, where one is named; another file counts how often it is."""

    def __init__(
        self,
        device: str = "cuda",
        version_file: str = "",
        refuse: str = "",
        starts_file: str = "",
        gate_file: str = "",
    ) -> None:
        if starts_file:
            with open(starts_file, "a") as starts:
                starts.write(".")
        if refuse:
            raise {"bundle": BundleError, "settings": SettingsError, "value": ValueError}[refuse](
                f"refused for the sake of {refuse}"
            )
        version = Path(version_file).read_text() if version_file else "1"
        self.identity = ModelIdentity(name="fragile", version=version, sha256="0" * 64)
        self.device = device
        self.gate_file = gate_file

    arrays: ClassVar = {"features": (2,)}
    kept: tuple[str, ...] = ()

    def keep_arrays(self, names: Sequence[str]) -> None:
        self.kept = (*self.kept, *names)

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
                doubtful=("two_fold", "halo"),
                measured_order=6,
                measured_contrast=float(frame.pixels.mean()) / 2,
                fit_residual=float("nan"),
                novelty=float(frame.geometry.center_x),
                features=np.full(2, frame.pixels.mean(), np.float32) if "features" in self.kept else None,
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
            case Grief.GATE:
                Path(self.gate_file).read_text()
            case Grief.VALUE_ERROR:
                raise ValueError("not of value")
            case Grief.FRAME_ERROR:
                raise FrameError("not a frame")
            case Grief.DEVICE if self.device != "cpu":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case Grief.MEMORY if not alone:
                raise MemoryError


class Ready:
    """A prepared frame, and the thread that has prepared it."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.thread = threading.current_thread().name


class Diligent(Fragile):
    """Prepares ahead, and says on which thread it has prepared a frame."""

    prepares_ahead = True
    ready: ClassVar[WeakSet[Ready]] = WeakSet()
    """What was prepared in this process and is still held."""

    def prepare(self, frame: Frame) -> Ready:
        ready = Ready(frame)
        self.ready.add(ready)
        return ready

    def annotate_prepared(self, prepared: Sequence[Ready]) -> list[Annotation]:
        annotations = self.annotate([ready.frame for ready in prepared])
        return [
            replace(annotation, reason=ready.thread)
            for annotation, ready in zip(annotations, prepared, strict=True)
        ]


class Obedient:
    """A service that does as it is told."""

    def __init__(self, memory: int) -> None:
        self._heard: list[Any] = []

    def describe(self) -> dict[str, Any]:
        return {}

    def notify(self, note: Mapping[str, Any]) -> None:
        if "error" in note:
            raise OSError(note["error"])
        self._heard.append(note["say"])

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "raise":
                raise FrameError("as told")
            case "exit":
                os._exit(3)
            case "be killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
        return {"heard": self._heard}
