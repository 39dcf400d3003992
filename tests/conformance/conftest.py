"""What is annotated, pixel by pixel: an annotator that keeps what it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS

Documents = Sequence[tuple[str, dict[str, Any]]]


class PixelRecorder:
    """Keeps the pixels of all frames, by data key and index."""

    identity = ModelIdentity(name="recorder", version="1", sha256="0" * 64)

    def __init__(self) -> None:
        self.pixels: dict[tuple[str, int], NDArray[Any]] = {}

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        for frame in frames:
            assert frame.origin is not None
            where = frame.origin.data_key, frame.origin.index
            assert where not in self.pixels, "annotated twice"
            self.pixels[where] = np.array(frame.pixels)
        scores = dict.fromkeys(LABELS, 0.5)
        return [
            Annotation(status="ok", model=self.identity, origin=frame.origin, scores=scores)
            for frame in frames
        ]


class Annotated:
    """What a run became."""

    def __init__(self, recorder: PixelRecorder, rows: list[dict[str, Any]], data_key: str) -> None:
        self.rows = rows
        self.reasons = [row["reason"] for row in rows]
        self.remarks = [row["remark"] for row in rows]
        self.frames = [
            recorder.pixels[data_key, index] for key, index in sorted(recorder.pixels) if key == data_key
        ]

    def assert_equals(self, frames: Any) -> None:
        """Each row is of one of these frames, in order, and its pixels are equal, as is their type."""
        assert self.reasons == [""] * len(frames)
        assert [row["frame"] for row in self.rows] == list(range(len(frames)))
        for found, frame in zip(self.frames, frames, strict=True):
            np.testing.assert_array_equal(found, frame, strict=True)


@pytest.fixture(params=["thread", "process"])
def annotated(request: pytest.FixtureRequest) -> Callable[..., Annotated]:
    """Annotate the documents of a run as a beamline does, files read in threads and in a process of their own."""

    def annotate(
        documents: Documents, shape: tuple[int, int], data_key: str = "image", **settings: Any
    ) -> Annotated:
        recorder, rows, stored = PixelRecorder(), list[dict[str, Any]](), threading.Event()

        def keep(name: str, doc: dict[str, Any]) -> None:
            if name == "event":
                rows.append(doc["data"])

        geometry = Geometry(shape=shape, center_x=1.0, center_y=1.0)
        settings = {"patience": 20.0, "policy": "block"} | settings
        with LiveAnnotator(
            recorder,
            sinks=[keep],
            detectors={data_key: geometry},
            annotate_in=request.param,
            on_run_stored=lambda uid: stored.set(),
            **settings,
        ) as live:
            for name, doc in documents:
                live(name, doc)
            assert stored.wait(60)
            assert live.stats().rejected_documents == 0
        return Annotated(recorder, rows, data_key)

    return annotate
