from __future__ import annotations

import numpy as np
import pytest
from tiled.queries import Key

from dvfb_stream.catalog import TiledSink, find_doubtful_runs, find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.errors import SettingsError


@pytest.fixture(scope="module")
def stored(server, analysis_documents):
    client = server.create_container(key="search")
    sink = TiledSink(client)
    runs = [
        analysis_documents(0.9, 0.9, 0.9, raw_uid="three", label="four_fold"),
        analysis_documents(0.9, 0.1, raw_uid="one", label="four_fold"),
        analysis_documents(0.1, None, raw_uid="none", label="four_fold"),
        analysis_documents(0.9, raw_uid="two detectors", data_key="saxs", label="four_fold"),
        analysis_documents(0.9, raw_uid="two detectors", data_key="waxs", label="four_fold"),
        analysis_documents(0.9, raw_uid="rings", label="rings"),
        analysis_documents(0.9, raw_uid="unfinished", label="four_fold")[:-1],
        analysis_documents(0.4, 0.4, 0.1, raw_uid="in doubt", label="two_fold"),
        analysis_documents(0.9, 0.4, raw_uid="in part", label="two_fold"),
    ]
    for documents in runs:
        for name, doc in documents:
            sink(name, doc)
    assert sink.close(120)
    return client


def test_a_label_finds_each_raw_run_once(stored):
    assert sorted(find_runs(stored, "four_fold")) == ["one", "three", "two detectors"]
    assert find_runs(stored, "six_fold") == []


def test_a_label_is_not_found_by_another_of_similar_name(stored):
    assert find_runs(stored, "rings") == ["rings"]
    assert find_runs(stored, "symmetry_rings") == []


def test_min_frames_counts_frames_of_one_data_key(stored):
    assert find_runs(stored, "four_fold", min_frames=2) == ["three"]
    assert find_runs(stored, "four_fold", min_frames=4) == []


def test_frames_to_look_at_are_found_by_their_doubtful_label(stored):
    assert find_runs(stored, "two_fold") == ["in part"]
    assert sorted(find_doubtful_runs(stored, "two_fold")) == ["in doubt", "in part"]
    assert find_doubtful_runs(stored, "two_fold", min_frames=2) == ["in doubt"]
    assert find_doubtful_runs(stored, "four_fold") == []
    # As a client without this package asks.
    place = find_place(stored)
    assert len(place.search(Key("stop.summary.two_fold.doubtful") >= 1)) == 2
    assert len(place.search(Key("stop.summary.measured_order.count") >= 2)) == 3
    assert find_runs(place, "four_fold") == find_runs(stored, "four_fold")
    np.testing.assert_equal(read_annotations(place, "one"), read_annotations(stored, "one"))


def test_runs_of_an_earlier_version_have_no_doubtful_labels(client):
    metadata = {
        "start": {"analysis": {"kind": "dvfb-annotation", "parent": "x"}},
        "stop": {"summary": {"frames": 5, "rings": {"count": 5, "max": 0.9, "mean": 0.8}}},
    }
    client.create_container(key="earlier", metadata=metadata)
    assert find_runs(client, "rings") == ["x"]
    assert find_doubtful_runs(client, "rings") == []


def test_runs_of_other_software_are_not_found(client):
    metadata = {"start": {"analysis": {"parent": "x"}}, "stop": {"summary": {"rings": {"count": 5}}}}
    client.create_container(key="elsewhere", metadata=metadata)
    assert find_runs(client, "rings") == []


def test_an_unknown_label_is_named_with_the_known_ones(client):
    with pytest.raises(SettingsError, match=r"fourfold.*four_fold"):
        find_runs(client, "fourfold")
    with pytest.raises(SettingsError, match=r"fourfold.*four_fold.*grazing"):
        find_doubtful_runs(client, "fourfold")
    with pytest.raises(SettingsError, match="min_frames"):
        find_runs(client, "four_fold", min_frames=0)


def test_rows_are_asked_for_by_what_a_run_is_called(client, analysis_documents):
    sink = TiledSink(client)
    uids = ["aaaaa111-0000-0000-0000-000000000000", "aaaaa222-0000-0000-0000-000000000000"]
    for scan_id, uid in enumerate(uids, start=7):
        start = {"uid": uid, "scan_id": scan_id, "time": 1000.0 + scan_id}
        client.create_container(key=uid, metadata={"start": start})
        for name, doc in analysis_documents(0.9, 0.1, raw_uid=uid):
            sink(name, doc)
    client.create_container(key="c" * 36, metadata={"start": {"uid": "c" * 36, "scan_id": 9, "time": 2000.0}})
    assert sink.close(120)

    def uids_of(run):
        return {row["run_uid"] for row in read_annotations(client, run)}

    assert uids_of(uids[0]) == uids_of("aaaaa1") == uids_of(7) == uids_of(-3) == {uids[0]}
    assert uids_of("aaaaa222") == uids_of(8) == uids_of(-2) == {uids[1]}
    assert read_annotations(client, -1) == read_annotations(client, "ccccc") == []
    for unknown in ("nope", "unknown", "ddddddd", 99, -4):
        with pytest.raises(SettingsError, match=str(unknown)):
            read_annotations(client, unknown)
    with pytest.raises(SettingsError, match="several"):
        read_annotations(client, "aaaaa")
    with pytest.raises(SettingsError, match="by a text or a number"):
        read_annotations(client, uids)


def test_rows_say_which_detector_and_model_they_are_of(stored):
    rows = read_annotations(stored, "two detectors")
    assert sorted(row["data_key"] for row in rows) == ["saxs", "waxs"]
    assert {row["model"] for row in rows} == {"small"}
    assert [row["frame"] for row in read_annotations(stored, "unfinished")] == [0]
