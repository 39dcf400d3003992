"""Annotators for worker processes, which write down what they annotate and come to grief where a file says so."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame
from dvfb_stream.labels import LABELS

FACTORY = "history_annotators:Noted"


class Noted:
    """Its model is a folder: a line in ``log`` for each frame; what ``grief`` says comes of the runs named there.

    A line of ``grief``: ``RUN crash``, ``RUN crash once``, ``RUN hang``.
    """

    identity = ModelIdentity(name="noted", version="1", sha256="0" * 64)

    def __init__(self, model: str, **_: str) -> None:
        self._folder = Path(model)

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        for frame in frames:
            assert frame.origin is not None
            with (self._folder / "log").open("a") as log:
                log.write(
                    f"{os.getpid()} {frame.origin.run_uid} {frame.origin.data_key} {frame.origin.index}\n"
                )
            self._come_to_grief(frame.origin.run_uid)
        return [
            Annotation(
                status="ok",
                model=self.identity,
                origin=frame.origin,
                scores=dict.fromkeys(LABELS, 0.25),
                labels=(),
            )
            for frame in frames
        ]

    def _come_to_grief(self, uid: str) -> None:
        place = self._folder / "grief"
        lines = place.read_text().splitlines() if place.exists() else []
        for line in lines:
            who, _, how = line.partition(" ")
            if who != uid:
                continue
            if how == "hang":
                time.sleep(3600)
            if how == "crash once":
                place.write_text("\n".join(other for other in lines if other != line))
            ctypes.string_at(0)
