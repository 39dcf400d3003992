from __future__ import annotations

import json
import math
from uuid import UUID, uuid5

import event_model
import numpy as np
import pytest

from dvfb_stream.callbacks import NAMESPACE
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.rows import EVENT_COLUMNS


def valid(name: str, doc: dict) -> bool:
    event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
    return True


@pytest.fixture
def documents(make_pipeline, recorder, raw_documents):
    """Return a function that annotates frames of the given brightness and returns the sink and the raw run."""

    def annotate(*values, **start):
        raw = raw_documents(**start)
        pipeline = make_pipeline()
        for name, doc in raw.whole(*values):
            pipeline(name, doc)
        assert pipeline.wait(10)
        return recorder, raw

    return annotate


def test_documents_are_in_order_and_valid(documents):
    sink, _ = documents(10, 90, math.nan)
    assert [name for name, _ in sink.documents] == ["start", "descriptor", "event", "event", "event", "stop"]
    assert all(valid(name, doc) for name, doc in sink.documents)
    (descriptor,) = sink.of("descriptor")
    assert descriptor["name"] == "annotations"
    assert all(doc["data"].keys() == descriptor["data_keys"].keys() for doc in sink.of("event"))


def test_arrays_that_are_asked_for_are_in_valid_documents_and_nan_where_a_frame_failed(
    make_pipeline, recorder, raw_documents
):
    pipeline = make_pipeline(arrays=["features", "coefficients"])
    for name, doc in raw_documents().whole(10, math.nan):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert all(valid(name, doc) for name, doc in recorder.documents)
    (descriptor,) = recorder.of("descriptor")
    assert descriptor["data_keys"]["features"] == {
        "source": "dvfb_stream",
        "dtype": "array",
        "shape": [4],
        "dtype_numpy": "<f4",
    }
    assert descriptor["data_keys"]["coefficients"]["shape"] == [2, 3, 2]
    annotated, failed = (doc["data"] for doc in recorder.of("event"))
    assert annotated.keys() == descriptor["data_keys"].keys()
    np.testing.assert_allclose(annotated["features"], np.full(4, 0.1))
    np.testing.assert_allclose(annotated["coefficients"][..., 1], np.full((2, 3), 0.1))
    assert not annotated["coefficients"][..., 0].any()
    assert failed["features"].shape == (4,)
    assert np.isnan(failed["features"]).all()
    assert np.isnan(failed["coefficients"]).all()


def test_without_asking_documents_have_no_arrays(make_pipeline, recorder, raw_documents):
    pipeline = make_pipeline()
    for name, doc in raw_documents().whole(10):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert recorder.of("descriptor")[0]["data_keys"].keys() == {column.name for column in EVENT_COLUMNS}
    assert recorder.of("event")[0]["data"].keys() == {column.name for column in EVENT_COLUMNS}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (["feature"], "unknown array 'feature'; there are coefficients, features"),
        ("features", "not the text 'features'"),
    ],
)
def test_arrays_that_there_are_not_are_refused_at_once(make_pipeline, arrays, said):
    with pytest.raises(SettingsError, match=said):
        make_pipeline(arrays=arrays)


def test_an_array_of_another_shape_than_was_stated_costs_its_own_row(
    make_pipeline, recorder, raw_documents, annotator
):
    annotator.arrays = {"features": (5,)}
    pipeline = make_pipeline(arrays=["features"])
    for name, doc in raw_documents().whole(10):
        pipeline(name, doc)
    assert pipeline.wait(10)
    (event,) = recorder.of("event")
    assert event["data"]["status"] == "failed"
    assert "features has the shape (4,), not (5,)" in event["data"]["reason"]
    assert event["data"]["features"].shape == (5,)


def test_the_uid_names_raw_run_data_key_and_weights(documents):
    sink, raw = documents(10)
    expected = uuid5(NAMESPACE, f"{raw.uid}:primary:image:brightness@{'0' * 64}")
    assert UUID(sink.of("start")[0]["uid"]) == expected


def test_the_namespace_never_changes():
    assert str(NAMESPACE) == "d3c6b0d5-7b0c-5c2e-9c0e-5a0f7d7f3b11"


def test_the_start_says_where_everything_came_from(documents):
    fields = {"sample_name": "lamella", "proposal": {"id": 3}, "data_session": "pass-1", "beamline_id": "SMI"}
    sink, raw = documents(10, **fields, tiled_access_tags=["pass-1"], plan_name="count")
    start = sink.of("start")[0]
    assert start["analysis"]["raw"] == {"scan_id": 7, **fields}
    assert not start.keys() & {"scan_id", *fields}, "a search for the raw run must not find the analysis run"
    assert start["tiled_access_tags"] == ["pass-1"]
    analysis = start["analysis"]
    assert (analysis["kind"], analysis["parent"]) == ("dvfb-annotation", raw.uid)
    assert (analysis["stream"], analysis["data_key"]) == ("primary", "image")
    assert analysis["model"] == {"name": "brightness", "version": "1", "sha256": "0" * 64}
    assert analysis["labels"] == list(LABELS)
    assert analysis["software"].keys() == {"dvfb-stream"}
    assert analysis["geometry"]["shape"] == [4, 6]
    assert (analysis["geometry"]["center_x"], analysis["geometry"]["center_y"]) == (2.5, 1.5)


def test_an_annotator_s_own_account_goes_into_the_start(make_pipeline, recorder, raw_documents, annotator):
    annotator.provenance = lambda: {"thresholds": {"rings": 0.5}, "fbt": {"n_radial": 40}}
    pipeline = make_pipeline()
    for name, doc in raw_documents().whole(10):
        pipeline(name, doc)
    assert pipeline.wait(10)
    analysis = recorder.of("start")[0]["analysis"]
    assert analysis["thresholds"] == {"rings": 0.5}
    assert analysis["fbt"] == {"n_radial": 40}
    assert analysis["model"]["name"] == "brightness"


def test_rows_name_the_raw_event(make_pipeline, recorder, raw_documents):
    documents, pipeline = raw_documents().whole(10, math.nan), make_pipeline()
    for name, doc in documents:
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert [row["event_uid"] for row in recorder.rows()] == [d["uid"] for n, d in documents if n == "event"]


def test_rows_carry_scores_or_the_reason_why_there_are_none(documents):
    sink, _ = documents(90, math.nan)
    good, bad = sink.rows()
    assert good["frame"] == 0
    assert good["rings"] == good["halo"] == 0.9
    assert (good["labels"], good["status"], good["reason"]) == ("rings", "ok", "")
    assert (good["doubtful"], good["measured_order"], good["measured_contrast"]) == ("halo", 4, 0.9)
    assert (bad["doubtful"], bad["measured_order"]) == ("", 0)
    assert all(math.isnan(row[name]) for row in (good, bad) for name in FURTHER_LABELS)
    assert (bad["labels"], bad["status"], bad["reason"]) == ("", "failed", "pixels are not finite")
    assert all(math.isnan(bad[name]) for name in (*LABELS, "measured_contrast", "fit_residual", "novelty"))


def test_times_are_those_of_the_raw_run(documents):
    sink, _ = documents(10, 20)
    assert sink.of("start")[0]["time"] == 1000.0
    assert sink.of("descriptor")[0]["time"] == 1001.0
    assert [doc["time"] for doc in sink.of("event")] == [1002.0, 1003.0]
    assert sink.of("stop")[0]["time"] == 2000.0


def test_the_summary_is_what_the_rows_add_up_to(documents):
    sink, _ = documents(10, 80, math.nan, 60)
    stop = sink.of("stop")[0]
    assert stop["num_events"] == {"annotations": 4}
    summary = stop["summary"]
    assert (summary["frames"], summary["failed"], summary["dropped"]) == (4, 1, 0)
    assert summary["rings"] == {
        "count": 2,
        "doubtful": 0,
        "max": pytest.approx(0.8),
        "mean": pytest.approx(0.5),
    }
    assert summary["halo"] == {
        "count": 0,
        "doubtful": 2,
        "max": pytest.approx(0.8),
        "mean": pytest.approx(0.5),
    }
    assert summary["doubtful"] == {"count": 2}
    assert summary["novelty"].keys() == summary["fit_residual"].keys() == {"min", "max", "mean"}
    assert summary["measured_order"] == {"count": 1, "max_contrast": pytest.approx(0.8)}
    assert summary.keys() == {
        "frames", "failed", "dropped", "rejected_documents", "measured_order", "doubtful", "novelty", "fit_residual",
        *LABELS
    }  # fmt: skip


def test_a_summary_without_probabilities_has_no_number_for_them(documents):
    sink, _ = documents(math.nan)
    summary = sink.of("stop")[0]["summary"]
    assert summary["rings"] == {"count": 0, "doubtful": 0}
    assert summary["measured_order"] == {"count": 0}
    json.dumps(sink.of("stop")[0], allow_nan=False)
    json.dumps(sink.of("start")[0], allow_nan=False)


def test_of_labels_that_the_model_does_not_know_nothing_is_said(
    make_pipeline, recorder, raw_documents, annotator
):
    annotator.provenance = lambda: {"labels": ["rings", "halo", "grazing", "of another version"]}
    pipeline = make_pipeline()
    for name, doc in raw_documents().whole(80):
        pipeline(name, doc)
    assert pipeline.wait(10)
    (summary,) = [doc["summary"] for doc in recorder.of("stop")]
    assert summary["grazing"] == {"count": 0, "doubtful": 0}
    assert "empty" not in summary
    # Every frame of this annotator has a probability of them.
    assert summary["two_fold"]["max"] == pytest.approx(0.8)
    (descriptor,) = recorder.of("descriptor")
    assert descriptor["hints"]["dvfb"]["fields"] == ["halo", "rings", "grazing"]
    assert valid("descriptor", descriptor)


@pytest.mark.parametrize("stated", [None, "rings", 5])
def test_an_account_that_names_no_labels_is_taken_for_one_of_the_ten(
    make_pipeline, recorder, raw_documents, annotator, stated
):
    annotator.provenance = lambda: {"labels": stated}
    pipeline = make_pipeline()
    for name, doc in raw_documents().whole(math.nan):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert [label for label in recorder.of("stop")[0]["summary"] if label in ALL_LABELS] == list(LABELS)


def test_a_replay_gives_equal_documents(make_pipeline, raw_documents):
    raw = raw_documents().whole(10, 60, 70)
    replays = []
    for batch_size in (1, 16):
        documents = []
        pipeline = make_pipeline(
            sinks=[lambda name, doc, to=documents: to.append((name, doc))], batch_size=batch_size
        )
        for name, doc in raw:
            pipeline(name, doc)
        assert pipeline.wait(10)
        replays.append(documents)
    assert replays[0] == replays[1]
    assert len({doc["uid"] for _, doc in replays[0]}) == len(replays[0]) == 6
