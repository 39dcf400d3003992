"""Runs of a real RunEngine, annotated while they go on and kept by TiledWriter at the same time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plans as bp
from bluesky_tiled_plugins import TiledWriter
from ophyd import Component, Device, Signal
from ophyd.sim import SynSignalWithRegistry
from ophyd.status import DeviceStatus
from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
from ophyd_async.sim import SimBlobDetector

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.catalog import embedded_server
from dvfb_stream.catalog.place import CATALOG_SPECS
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS

sys.path.insert(0, str(Path(__file__).parent))  # worker processes import what lies beside the tests

PATIENCE = 60.0
SHAPES = {"blob": (240, 320), "img": (10, 10), "cam_image": (6, 8)}
DETECTORS = {key: Geometry(shape=shape, center_x=2.5, center_y=1.5) for key, shape in SHAPES.items()}
"""Of an HDF5 stream, of old assets, and inline."""


class Camera(Device):
    """The n-th exposure, from 1, has the brightness n."""

    image = Component(Signal, value=np.zeros(SHAPES["cam_image"]), kind="hinted")

    def trigger(self) -> DeviceStatus:
        self.image.put(self.image.get() + 1)
        status = DeviceStatus(self)
        status.set_finished()
        return status


class MeanAnnotator:
    """A frame's scores are a function of its pixels, so that another frame gives another row."""

    identity = ModelIdentity(name="mean", version="1", sha256="0" * 64)

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        return [
            Annotation(
                status="ok",
                model=self.identity,
                origin=frame.origin,
                scores=dict.fromkeys(LABELS, float(np.mean(frame.pixels)) % 1000 / 1000),
                labels=("rings",) if np.std(frame.pixels) > 0 else (),
            )
            for frame in frames
        ]


@dataclass(frozen=True)
class Recorded:
    """Two runs, as they were annotated while they went on."""

    uid: str
    """Of one with three frames of each detector."""
    other: str
    """Of one with two frames of the inline camera, and another sample."""
    documents: list[tuple[str, dict[str, Any]]]
    """Analysis documents."""

    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by the uid of their analysis run."""
        run_of = {doc["uid"]: doc["run_start"] for name, doc in self.documents if name == "descriptor"}
        found: dict[str, list[dict[str, Any]]] = {}
        for name, doc in self.documents:
            if name == "event":
                found.setdefault(run_of[doc["descriptor"]], []).append(doc["data"])
        return found


@pytest.fixture(scope="package")
def files_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the detectors write, and the server may read."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory, files_folder: Path) -> Iterator[Any]:
    with embedded_server(tmp_path_factory.mktemp("tiled"), readable=[files_folder]) as client:
        yield client


@pytest.fixture(scope="package")
def recorded(root: Any, files_folder: Path) -> Recorded:
    root.create_container(key="raw", specs=list(CATALOG_SPECS))
    engine = RunEngine({}, call_returns_result=False)
    with init_devices():
        blob = SimBlobDetector(StaticPathProvider(StaticFilenameProvider("blob"), files_folder), name="blob")
    brightness = iter(range(11, 100))
    image = SynSignalWithRegistry(
        name="img", func=lambda: np.full(SHAPES["img"], float(next(brightness))), save_path=str(files_folder)
    )
    documents: list[tuple[str, dict[str, Any]]] = []
    with AnnotationPipeline(
        MeanAnnotator(), sinks=[lambda *pair: documents.append(pair)], detectors=DETECTORS
    ) as live:
        engine.subscribe(TiledWriter(root["raw"]))
        engine.subscribe(live)
        (uid,) = engine(bp.count([blob, image, Camera(name="cam")], num=3), sample_name="lamella")
        (other,) = engine(bp.count([Camera(name="cam")], num=2), sample_name="water")
        assert live.wait(PATIENCE)
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    return Recorded(uid, other, documents)


@pytest.fixture
def raw(root: Any, recorded: Recorded) -> Iterator[Any]:
    """Raw runs whose annotations are gone after the test."""
    yield root["raw"]
    for key in ("raw_annotations", "raw_annotations_leases"):
        if key in root:
            root.delete_contents([key], recursive=True, external_only=False)
