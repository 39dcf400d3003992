"""The daemon stores every frame of every run once, and commits nothing before it is stored."""

import threading

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from dvfb_stream.catalog import TiledSink, find_runs, read_annotations
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.spool import Pace, Spool
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.daemon.sinks import StorageError
from dvfb_stream.kafka.consumer import BrokerError
from tests.kafka.conftest import (
    SHAPE,
    BrightnessAnnotator,
    RawRun,
    Recorder,
    eventually,
    frames_of,
    quick_group,
    rows_so_far,
)


def rows(catalog, run):
    return [(row["frame"], round(row["rings"] * 1000)) for row in rows_so_far(catalog, run.uid)]


def stored_rows(catalog, run):
    """Rows as they lie in Tiled, duplicates included."""
    from dvfb_stream.catalog.place import find_place, table_of_run

    analyses = find_place(catalog).values()
    (stored,) = [each for each in analyses if each.metadata["start"]["analysis"]["parent"] == run.uid]
    assert stored.metadata["stop"]["summary"]["frames"] == len(run.brightness)
    return [int(frame) for frame in table_of_run(stored).read(["frame"])["frame"]]


def committed(topic, partition=0):
    return topic.committed(quick_group(topic)["group"], partition)


def test_a_published_run_is_stored_searchable_and_then_committed(topic, catalog, start_daemon):
    run = RawRun([100, 600, 300], sample_name="silver behenate")
    *_, last = topic.send(*run.documents)
    daemon = start_daemon(TiledSink(catalog), arrays=["features"])
    eventually(lambda: committed(topic) == last + 1)
    assert rows(catalog, run) == frames_of(run)
    analysis_uid = read_annotations(catalog, run.uid)[0]["analysis_uid"]
    assert read_array(catalog, analysis_uid, "features")[1][:, 1].tolist() == pytest.approx([0.1, 0.6, 0.3])
    daemon.stop()
    assert daemon.stats().stored_runs == 1
    assert run.uid not in find_runs(catalog, "rings")  # this annotator accepts nothing


def test_an_open_run_holds_the_commit_at_its_start(topic, start_daemon):
    finished, unfinished = RawRun([1, 2]), RawRun([3, 4, 5])
    topic.send(*finished.documents)
    first, *_ = topic.send(*unfinished.documents[:-1])
    sink = Recorder()
    daemon = start_daemon(sink)
    eventually(lambda: len(sink.of("event")) == 5)
    eventually(lambda: committed(topic) == first)
    daemon.stop()
    assert committed(topic) == first
    assert daemon.stats().open_runs == 0  # forgotten with their partition
    (stop,) = topic.send(unfinished.stop)

    again = Recorder()
    daemon = start_daemon(again)
    eventually(lambda: committed(topic) == stop + 1)
    assert again.frames() == frames_of(unfinished)
    assert again.of("event") == sink.of("event")[2:]  # the very same documents


def test_a_daemon_that_starts_again_completes_what_the_catalog_has_in_part(topic, catalog, start_daemon):
    run = RawRun(range(10, 23))
    topic.send(*run.documents[:9])
    daemon = start_daemon(TiledSink(catalog, batch_size=3))
    eventually(lambda: len(rows(catalog, run)) >= 6)
    daemon.stop()
    *_, last = topic.send(*run.documents[9:])
    start_daemon(TiledSink(catalog, batch_size=3))
    eventually(lambda: committed(topic) == last + 1)
    assert rows(catalog, run) == frames_of(run)
    assert stored_rows(catalog, run) == list(range(13))


class Catalog:
    """A store that may be away, and remembers frames."""

    def __init__(self):
        self.away, self.frames, self.stops = threading.Event(), {}, []
        self.away.set()

    def write(self, start, descriptor, events):
        if self.away.is_set():
            raise StoreUnavailableError("nobody answers")
        self.frames.setdefault(start["uid"], []).extend(event["data"]["frame"] for event in events)

    def finish(self, start, descriptor, stop):
        self.stops.append(start["uid"])

    def close(self):
        pass


QUICK = Pace(first_pause=0.01, longest_pause=0.05)


def test_nothing_is_committed_before_the_catalog_has_it(topic, start_daemon, tmp_path):
    stored, later = Catalog(), RawRun([1, 2])
    topic.send(*RawRun([3]).documents)
    with Spool(stored, tmp_path, pace=QUICK) as spool:
        daemon = start_daemon(spool)
        *_, last = topic.send(*later.documents)
        eventually(lambda: spool.stats().spooled_rows == 3 and spool.stats().trouble)
        # The daemon has taken all there is, and could have committed it several times over.
        before = daemon.daemon.stats().messages
        topic.send(b"no document")
        eventually(lambda: daemon.daemon.stats().messages > before)
        assert committed(topic) in (None, 0)
        assert daemon.daemon.stats().stored_runs == 0
        stored.away.clear()
        eventually(lambda: committed(topic) == last + 2)
        assert daemon.daemon.stats().stored_runs == len(stored.stops) == 2
        daemon.stop()


def test_a_daemon_that_ends_while_the_catalog_is_away_leaves_each_row_once(topic, start_daemon, tmp_path):
    stored, run = Catalog(), RawRun(range(10, 15))
    *_, last = topic.send(*run.documents)
    with Spool(stored, tmp_path, pace=QUICK) as spool:
        daemon = start_daemon(spool, limits={"drain_timeout": 0.1})
        eventually(lambda: spool.stats().spooled_rows == 5)
        daemon.stop()
        assert committed(topic) in (None, 0)
        spool.close(0.0)
    stored.away.clear()
    with Spool(stored, tmp_path, pace=QUICK) as spool:
        start_daemon(spool)
        eventually(lambda: committed(topic) == last + 1)
        (frames,) = stored.frames.values()
        assert sorted(set(frames)) == list(range(5))


def test_messages_that_cannot_be_decoded_are_counted_logged_and_skipped(topic, start_daemon, caplog):
    run = RawRun([1, 2])
    poison = [
        b"",
        b"\xc1",
        b"\x80\x04.",
        msgpack.packb(["event", {"data": {b"nd": True, b"type": "|O", b"kind": b"O"}}]),
    ]
    documents = list(run.documents)
    for place, message in enumerate(poison):
        documents.insert(2 * place, message)
    *_, last = topic.send(*documents)
    sink = Recorder()
    with caplog.at_level("WARNING"):
        daemon = start_daemon(sink)
        eventually(lambda: committed(topic) == last + 1)
    daemon.stop()
    assert sink.frames() == frames_of(run)
    assert daemon.stats().refused == len(poison)
    for place in range(len(poison)):
        assert f"{topic.name}[0] offset {2 * place}:" in caplog.text


def test_an_event_that_cannot_be_decoded_moves_no_other_frame(topic, start_daemon):
    run = RawRun([1, 2, 3, 4, 5])
    start, descriptor, *events, stop = run.documents
    torn = msgpack_numpy.packb(events[1])[:-20]
    *_, last = topic.send(start, descriptor, events[0], torn, events[2], stop)
    sink = Recorder()
    start_daemon(sink)
    eventually(lambda: committed(topic) == last + 1)
    rows = [doc["data"] for doc in sink.of("event")]
    assert [(row["frame"], row["event_seq_num"], row["status"]) for row in rows] == [
        (0, 1, "ok"), (1, 2, "failed"), (2, 3, "ok"), (3, 4, "failed"), (4, 5, "failed"),
    ]  # fmt: skip
    assert [round(row["rings"] * 1000) for row in rows if row["status"] == "ok"] == [1, 3]
    assert sink.of("stop")[0]["summary"]["frames"] == 5


def test_documents_of_a_run_whose_start_was_never_read_are_skipped(topic, start_daemon):
    old, new = RawRun([1, 2, 3]), RawRun([4, 5])
    *_, last = topic.send(*old.documents[1:], *new.documents)
    sink = Recorder()
    daemon = start_daemon(sink)
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(new)
    daemon.stop()
    assert daemon.stats().rejected_documents == len(old.documents) - 1


def test_a_descriptor_that_comes_before_its_start_costs_no_row(topic, start_daemon):
    run = RawRun([1, 2, 3])
    start, descriptor, *others = run.documents
    first, *_ = topic.send(descriptor, start, *others[:-1])
    sink = Recorder()
    daemon = start_daemon(sink)
    eventually(lambda: len(sink.of("event")) == 3)
    eventually(lambda: committed(topic) == first)  # a restart finds the descriptor, too
    daemon.stop()
    *_, last = topic.send(others[-1])
    again = Recorder()
    start_daemon(again)
    eventually(lambda: committed(topic) == last + 1)
    assert again.frames() == frames_of(run)


def test_frames_in_files_are_read_where_the_root_map_says(topic, start_daemon, tmp_path):
    run = RawRun([0, 0, 0])
    frames = [np.full(SHAPE, value, np.uint16) for value in (7, 8, 9)]
    run.brightness = [7, 8, 9]
    resource = {
        "uid": "r", "run_start": run.uid, "spec": "NPY_SEQ", "root": "/ioc", "resource_path": "scan",
        "resource_kwargs": {}, "path_semantics": "posix",
    }  # fmt: skip
    run.descriptor[1]["data_keys"]["image"]["external"] = "FILESTORE:"
    documents = [run.start, run.descriptor, ("resource", resource)]
    for number, frame in enumerate(frames):
        np.save(tmp_path / f"scan_{number}.npy", frame)
        datum = {"datum_id": f"r/{number}", "resource": "r", "datum_kwargs": {"index": number}}
        name, event = run.events[number]
        filled = {"data": {"image": datum["datum_id"]}, "filled": {"image": False}}
        documents += [("datum", datum), (name, event | filled)]
    *_, last = topic.send(*documents, run.stop)
    sink = Recorder()
    start_daemon(sink, root_map={"/ioc": str(tmp_path)})
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)


def test_documents_that_came_twice_are_counted_once(topic, start_daemon):
    run = RawRun([1, 2])
    start, descriptor, first, second, stop = run.documents
    *_, last = topic.send(start, descriptor, first, start, first, second, stop)
    sink = Recorder()
    daemon = start_daemon(sink)
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)
    daemon.stop()
    assert (daemon.stats().repeated, daemon.stats().rejected_documents) == (2, 0)


def test_strange_start_documents_are_no_reason_to_stop(topic, catalog, start_daemon):
    run = RawRun([1], sample_name={"spectrum": np.array([1.0, np.nan]), "z": 1 + 2j, "n": np.int64(3)})
    *_, last = topic.send(*run.documents)
    start_daemon(TiledSink(catalog))
    eventually(lambda: committed(topic) == last + 1)
    assert rows(catalog, run) == frames_of(run)


def test_the_consumer_pauses_and_goes_on_polling_while_the_annotator_is_busy(topic, start_daemon):
    gate = threading.Event()
    runs = [RawRun(range(50)), RawRun(range(50))]
    *_, last = topic.send(*runs[0].documents, *runs[1].documents)
    sink = Recorder()
    daemon = start_daemon(
        sink,
        annotator=BrightnessAnnotator(gate),
        limits={"max_frames": 2, "batch_size": 1, "max_document_bytes": 2000},
    )
    try:
        polls = count_polls_with_a_full_queue(daemon.daemon)
        eventually(lambda: len(polls) > 5)
        assert daemon.stats().messages < last / 2
        assert committed(topic) in (None, 0)
    finally:
        gate.set()
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(runs[0]) + frames_of(runs[1])


def count_polls_with_a_full_queue(daemon):
    polls, step = [], daemon._step

    def counted(consumer, assignment):
        step(consumer, assignment)
        if any(pipeline.is_full for pipeline in daemon._pipelines.values()):
            polls.append(1)

    daemon._step = counted
    return polls


def test_a_sink_that_fails_stops_the_daemon_and_a_restart_loses_nothing(topic, start_daemon):
    stored, lost = RawRun([1, 2]), RawRun([3, 4, 5])
    topic.send(*stored.documents)
    first, *_, last = topic.send(*lost.documents)

    def full_disk(name, doc):
        if name == "event" and doc["data"]["rings"] > 0.0035:
            raise OSError(28, "No space left on device")

    daemon = start_daemon(full_disk)
    daemon.join()
    assert isinstance(daemon.error, StorageError)
    assert "No space left on device" in str(daemon.error)
    assert "\n" not in str(daemon.error)
    assert committed(topic) in (None, 0, first)

    sink = Recorder()
    start_daemon(sink)
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames()[-3:] == frames_of(lost)


def test_a_run_that_never_stops_is_given_up_after_a_while(topic, start_daemon, caplog):
    run = RawRun([1, 2])
    *_, last = topic.send(*run.documents[:-1])
    daemon = start_daemon(Recorder(), limits={"max_open_run_age": 0.3})
    eventually(lambda: committed(topic) == last + 1)
    daemon.stop()
    assert daemon.stats().abandoned_runs == 1
    assert f"giving up run {run.uid}" in caplog.text


def test_of_a_thousand_and_five_open_runs_each_has_its_rows(topic, start_daemon):
    runs = [RawRun([n % 900]) for n in range(1005)]
    for run in runs:
        run.sent = [topic.producer.send(topic.name, msgpack_numpy.packb(doc)) for doc in run.documents[:-1]]
    *_, last = topic.send(*(run.stop for run in runs))
    sink = Recorder()
    daemon = start_daemon(sink)
    eventually(lambda: committed(topic) == last + 1, timeout=120)
    assert len(sink.of("stop")) == 1005
    assert sorted(sink.frames()) == sorted((0, n % 900) for n in range(1005))
    daemon.stop()
    assert daemon.stats().stored_runs == 1005


def test_when_a_second_daemon_joins_every_row_is_still_there_once(make_topic, catalog, start_daemon):
    topic = make_topic(partitions=2)
    runs = [RawRun(range(100, 120)), RawRun(range(200, 220))]
    for partition, run in enumerate(runs):
        topic.send(*run.documents[:12], partition=partition)

    def sinks():
        return [TiledSink(catalog, batch_size=4)]

    first = start_daemon(sinks_for_partition=sinks, topic=topic)
    eventually(lambda: first.stats().frames == 20)
    second = start_daemon(sinks_for_partition=sinks, topic=topic)
    eventually(lambda: second.stats().frames == 10)
    ends = [topic.send(*run.documents[12:], partition=n)[-1] + 1 for n, run in enumerate(runs)]
    eventually(lambda: [committed(topic, 0), committed(topic, 1)] == ends)
    for run in runs:
        assert rows(catalog, run) == frames_of(run)
        assert stored_rows(catalog, run) == list(range(20))
    first.stop()
    second.stop()
    assert first.stats().stored_runs + second.stats().stored_runs == 2


def test_a_cluster_that_does_not_answer_is_said_so(topic, start_daemon):
    daemon = start_daemon(Recorder(), bootstrap_servers=["localhost:1"], limits={"start_timeout": 0})
    daemon.join()
    assert isinstance(daemon.error, BrokerError)
    assert "no Kafka broker answers (kafka.bootstrap_servers): localhost:1: nobody listens" in str(
        daemon.error
    )


@pytest.mark.parametrize("partitions", [3])
def test_one_daemon_takes_all_partitions(make_topic, start_daemon, partitions):
    topic = make_topic(partitions=partitions)
    runs = [RawRun([n, n + 1]) for n in range(partitions)]
    for partition, run in enumerate(runs):
        topic.send(*run.documents, partition=partition)
    sink = Recorder()
    start_daemon(sink, topic=topic)
    eventually(lambda: len(sink.of("stop")) == partitions)
    assert sorted(sink.frames()) == sorted(frame for run in runs for frame in frames_of(run))
