"""A small annotator whose answers can be computed by hand, and simple raw documents."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS

SHAPE = (4, 6)


class BrightnessAnnotator:
    """Scores of the ten labels are the mean pixel over 100; NaN frames fail.

    Above 0.5 a frame has rings, and a halo is doubtful; above 0.7 an order of 4 is measured.
    """

    identity = ModelIdentity(name="brightness", version="1", sha256="0" * 64)
    arrays: ClassVar = {"coefficients": (2, 3, 2), "features": (4,)}
    kept: tuple[str, ...] = ()

    def keep_arrays(self, names: Sequence[str]) -> None:
        self.kept = (*self.kept, *names)

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        return [self._annotate(frame) for frame in frames]

    def _annotate(self, frame: Frame) -> Annotation:
        score = float(np.mean(frame.pixels)) / 100
        if not np.isfinite(score):
            return Annotation.failed("pixels are not finite", model=self.identity, origin=frame.origin)
        return Annotation(
            status="ok",
            model=self.identity,
            origin=frame.origin,
            scores=dict.fromkeys(LABELS, score),
            labels=("rings",) if score > 0.5 else (),
            doubtful=("halo",) if score > 0.5 else (),
            measured_order=4 if score > 0.7 else 0,
            measured_contrast=score,
            fit_residual=0.25,
            novelty=0.5,
            coefficients=np.full((2, 3), score * 1j, np.complex64) if "coefficients" in self.kept else None,
            features=np.full(4, score, np.float32) if "features" in self.kept else None,
        )


class Recorder:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.documents.append((name, doc))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [doc for kind, doc in self.documents if kind == name]

    def rows(self, data_key: str = "image") -> list[dict[str, Any]]:
        """Data of the events of the analysis runs of `data_key`, in the order they came."""
        runs = {doc["uid"] for doc in self.of("start") if doc["analysis"]["data_key"] == data_key}
        descriptors = {doc["uid"] for doc in self.of("descriptor") if doc["run_start"] in runs}
        return [doc["data"] for doc in self.of("event") if doc["descriptor"] in descriptors]


class RawDocuments:
    """Documents of one raw run, made by hand as Bluesky makes them."""

    def __init__(self, **start: Any) -> None:
        self.uid = str(uuid.uuid4())
        self.start_doc = {"uid": self.uid, "time": 1000.0, "scan_id": 7, **start}
        self._descriptors: dict[str, str] = {}
        self._n_events = 0
        self._numbers: dict[str, int] = {}

    def start(self) -> tuple[str, dict[str, Any]]:
        return "start", dict(self.start_doc)

    def descriptor(self, *keys: str, stream: str = "primary", **spec: Any) -> tuple[str, dict[str, Any]]:
        uid = self._descriptors[stream] = str(uuid.uuid4())
        image = {"source": "camera", "dtype": "array", "shape": list(SHAPE), **spec}
        return "descriptor", {
            "uid": uid,
            "run_start": self.uid,
            "time": 1001.0,
            "name": stream,
            "data_keys": {key: dict(image) for key in keys or ("image",)},
            "object_keys": {},
            "configuration": {},
            "hints": {},
        }

    def event(self, stream: str = "primary", filled: Any = None, **data: Any) -> tuple[str, dict[str, Any]]:
        self._n_events += 1
        self._numbers[stream] = self._numbers.get(stream, 0) + 1
        return "event", {
            "uid": str(uuid.uuid4()),
            "descriptor": self._descriptors[stream],
            "seq_num": self._numbers[stream],
            "time": 1001.0 + self._n_events,
            "data": data,
            "timestamps": dict.fromkeys(data, 1001.0 + self._n_events),
            "filled": filled or {},
        }

    def frame(self, value: float, key: str = "image", stream: str = "primary") -> tuple[str, dict[str, Any]]:
        return self.event(stream=stream, **{key: np.full(SHAPE, value)})

    def stop(self, exit_status: str = "success") -> tuple[str, dict[str, Any]]:
        return "stop", {
            "uid": str(uuid.uuid4()),
            "run_start": self.uid,
            "time": 2000.0,
            "exit_status": exit_status,
            "reason": "",
            "num_events": {},
        }

    def whole(self, *values: float) -> list[tuple[str, dict[str, Any]]]:
        return [self.start(), self.descriptor(), *(self.frame(value) for value in values), self.stop()]


@pytest.fixture
def geometry() -> Geometry:
    return Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)


@pytest.fixture
def annotator() -> BrightnessAnnotator:
    return BrightnessAnnotator()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def raw_documents() -> type[RawDocuments]:
    return RawDocuments


@pytest.fixture
def make_pipeline(
    annotator: BrightnessAnnotator, recorder: Recorder, geometry: Geometry
) -> Iterator[Callable[..., AnnotationPipeline]]:
    """Make pipelines that annotate the data key `image` into the recorder, and close them afterwards."""
    made: list[AnnotationPipeline] = []

    def make(**settings: Any) -> AnnotationPipeline:
        settings = {"sinks": [recorder], "detectors": {"image": geometry}, **settings}
        made.append(AnnotationPipeline(settings.pop("annotator", annotator), **settings))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close(timeout=10)
