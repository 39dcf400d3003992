"""``dvfb catalog move`` says what it would do, does it when it is told to, and is then done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import event_model
import pytest
from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.catalog import embedded_server
from dvfb_stream.catalog.place import find_place
from dvfb_stream.profiles.catalogs import served_folder

ANALYSIS = "0b7f5ac6-3d5e-5a0e-9f1f-3a3a5a1d0c11"


def write_run(catalog: Any, **metadata: Any) -> str:
    """Store a run of two events of one stream."""
    writer = TiledWriter(catalog)
    run = event_model.compose_run(metadata=metadata, uid=metadata.pop("uid", None))
    text = {"source": "x", "dtype": "string", "shape": []}
    number = {"source": "x", "dtype": "number", "shape": []}
    integer = {"source": "x", "dtype": "integer", "shape": []}
    data_keys = {"frame": integer, "rings": number, "labels": text, "status": text, "reason": text}
    stream = run.compose_descriptor(name="annotations", data_keys=data_keys)
    writer("start", run.start_doc)
    writer("descriptor", stream.descriptor_doc)
    for frame in range(2):
        data = {"frame": frame, "rings": 0.9, "labels": "rings", "status": "ok", "reason": ""}
        writer("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, 1.0)))
    stop = dict(run.compose_stop())
    writer(
        "stop", stop | {"summary": {"frames": 2, "rings": {"count": 2}}} if "analysis" in metadata else stop
    )
    return run.start_doc["uid"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as an earlier version left it: raw and analysis runs in the root of its catalog."""
    with embedded_server(tmp_path) as root:
        raw = write_run(root, scan_id=7)
        model = {"name": "small", "version": "1", "sha256": "0" * 64}
        analysis = {
            "kind": "dvfb-annotation",
            "parent": raw,
            "stream": "primary",
            "data_key": "image",
            "model": model,
            "labels": ["rings"],
        }
        write_run(root, uid=ANALYSIS, scan_id=7, analysis=analysis)
    return tmp_path


def test_a_folder_of_an_earlier_version_is_put_in_order(dvfb, folder):
    found = dvfb("search", folder, "rings", "--uids")
    assert (found.status, len(found.stdout.split())) == (0, 1)

    would = dvfb("catalog", "move", folder)
    assert would.status == 0
    assert f"2 runs would move from the root of {folder} to /raw" in would.stdout
    assert f"would move {ANALYSIS}" in would.stdout
    assert not (folder / "catalog-before-move.db").exists()

    done = dvfb("catalog", "move", folder, "--apply")
    assert (done.status, done.errors) == (0, [])
    assert f"moved {ANALYSIS} of run {found.stdout.split()[0]}: 2 frames" in done.stdout
    assert (folder / "catalog-before-move.db").exists()

    assert dvfb("search", folder, "rings", "--uids").stdout == found.stdout
    assert dvfb("catalog", "move", folder).stdout.strip() == "no analysis run lies among the raw runs"
    with served_folder(folder) as raw:
        assert list(raw) == found.stdout.split()
        assert raw[-1]["annotations"]["frame"].read().tolist() == [0, 1]
        assert raw[7].metadata["start"]["uid"] == raw[-1].metadata["start"]["uid"]
        assert find_place(raw)[ANALYSIS]["annotations"]["rings"].read().tolist() == [0.9, 0.9]
        assert list(raw.parent) == ["raw", "raw_annotations", "raw_annotations_leases"]


def test_neither_an_address_nor_a_folder(dvfb):
    outcome = dvfb("catalog", "move", "nowhere")
    assert outcome.status == 1
    assert "'nowhere' is no catalog" in outcome.errors[0]
