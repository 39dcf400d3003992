"""Recorded from a real broker, published to broker, Tiled and RunEngine: the rows are those of the run itself."""

import json
import threading

import numpy as np
import pytest
from tiled.client import from_uri

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.replay.recording import Recorder as RunRecorder
from dvfb_stream.replay.stored import read_stored
from dvfb_stream.replay.topic import read_topics
from tests import forked_processes
from tests.kafka.conftest import RawRun, Recorder, eventually, frames_of


@pytest.fixture
def dvfb(tmp_path_factory):
    """Function that runs the command; returns the words that it prints."""
    said = tmp_path_factory.mktemp("said")
    stdout, stderr = said / "stdout", said / "stderr"

    def run(*arguments, **environment):
        process = forked_processes.dvfb(*arguments, environment=environment, stdout=stdout, stderr=stderr)
        assert process.wait(300) == 0, stderr.read_text()
        return stdout.read_text().split()

    return run


@pytest.fixture
def config(tmp_path, topic, tiny_bundle):
    path = tmp_path / "daemon.toml"
    path.write_text(
        f"""
model = "{tiny_bundle}"
device = "cpu"
[kafka]
bootstrap_servers = {json.dumps(topic.bootstrap_servers)}
topics = ["{topic.name}"]
[sinks]
jsonl = "annotations.jsonl"
[detectors.image]
shape = [4, 6]
center_x = 2.5
center_y = 1.5
"""
    )
    return path


def test_a_run_recorded_from_a_topic_is_annotated_again_as_it_was(
    topic, make_topic, start_daemon, tmp_path, config, dvfb
):
    run = RawRun([5, 7, 9], operator="Ada")
    topic.send(b"no document", *run.documents)
    (path,) = dvfb("record", tmp_path / "files", "--config", config, "--from", "earliest", "--runs", 1)

    elsewhere = make_topic()
    servers = [word for server in topic.bootstrap_servers for word in ("--server", server)]
    (uid,) = dvfb("replay", path, "--to", "kafka", *servers, "--topic", elsewhere.name, "--rate", "max")
    sink = Recorder()
    start_daemon(sink, topic=elsewhere)
    eventually(lambda: sink.of("stop"))
    assert sink.frames() == frames_of(run)
    (start,) = sink.of("start")
    assert uid != run.uid
    assert start["analysis"]["parent"] == uid
    assert "Ada" not in json.dumps(start)

    (same,) = dvfb("replay", path, "--to", "kafka", "--config", config, "--rate", "max", "--same-uids")
    assert same == run.uid


def test_by_a_run_engine_every_frame_has_its_row(config, tmp_path, dvfb):
    run = RawRun([5, 7, 9])
    with RunRecorder(tmp_path / "files") as recorder:
        for name, doc in run.documents:
            recorder(name, doc)
    (uid,) = dvfb("replay", recorder.runs[0], "--to", "runengine", "--config", config, "--rate", "max")
    documents = [json.loads(line) for line in (tmp_path / "annotations.jsonl").read_text().splitlines()]
    starts = [doc for name, doc in documents if name == "start"]
    assert [doc["analysis"]["parent"] for doc in starts] == [uid]
    assert [doc["data"]["frame"] for name, doc in documents if name == "event"] == [0, 1, 2]


def test_by_a_run_engine_no_file_is_opened_that_a_daemon_would_not_open(config, tmp_path, dvfb):
    run = RawRun([5, 7])
    run.descriptor[1]["data_keys"]["image"]["external"] = "FILESTORE:"
    documents = [run.start, run.descriptor]
    for folder, (name, event) in zip(("allowed", "elsewhere"), run.events, strict=True):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "scan_0.npy", event["data"]["image"])
        resource = {
            "uid": folder, "run_start": run.uid, "spec": "NPY_SEQ", "root": str(tmp_path / folder),
            "resource_path": "scan", "resource_kwargs": {}, "path_semantics": "posix",
        }  # fmt: skip
        datum = {"datum_id": f"{folder}/0", "resource": folder, "datum_kwargs": {"index": 0}}
        filled = {"data": {"image": datum["datum_id"]}, "filled": {"image": False}}
        documents += [("resource", resource), ("datum", datum), (name, event | filled)]
    with RunRecorder(tmp_path / "files") as recorder:
        for name, doc in [*documents, run.stop]:
            recorder(name, doc)
    config.write_text(config.read_text() + f'[files]\nallowed_roots = ["{tmp_path / "allowed"}"]\n')
    dvfb("replay", recorder.runs[0], "--to", "runengine", "--config", config, "--rate", "max")
    documents = [json.loads(line) for line in (tmp_path / "annotations.jsonl").read_text().splitlines()]
    first, second = (doc["data"] for name, doc in documents if name == "event")
    assert (first["status"], second["status"]) == ("ok", "failed")
    assert "no folder that allowed_roots in [files] of the configuration names" in second["reason"]


def test_through_tiled_and_back_pixels_times_and_numbers_are_the_same(tiled_server, catalog, tmp_path, dvfb):
    run = RawRun([5, 7, 9], sample_name="silver behenate")
    with RunRecorder(tmp_path) as recorder:
        for name, doc in run.documents:
            recorder(name, doc)
    address = tiled_server.uri.partition("?")[0]
    key = {"TILED_API_KEY": tiled_server.api_key}
    (uid,) = dvfb(
        "replay", recorder.runs[0], "--to", "tiled", "--into", address, "--rate", "max", "--same-uids", **key
    )
    assert uid == run.uid
    stored = from_uri(tiled_server.uri)[uid]
    documents = list(read_stored(stored).documents)
    stored.context.close()
    assert [each.name for each in documents] == [name for name, _ in run.documents]
    events = [each.doc for each in documents if each.name == "event"]
    for event, (_, published) in zip(events, run.events, strict=True):
        np.testing.assert_array_equal(event["data"]["image"], published["data"]["image"])
        assert (event["seq_num"], event["time"]) == (published["seq_num"], published["time"])
    assert [each.at for each in documents if each.at is not None][:1] == [1.0]

    (second,) = dvfb(
        "replay", uid[:8], "--tiled", address, "--to", "tiled", "--into", address, "--rate", "max", **key
    )
    assert from_uri(tiled_server.uri)[second].metadata["start"]["replay_of"] == uid


def test_reading_a_topic_commits_nothing_and_begins_where_it_is_told(topic):
    settings = KafkaSettings(bootstrap_servers=topic.bootstrap_servers, topics=[topic.name])
    old, new = RawRun([1]), RawRun([2])
    topic.send(*old.documents)
    stopping, taken = threading.Event(), []

    def read():
        read_topics(settings, lambda name, doc: taken.append((name, doc)), start="latest", stopping=stopping)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        # Until it reads, what is published is before its beginning: a run at a time, till one has come.
        def came():
            topic.send(*new.documents)
            return [doc["uid"] for name, doc in taken if name == "start"]

        assert set(eventually(came, pause_for=0.5)) == {new.uid}
    finally:
        stopping.set()
        thread.join(30)
    assert topic.committed("dvfb") is None
