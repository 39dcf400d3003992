"""One run through RunEngine, Kafka, Tiled's websocket and history: the same analysis documents, to the last bit."""

from __future__ import annotations

import math
import threading
from typing import Any

import msgpack_numpy
import numpy as np
from bluesky import RunEngine
from bluesky import plans as bp
from bluesky_tiled_plugins import TiledWriter
from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
from ophyd_async.sim import SimBlobDetector

from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.history.annotating import HistoryAnnotator
from dvfb_stream.history.stored_documents import documents_of
from dvfb_stream.isolation.file_settings import FileSettings
from dvfb_stream.kafka.daemon import Daemon
from dvfb_stream.kafka.wire_format import decode
from tests.history.conftest import DETECTORS, Camera, MeanAnnotator
from tests.kafka.conftest import bootstrap_servers, make_topic, quick_group, topic  # noqa: F401 - fixtures

from .conftest import PATIENCE, Recorder, Start, eventually

NOT_KEPT = ("event_uid",)
"""By Tiled: empty in rows of its websocket and of history."""
FRAMES = 3


def as_text(document: Any) -> Any:
    """Floats to the last bit; NaN equals NaN."""
    if isinstance(document, dict):
        return {key: as_text(value) for key, value in sorted(document.items())}
    if isinstance(document, list | tuple):
        return [as_text(value) for value in document]
    if isinstance(document, float | np.floating):
        return "nan" if math.isnan(document) else float(document).hex()
    return document


def runs(documents: list[tuple[str, dict[str, Any]]], *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Documents by the uid of their analysis run, in order; columns `without` are taken out of the rows."""
    found: dict[str, list[Any]] = {}
    run_of = {doc["uid"]: doc["run_start"] for name, doc in documents if name == "descriptor"}
    for name, doc in documents:
        uid = doc["uid"] if name == "start" else doc.get("run_start") or run_of[doc["descriptor"]]
        if name == "event":
            doc = doc | {
                part: {key: value for key, value in doc[part].items() if key not in without}
                for part in ("data", "timestamps")
            }
        found.setdefault(uid, []).append([name, as_text(doc)])
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for uid, documents in expected.items():
        assert [name for name, _ in found[uid]] == [name for name, _ in documents]
        for (name, one), (_, other) in zip(found[uid], documents, strict=True):
            differ = [
                (key, one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key)
            ]
            assert not differ, (name, differ)


def annotated(documents: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    rows = Recorder()
    with AnnotationPipeline(MeanAnnotator(), sinks=[rows], detectors=DETECTORS) as pipeline:
        for name, doc in documents:
            pipeline(name, doc)
    return rows.documents


def test_all_four_give_the_same_analysis_runs(raw, follow: Start, files_folder, topic):  # noqa: F811
    engine = RunEngine({}, call_returns_result=False)
    with init_devices():
        blob = SimBlobDetector(StaticPathProvider(StaticFilenameProvider("blob"), files_folder), name="blob")
    of_engine, of_socket, of_kafka = Recorder(), Recorder(), Recorder()
    on_the_wire: list[bytes] = []
    with AnnotationPipeline(MeanAnnotator(), sinks=[of_engine], detectors=DETECTORS) as live:
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: on_the_wire.append(msgpack_numpy.packb((name, doc))))
        (uid,) = engine(bp.count([blob, Camera(name="cam")], num=FRAMES), sample_name="lamella")
        assert live.wait(PATIENCE)
    engine.loop.call_soon_threadsafe(engine.loop.stop)

    daemon = follow(of_socket, detectors=DETECTORS)
    eventually(lambda: daemon.stats().streaming)
    writer = TiledWriter(raw, batch_size=1)
    for message in on_the_wire:
        writer(*decode(message))
    eventually(lambda: daemon.stats().stored_runs == 1)
    daemon.stop()
    assert daemon.stats().missed_updates == 0

    topic.send(*on_the_wire)
    settings = DaemonSettings.model_validate(
        {
            "kafka": quick_group(topic),
            "sinks": {"jsonl": "unused"},
            "files": {"allowed_roots": [str(files_folder)]},
        }
    )
    consumer = Daemon(settings, MeanAnnotator(), detectors=DETECTORS, sinks_for_partition=lambda: [of_kafka])
    thread = threading.Thread(target=consumer.run)
    thread.start()
    eventually(lambda: consumer.stats().stored_runs == 1)
    consumer.stop()
    thread.join(PATIENCE)

    of_history = annotated(list(documents_of(raw[uid], data_keys=DETECTORS)))
    assert len(runs(of_engine.documents)) == 2
    assert all(len(documents) == FRAMES + 3 for documents in runs(of_engine.documents).values())
    assert_same(runs(of_kafka.documents), runs(of_engine.documents))
    expected = runs(of_engine.documents, without=NOT_KEPT)
    assert_same(runs(of_history, without=NOT_KEPT), expected)
    assert_same(runs(of_socket.documents, without=NOT_KEPT), expected)
    # What is stored, too: history passes over what is annotated, so that the rows are those of a catalog of its own.
    files = FileSettings(allowed_roots=[str(files_folder)])
    history = HistoryAnnotator(raw, MeanAnnotator(), detectors=DETECTORS, files=files)
    assert list(history.annotate([uid])) == [uid]
    assert history.report.annotated == 1
