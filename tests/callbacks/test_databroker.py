"""Databroker keeps analysis runs, each once, and answers what docs/finding.md says that it answers."""

import time

import pytest
from databroker.queries import TimeRange
from tiled.queries import Key

from dvfb_stream.callbacks import DatabrokerSink
from dvfb_stream.labels import LABELS


@pytest.fixture
def broker():
    import databroker

    return databroker.temp()


@pytest.fixture
def documents(broker, make_pipeline, raw_documents):
    """Of one analysis run, as they were inserted."""
    given = []
    sink = DatabrokerSink(broker)

    def keep(name, doc):
        given.append((name, doc))
        sink(name, doc)

    pipeline = make_pipeline(sinks=[keep])
    for name, doc in raw_documents().whole(0.25, 0.75):
        pipeline(name, doc)
    assert pipeline.wait(30)
    return given


def test_a_databroker_keeps_the_analysis_run_and_answers_questions_about_its_start(broker, documents):
    header = broker[-1]
    assert header.start["analysis"]["kind"] == "dvfb-annotation"
    table = header.table("annotations")
    assert list(table["frame"]) == [0, 1]
    assert set(LABELS) <= set(table.columns)
    assert header.stop["summary"]["frames"] == 2
    analysis = header.start["analysis"]
    for asked in (
        {"analysis.parent": analysis["parent"]},
        {"analysis.model.name": analysis["model"]["name"]},
    ):
        assert [found.start["uid"] for found in broker(**asked)] == [header.start["uid"]]
        ((key, value),) = asked.items()
        assert list(broker.v2.search(Key(key) == value)) == [header.start["uid"]]
    assert list(broker(**{"analysis.parent": "another"})) == []
    assert list(broker.v2.search(TimeRange(until=header.start["time"]))) == []
    run = broker.v2[header.start["uid"]]
    assert run["annotations"].read()["frame"].values.tolist() == [0, 1]
    assert run.metadata["stop"]["summary"]["frames"] == 2


def test_a_second_delivery_inserts_nothing_and_one_that_was_cut_short_is_completed(broker, documents):
    again = DatabrokerSink(broker)
    for name, doc in documents:
        again(name, doc)
    assert len(list(broker())) == 1
    assert list(broker[-1].table("annotations")["frame"]) == [0, 1]
    import databroker

    other = databroker.temp()
    cut = DatabrokerSink(other)
    for name, doc in documents[:3]:
        cut(name, doc)
    for _ in range(2):
        whole = DatabrokerSink(other)
        for name, doc in documents:
            whole(name, doc)
    assert len(list(other())) == 1
    time.sleep(2.5)  # Databroker remembers for two seconds what it read of a run without a stop
    assert list(other[-1].table("annotations")["frame"]) == [0, 1]
    assert other[-1].stop["summary"]["frames"] == 2
