"""What somebody has written into documents is bounded, and printable, in all that becomes of it."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from dvfb_stream.callbacks.document_fields import MOST_OF_A_FIELD
from dvfb_stream.texts import MOST_CHARACTERS, MOST_OF_A_NAME

from .conftest import SHAPE, BrightnessAnnotator, RawDocuments, Recorder

LONG = "n" * 10**6


def texts_in(value):
    """All texts of a document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def check(documents):
    """No document is larger than what it says of one run, and each text can be stored."""
    for _, doc in documents:
        for text in texts_in(doc):
            assert len(text) <= MOST_CHARACTERS
            assert text.isprintable()
        assert len(json.dumps(doc)) < 20_000


@pytest.mark.parametrize("name", [LONG, "a\0b", "half \ud800", "\x1b[31mred"])
def test_a_data_key_of_any_name_has_rows_that_can_be_stored(make_pipeline, name):
    recorder, run = Recorder(), RawDocuments(sample_name=name)
    pipeline = make_pipeline(sinks=[recorder], annotator=BrightnessAnnotator(), detectors=None)
    documents = [run.start(), run.descriptor(name)]
    documents += [run.event(**{name: np.zeros(SHAPE)}) for _ in range(3)]
    for kind, doc in [*documents, run.stop()]:
        pipeline(kind, doc)
    assert pipeline.wait(30)
    check(recorder.documents)
    events = recorder.of("event")
    assert [event["data"]["frame"] for event in events] == [0, 1, 2]
    assert {event["data"]["status"] for event in events} == {"failed"}  # without a geometry
    (start,) = recorder.of("start")
    assert len(start["analysis"]["data_key"]) <= MOST_OF_A_NAME


def test_streams_events_and_samples_of_any_name_have_rows_that_can_be_stored(make_pipeline):
    recorder, run = (
        Recorder(),
        RawDocuments(
            sample_name={"name\0": LONG, "list": ["\ud800"]}, proposal=list(range(10**5)), data_session="\0"
        ),
    )
    pipeline = make_pipeline(sinks=[recorder])
    _, descriptor = run.descriptor(stream=LONG)
    _, event = run.frame(3.0, stream=LONG)
    event |= {"uid": "u\0" + LONG}
    for kind, doc in [run.start(), ("descriptor", descriptor), ("event", event), run.stop()]:
        pipeline(kind, doc)
    assert pipeline.wait(30)
    check(recorder.documents)
    (start,), (row,) = recorder.of("start"), recorder.of("event")
    assert row["data"]["status"] == "ok"
    assert set(start["analysis"]["raw"]) == {"scan_id", "sample_name", "data_session"}


@pytest.mark.parametrize("uid", ["u" * (MOST_OF_A_FIELD + 1), "a\0b", "half \ud800"])
def test_a_run_with_a_uid_that_no_catalog_can_keep_is_left_out_in_one_short_line(make_pipeline, uid, caplog):
    recorder = Recorder()
    pipeline = make_pipeline(sinks=[recorder])
    with caplog.at_level(logging.WARNING):
        pipeline("start", {"uid": uid, "time": 1.0})
        pipeline("descriptor", {"uid": "d", "run_start": LONG, "data_keys": {}})
    assert pipeline.stats().rejected_documents == 2
    assert not recorder.documents
    assert all(len(record.getMessage()) < 2_000 for record in caplog.records)
