"""A real embedded Tiled server, and analysis documents made without a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.catalog import TiledSink, embedded_server
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import LABELS

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="package")
def server(
    tmp_path_factory: pytest.TempPathFactory, analysis_documents: Callable[..., Documents]
) -> Iterator[Any]:
    """One server for all tests here, started a second time on its folder; each test has a container of its own.

    In the container `kept` lies a run from before the restart.
    """
    folder: Path = tmp_path_factory.mktemp("tiled")
    with embedded_server(folder) as client:
        sink = TiledSink(client.create_container(key="kept"))
        for name, doc in analysis_documents(0.9, raw_uid="before the restart"):
            sink(name, doc)
        assert sink.close(120)
    with embedded_server(folder) as client:
        yield client


@pytest.fixture
def client(server: Any, request: pytest.FixtureRequest) -> Any:
    return server.create_container(key=request.node.name.translate(str.maketrans("[]/", "---")))


@pytest.fixture(scope="session")
def analysis_documents() -> Callable[..., Documents]:
    """Compose one analysis run from a label's probability on each frame; None for a failed frame.

    Above 0.5 the label is accepted, above 0.3 doubtful; above 0.3 an order of 2 is measured, half as high.
    """

    def compose(
        *rings: float | None,
        raw_uid: str = "raw-1",
        data_key: str = "image",
        label: str = "rings",
        model: str = "small",
    ) -> Documents:
        identity = ModelIdentity(name=model, version="1", sha256="0" * 64)
        provenance = {"model": {"name": model, "version": "1", "sha256": "0" * 64}, "labels": list(LABELS)}
        run = AnalysisRun(
            {"uid": raw_uid, "time": 1000.0, "scan_id": 7},
            stream="primary",
            data_key=data_key,
            provenance=provenance,
            geometry=Geometry(shape=(4, 6), center_x=2.5, center_y=1.5),
            started=1000.0,
            described=1001.0,
        )
        rows = []
        for index, score in enumerate(rings):
            if score is None:
                annotation = Annotation.failed("nothing is visible", model=identity)
            else:
                scores = dict.fromkeys(LABELS, 0.1) | {label: score}
                labels = (label,) if score > 0.5 else ()
                annotation = Annotation(
                    status="ok",
                    model=identity,
                    scores=scores,
                    labels=labels,
                    doubtful=(label,) if 0.3 < score <= 0.5 else (),
                    measured_order=2 if score > 0.3 else 0,
                    measured_contrast=score / 2,
                    fit_residual=0.2,
                    novelty=0.5,
                )
            rows.append(Row(index=index, time=1002.0 + index, annotation=annotation))
        events = [("event", run.event(row)) for row in rows]
        return [("start", run.start()), ("descriptor", run.descriptor()), *events, ("stop", run.stop(2000.0))]

    return compose
