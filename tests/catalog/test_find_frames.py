"""Frames are found by any expression, and say where they are."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import numpy as np
import pyarrow
import pytest
from tiled.structures.core import Spec

from dvfb_stream.catalog import TiledSink, annotations_table, correct, find_frames, find_runs, undo
from dvfb_stream.catalog.expression import ExpressionError
from dvfb_stream.catalog.place import CATALOG_SPECS, PLACE_SPEC, plain
from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.labels import LABELS

PIXELS = np.arange(3 * 4 * 6, dtype=np.uint16).reshape(3, 1, 4, 6)


def labelled(documents, *frames, time, **raw):
    """Have frames show labels, each with a probability of 0.8, in a run that begins at a time and says things."""
    documents = copy.deepcopy(documents)
    start = documents[0][1]
    start["time"] = time
    start["analysis"]["raw"] |= raw
    for (_, event), labels in zip(documents[2:-1], frames, strict=True):
        event["data"] |= dict.fromkeys(LABELS, 0.1) | dict.fromkeys(labels, 0.8)
        event["data"]["labels"] = ",".join(labels)
    return documents


@pytest.fixture(scope="module")
def stored(server, analysis_documents):
    client = server.create_container(key="find-frames")
    raw = client.create_container(key="first", metadata={"start": {"uid": "first", "user": {"name": "Ann"}}})
    raw.create_container(key="primary").write_array(PIXELS, key="image")
    client.create_container(key="second", metadata={"start": {"uid": "second", "user": {"name": "Bob"}}})
    sink = TiledSink(client)
    runs = [
        labelled(analysis_documents(0.9, 0.9, 0.9, raw_uid="first"),
                 ["halo"], ["four_fold"], ["halo", "four_fold"], time=1000.0, sample_name="lamella", scan_id=1),
        labelled(analysis_documents(0.9, 0.9, raw_uid="second"),
                 ["halo", "four_fold"], ["halo", "four_fold"], time=3000.0, sample_name="powder", scan_id=2),
        labelled(analysis_documents(0.9, 0.9, raw_uid="third", model="large"),
                 ["halo"], ["four_fold"], time=2000.0, sample_name="lamella", scan_id=3),
    ]  # fmt: skip
    for documents in [*runs, analysis_documents(None, 0.9, raw_uid="fourth")]:
        for name, doc in documents:
            sink(name, doc)
    assert sink.close(120)
    return client


def found(client, expression, **how):
    return [(one.raw_uid, one.frame) for one in find_frames(client, expression, **how)]


def test_two_labels_are_on_the_same_frame_and_the_newest_run_is_first(stored):
    assert found(stored, "halo and four_fold") == [("second", 0), ("second", 1), ("first", 2)]
    assert find_runs(stored, "halo and four_fold") == ["second", "first"]
    assert find_runs(stored, "count(halo) >= 1 and count(four_fold) >= 1") == ["second", "third", "first"]
    assert found(stored, "halo and not four_fold") == [("third", 0), ("first", 0)]
    assert found(stored, "failed") == [("fourth", 0)]
    assert found(stored, "grazing or not grazing") == []
    assert len(find_frames(stored, "six_fold")) == 0
    assert find_frames(stored, "six_fold").table().num_rows == 0


def test_runs_are_those_with_enough_frames(stored):
    assert find_runs(stored, "halo and four_fold", min_frames=2) == ["second"]
    assert find_runs(stored, "halo and four_fold", fraction=0.3) == ["second", "first"]
    assert find_runs(stored, "halo and four_fold", fraction=0.34) == ["second"]
    assert find_runs(stored, "halo", min_score=0.75) == ["second", "third", "first"]
    assert find_runs(stored, "halo", min_score=0.85) == []
    assert found(stored, "halo", min_frames=2, fraction=0.9) == [("second", 0), ("second", 1)]


def test_a_share_of_just_as_many_frames_is_enough(server, analysis_documents):
    client = server.create_container(key="find-frames-shares")
    sink = TiledSink(client)
    frames = [["halo"]] * 14 + [["rings"]] * 11
    for name, doc in labelled(analysis_documents(*[0.9] * 25, raw_uid="14 of 25"), *frames, time=1.0):
        sink(name, doc)
    assert sink.close(120)
    assert 0.56 * 25 > 14
    for expression in ("halo", "halo and not four_fold"):
        assert find_runs(client, expression, fraction=0.56) == ["14 of 25"]
        assert len(find_frames(client, expression, fraction=0.56)) == 14
        assert find_runs(client, expression, fraction=0.57) == []
        assert len(find_frames(client, expression, fraction=0.57)) == 0


def test_runs_are_those_of_a_model_a_time_and_a_sample(stored):
    assert find_runs(stored, "halo", model="large") == find_runs(stored, "halo", model="large@1") == ["third"]
    assert find_runs(stored, "halo", model="000000") == ["second", "third", "first"]
    assert find_runs(stored, "halo", model="other") == []
    assert find_runs(stored, "halo", since=2000) == ["second", "third"]
    assert find_runs(stored, "halo", until=datetime.fromtimestamp(2000, UTC)) == ["first"]
    assert find_runs(stored, "halo", since="1970-01-01T00:40:00+00:00") == ["second"]
    assert find_runs(stored, "halo", sample_name="lamella") == ["third", "first"]
    assert find_runs(stored, "halo", scan_id=[1, 2], sample_name="lamella") == ["first"]
    assert find_runs(stored, "halo", **{"user.name": "Ann"}) == ["first"]
    assert find_runs(stored, "halo", **{"user.name": ["Ann", "Bob"]}) == ["second", "first"]
    # A text is a text, whatever stands in it.
    assert find_runs(stored, "halo", sample_name="' OR 1=1 --") == []
    assert find_runs(stored, "halo", **{"user.name": "' OR 1=1 --"}) == []


def test_a_frame_has_its_row_its_run_and_its_pixels(stored):
    frames = find_frames(stored, "halo and four_fold and not (novelty > 0.9)")
    assert repr(frames) == "<3 frames of 2 runs>"
    frame = frames[-1]
    assert (frame.raw_uid, frame.frame, frame.labels, frame.doubtful) == (
        "first",
        2,
        ("halo", "four_fold"),
        (),
    )
    assert frame.scores["halo"] == 0.8
    assert "grazing" not in frame.scores
    assert frame.row["model"] == "small"
    assert frame.raw.metadata["start"]["user"] == {"name": "Ann"}
    np.testing.assert_array_equal(frame.image(), PIXELS[2, 0])
    with pytest.raises(FrameError, match="has no 'image'"):
        frames[0].image()
    with pytest.raises(FrameError, match="the raw run third is not in"):
        find_frames(stored, "halo", model="large")[0].image()


def test_a_frame_of_a_run_that_lies_among_the_raw_ones_has_its_pixels(server, analysis_documents):
    client = server.create_container(key="find-frames-among", specs=list(CATALOG_SPECS))
    raw = client.create_container(key="raw", metadata={"start": {"uid": "raw", "plan_name": "scan"}})
    raw.create_container(key="primary").write_array(PIXELS, key="image")
    # As a version before 0.2 stored them.
    documents = analysis_documents(0.1, 0.9, raw_uid="raw", label="halo")
    (_, start), _, *events, (_, stop) = documents
    run = client.create_container(
        key=start["uid"],
        metadata={"start": start, "stop": stop},
        specs=[Spec("BlueskyRun", version="3.0"), Spec("DvfbAnnotation", version="1.0")],
    )
    rows = [event["data"] | {"time": event["time"]} for _, event in events]
    stream = run.create_container(key="annotations")
    plain(stream).write_table(pyarrow.Table.from_pylist(rows).to_pandas(), key="internal")
    (frame,) = find_frames(client, "halo", plan_name="scan")
    assert frame.raw.metadata["start"]["uid"] == "raw"
    np.testing.assert_array_equal(frame.image(), PIXELS[1, 0])


def test_a_place_of_another_name_does_not_say_where_the_raw_runs_are(server, analysis_documents):
    elsewhere = server.create_container(key="find-frames-named", specs=[Spec(PLACE_SPEC, version="1.0")])
    with pytest.raises(SettingsError, match="find-frames-named does not say which raw runs"):
        find_frames(elsewhere, "halo", plan_name="scan")


def test_slices_are_frames_and_a_table_has_their_columns(stored):
    frames = find_frames(stored, "halo or four_fold")
    assert [one.frame for one in frames[1:4]] == [one.frame for one in frames][1:4]
    assert frames[0].frame == next(iter(frames)).frame
    assert frames.table(["frame", "run_uid"]).to_pylist()[-1] == {"frame": 2, "run_uid": "first"}
    assert frames.run_uids() == ["second", "third", "first"]
    with pytest.raises(IndexError):
        frames[len(frames)]


def test_a_table_comes_in_batches_and_has_every_row(stored):
    reader = annotations_table(stored)
    assert isinstance(reader, pyarrow.RecordBatchReader)
    whole = reader.read_pandas()
    assert len(whole) == 9
    assert list(whole["run_uid"].unique()) == ["second", "third", "fourth", "first"]
    assert list(whole["status"])[4:6] == ["failed", "ok"]
    of_sample = annotations_table(stored, "halo", sample_name="lamella").read_all()
    assert of_sample["frame"].to_pylist() == [0, 0, 2]


def test_what_people_say_wins_where_it_is_asked_for(stored):
    said = correct(stored, "first", 0, add=["six_fold"], remove=["halo"], by="ann")
    assert ("first", 0) in found(stored, "halo")
    assert ("first", 0) not in found(stored, "halo", source="human")
    assert found(stored, "six_fold and not halo", source="human") == [("first", 0)]
    assert find_runs(stored, "six_fold", source="human") == ["first"]
    assert find_runs(stored, "six_fold") == []
    assert find_runs(stored, "count(halo) == 1", source="human") == ["third", "first"]
    (frame,) = find_frames(stored, "six_fold", source="human")
    assert frame.labels == ("six_fold",)
    assert frame.scores["halo"] == 0.8
    of_run = find_frames(stored, "frame >= 0", sample_name="lamella", model="small", source="human")
    assert of_run.table(["labels"])["labels"].to_pylist() == ["six_fold", "four_fold", "halo,four_fold"]
    of_run = annotations_table(stored, model="small", sample_name="lamella").read_all()
    assert of_run["labels"].to_pylist() == ["halo", "four_fold", "halo,four_fold"]
    undo(stored, said.uid, by="ann")
    assert find_runs(stored, "six_fold", source="human") == []


def test_what_cannot_be_asked_is_refused(stored):
    with pytest.raises(ExpressionError, match="line 1, column 10"):
        find_frames(stored, "halo and fourfold")
    for wrong in (
        {"min_score": 2},
        {"fraction": -1},
        {"source": "cat"},
        {"since": "noon"},
        {"min_frames": 0},
    ):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            find_runs(stored, "halo", **wrong)
    for find in (find_runs, find_frames, annotations_table):
        with pytest.raises(SettingsError, match=r"raw_uids must be a list of uids, such as \['first'\]"):
            find(stored, "halo", raw_uids="first")
    with pytest.raises(SettingsError, match="client must be a Tiled client"):
        find_frames("http://localhost", "halo")


def test_a_slip_in_an_argument_is_no_field_of_the_raw_run(stored):
    for slip, meant in (("min_frame", "min_frames"), ("Models", "model"), ("raw_uid", "raw_uids")):
        with pytest.raises(SettingsError, match=rf"{slip}.*did you mean {meant}\?.*'start\.{slip}'"):
            find_runs(stored, "halo", **{slip: 3})
    with pytest.raises(SettingsError, match="there is no argument 'exact' here"):
        find_frames(stored, "halo", exact=True)
    # A field may be called so.
    assert find_runs(stored, "halo", **{"start.models": 3}) == []
    assert find_runs(stored, "halo", **{"start.user.name": "Ann"}) == ["first"]
    assert (
        find_runs(stored, "halo", **{"start.scan_id": 1})
        == find_runs(stored, "halo", uid="first")
        == ["first"]
    )
