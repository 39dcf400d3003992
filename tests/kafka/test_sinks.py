"""Besides Tiled, analysis documents can go to a file and to a topic, and arrive as they were."""

import json
import math
from functools import partial

import pytest

from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.sinks import ConfiguredSinks, JsonLinesSink, StorageError
from dvfb_stream.kafka.topic_sink import TopicSink
from dvfb_stream.kafka.wire_format import decode
from tests.kafka.conftest import RawRun, eventually, quick_group

START = ("start", {"uid": "a", "time": 1.0, "analysis": {"parent": "raw"}})
DESCRIPTOR = ("descriptor", {"uid": "d", "run_start": "a", "data_keys": {}})
EVENT = ("event", {"uid": "e", "descriptor": "d", "data": {"frame": 0, "rings": math.nan}})
STOP = ("stop", {"uid": "s", "run_start": "a", "summary": {"frames": 1}})
WITHOUT_NAN = ("event", {"uid": "e", "descriptor": "d", "data": {"frame": 0, "rings": None}})
EXPECTED = [START, DESCRIPTOR, WITHOUT_NAN, STOP]


def test_a_file_gets_one_document_a_line_in_plain_json(tmp_path):
    path = tmp_path / "annotations.jsonl"
    for _ in range(2):  # a second daemon appends
        sink = JsonLinesSink(path)
        for document in (START, DESCRIPTOR, EVENT, STOP):
            sink(*document)
        sink.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = [tuple(json.loads(line, parse_constant=refuse)) for line in path.read_text().splitlines()]
    assert lines == EXPECTED * 2


def test_a_line_torn_by_a_kill_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text('["start", {"ui')
    sink = JsonLinesSink(path)
    sink(*START)
    sink.close()
    torn, whole = path.read_text().splitlines()
    assert torn == '["start", {"ui'
    assert tuple(json.loads(whole)) == START


def test_a_file_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory"):
        JsonLinesSink(tmp_path / "missing" / "annotations.jsonl")


def test_a_topic_gets_documents_that_our_own_decoder_reads(make_topic, topic):
    from kafka import KafkaConsumer

    annotations = make_topic(partitions=3)
    settings = DaemonSettings.model_validate(
        {"kafka": quick_group(topic), "sinks": {"topic": annotations.name}}
    )
    with ConfiguredSinks(settings, open_topic=partial(TopicSink, settings.kafka)) as sinks:
        (sink,) = sinks.for_pipeline()
        for document in (START, DESCRIPTOR, EVENT, STOP):
            sink(*document)
    consumer = KafkaConsumer(
        annotations.name, bootstrap_servers=topic.bootstrap_servers, auto_offset_reset="earliest",
        metrics_enabled=False,
    )  # fmt: skip
    records = []

    def arrived():
        records.extend(record for batch in consumer.poll(timeout_ms=100).values() for record in batch)
        return len(records) >= len(EXPECTED)

    eventually(arrived)
    consumer.close()
    assert [decode(record.value) for record in records] == EXPECTED
    assert len({record.partition for record in records}) == 1


def test_a_configured_file_gets_the_rows_of_a_published_run(topic, tmp_path, start_daemon):
    settings = DaemonSettings.model_validate(
        {"kafka": quick_group(topic), "sinks": {"jsonl": str(tmp_path / "rows.jsonl")}}
    )
    run = RawRun([1, 2, 3])
    topic.send(*run.documents)
    with ConfiguredSinks(settings) as sinks:
        daemon = start_daemon(sinks_for_partition=sinks.for_pipeline)
        eventually(lambda: daemon.stats().stored_runs == 1)
        daemon.stop()
    documents = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [name for name, _ in documents] == ["start", "descriptor", "event", "event", "event", "stop"]
    rows = [doc["data"] for name, doc in documents if name == "event"]
    assert [row["doubtful"] for row in rows] == ["rings"] * 3
    assert [(row["measured_order"], row["measured_contrast"]) for row in rows] == [
        (4, row["rings"]) for row in rows
    ]
    assert [row["grazing"] for row in rows] == [None] * 3
    summary = documents[-1][1]["summary"]
    assert summary["rings"]["doubtful"] == summary["measured_order"]["count"] == 3
    assert "grazing" not in summary
