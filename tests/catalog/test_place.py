"""Whatever is stored of annotations, every way to walk the raw runs gives what it gave before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import event_model
import pytest
from bluesky_tiled_plugins import TiledWriter
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRun
from tiled.client import from_uri
from tiled.queries import FullText, Key

from dvfb_stream.catalog import TiledSink, find_runs, read_annotations
from dvfb_stream.catalog.place import CATALOG_SPECS, PLACE_SPEC, RUN_SPEC, find_place, place_of, places_in
from dvfb_stream.errors import SettingsError

from .tiled_process import KEY, on_sqlite


def take_runs(catalog: Any, *scan_ids: int) -> list[str]:
    """Store raw runs of one event each, and return their uids."""
    uids = []
    for scan_id in scan_ids:
        writer = TiledWriter(catalog)
        run = event_model.compose_run(metadata={"scan_id": scan_id, "sample_name": "lamella"})
        stream = run.compose_descriptor(
            name="primary", data_keys={"x": {"source": "x", "dtype": "number", "shape": []}}
        )
        writer("start", run.start_doc)
        writer("descriptor", stream.descriptor_doc)
        writer("event", stream.compose_event(data={"x": 1.0}, timestamps={"x": 1.0}))
        writer("stop", run.compose_stop())
        uids.append(run.start_doc["uid"])
    return uids


def walk(catalog: Any) -> dict[str, Any]:
    """Return what each way to the raw runs gives."""

    def uid(run: Any) -> str:
        return run.metadata["start"]["uid"]

    return {
        "len": len(catalog),
        "keys": list(catalog),
        "values": [uid(run) for run in catalog.values()],
        "last": uid(catalog[-1]),
        "last value": uid(catalog.values().last()),
        "by scan": {scan: uid(catalog[scan]) for scan in (7, 8)},
        "by part of uid": [uid(catalog[key[:8]]) for key in catalog],
        "search scan_id": list(catalog.search(Key("scan_id") == 7)),
        "search sample": list(catalog.search(Key("sample_name") == "lamella")),
        "search time": list(catalog.search(Key("time") > 0)),
        "search text": list(catalog.search(FullText("lamella"))),
        "streams": [list(run) for run in catalog.values()],
        "rows": [run["primary"].read()["x"].values.tolist() for run in catalog.values()],
        "databroker": walk_by_databroker(catalog),
    }


def walk_by_databroker(catalog: Any) -> list[Any]:
    try:
        broker = catalog.v1
        found = sorted(header.start["uid"] for header in broker(sample_name="lamella"))
        return [broker[-1].start["uid"], broker[7].start["uid"], found]
    finally:
        # For all clients of this process, databroker has put its own run in the place of Bluesky's.
        catalog.structure_clients.set("BlueskyRun", lambda: BlueskyRun)


def send(sink: TiledSink, documents: list[tuple[str, dict[str, Any]]]) -> None:
    """Give documents to a sink, and wait until they are stored."""
    for name, doc in documents:
        sink(name, doc)
    assert sink.wait(120)


@pytest.fixture
def make_raw(server: Any, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    def make(layout: str) -> Any:
        parent = server.create_container(request.node.name.translate(str.maketrans("[]/ ", "----")))
        if layout == "nested":
            parent = parent.create_container("smi")
        return parent.create_container("raw", specs=list(CATALOG_SPECS))

    return make


@pytest.mark.parametrize("layout", ["beside others", "nested"])
def test_raw_runs_are_walked_as_before(make_raw, analysis_documents, layout):
    raw = make_raw(layout)
    first, second = take_runs(raw, 7, 8)
    before = walk(raw)
    sink = TiledSink(raw)
    send(sink, analysis_documents(0.9, 0.4, raw_uid=first))
    send(sink, analysis_documents(0.9, raw_uid=second)[:-1])
    send(sink, analysis_documents(0.9, raw_uid="being written")[:3])
    assert walk(raw) == before
    assert find_runs(raw, "rings") == [first]
    assert len(read_annotations(raw, first)) == 2


def test_an_analysis_run_opens_as_a_run_of_bluesky_s(make_raw, analysis_documents):
    raw = make_raw("beside others")
    (uid,) = take_runs(raw, 7)
    documents = analysis_documents(0.9, None, 0.4, raw_uid=uid)
    send(TiledSink(raw), documents)
    place = raw.parent["raw_annotations"]
    assert {spec.name for spec in place.specs} == {PLACE_SPEC, "CatalogOfBlueskyRuns"}
    run = place[-1]
    assert {spec.name for spec in run.specs} == {RUN_SPEC, "BlueskyRun"}
    assert run.metadata["start"]["uid"] == documents[0][1]["uid"]
    assert list(run) == ["annotations"]
    assert run["annotations"]["frame"].read().tolist() == [0, 1, 2]
    assert run["annotations"]["status"].read().tolist() == ["ok", "failed", "ok"]
    (descriptor,) = run["annotations"].descriptors
    for name, doc in (("start", run.start), ("descriptor", descriptor), ("stop", run.stop)):
        event_model.schema_validators[event_model.DocumentNames[name]].validate(plain(doc))


def plain(doc: Any) -> Any:
    """Return a document without the views in which Tiled's client wraps it."""
    if isinstance(doc, Mapping):
        return {key: plain(value) for key, value in doc.items()}
    return [plain(value) for value in doc] if isinstance(doc, Sequence) and not isinstance(doc, str) else doc


def test_the_newest_analysis_of_a_run_is_one_query(make_raw, analysis_documents):
    raw = make_raw("beside others")
    sink = TiledSink(raw)
    for model in ("small", "better", "best"):
        send(sink, analysis_documents(0.9, raw_uid="raw-1", model=model))
    place = find_place(raw)
    newest = place.search(Key("analysis.parent") == "raw-1").values().last()
    assert newest.metadata["start"]["analysis"]["model"]["name"] == "best"
    assert len(place) == 3


def test_the_place_itself_may_be_given(make_raw, analysis_documents):
    raw = make_raw("beside others")
    send(TiledSink(raw), analysis_documents(0.9, raw_uid="raw-1"))
    place = find_place(raw)
    send(TiledSink(place), analysis_documents(0.9, raw_uid="raw-2"))
    assert sorted(find_runs(place, "rings")) == sorted(find_runs(raw, "rings")) == ["raw-1", "raw-2"]
    assert list(raw.parent) == ["raw", "raw_annotations", "raw_annotations_leases"]


def test_from_above_all_places_are_searched(make_raw, analysis_documents):
    raw = make_raw("nested")
    send(TiledSink(raw), analysis_documents(0.9, raw_uid="raw-1"))
    smi = raw.parent
    send(TiledSink(smi.create_container("waxs")), analysis_documents(0.9, raw_uid="raw-2"))
    assert sorted(find_runs(smi, "rings")) == ["raw-1", "raw-2"]
    assert len(read_annotations(smi, "raw-2")) == 1


def test_from_the_root_places_are_found_however_deep_beamlines_lie(server, analysis_documents, request):
    facility = server.create_container(request.node.name)
    raws = [
        facility.create_container("smi").create_container("raw", specs=list(CATALOG_SPECS)),
        facility.create_container("iss").create_container("2026").create_container("raw"),
    ]
    for number, raw in enumerate(raws):
        take_runs(raw, 7)
        send(TiledSink(raw), analysis_documents(0.9, raw_uid=f"deep-{number}"))
    assert sorted(find_runs(facility, "rings")) == ["deep-0", "deep-1"]
    assert ["/".join(place.path_parts[-2:]) for place in places_in(facility)] == [
        "smi/raw_annotations",
        "2026/raw_annotations",
    ]
    assert {"deep-0", "deep-1"} <= set(find_runs(server, "rings"))


def test_of_more_containers_than_beamlines_have_a_nearer_one_is_asked_for(server, request, monkeypatch):
    monkeypatch.setattr("dvfb_stream.catalog.place._MOST_LOOKED_INTO", 3)
    data = server.create_container(request.node.name)
    for key in "abc":
        data.create_container(key)
    with pytest.raises(SettingsError, match=r"more than 3 containers.*client\['smi'\]\['raw'\]"):
        find_runs(data, "rings")


def test_where_the_root_is_the_catalog_another_place_is_asked_for(tmp_path, analysis_documents):
    """Whatever lies in the root, or below a run, is in the way of who walks the runs."""
    with on_sqlite(tmp_path) as server:
        root = from_uri(server.uri, api_key=KEY)
        try:
            with pytest.raises(SettingsError, match=r"is the root of its server.*client\['raw'\]"):
                place_of(root)  # nothing lies there yet, but raw runs may come
            assert list(root) == []
            take_runs(root, 7)
            before = list(root)
            with pytest.raises(
                SettingsError, match=r"or give another container .*TiledSink\(connect\(URI\)\)"
            ):
                TiledSink(root)
            assert list(root) == before
            elsewhere = root.create_container("elsewhere")
            with pytest.raises(SettingsError, match="would be seen among the raw runs"):
                TiledSink(elsewhere)
        finally:
            root.context.close()
