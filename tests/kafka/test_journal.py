"""After a kill, a daemon goes on where it was: at most one batch is annotated again, however long the run is."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections import Counter

import h5py
import numpy as np
import pytest

from dvfb_stream.catalog.spool import Pace, Spool
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.kafka.journal_state import JournalState
from dvfb_stream.kafka.partition_offsets import PartitionOffsets
from dvfb_stream.kafka.resuming import _position
from tests.forked_processes import module
from tests.kafka.conftest import (
    SHAPE,
    BrightnessAnnotator,
    RawRun,
    Topic,
    eventually,
    frames_of,
    rows_so_far,
)

BATCH = 8


@pytest.fixture
def launch(tmp_path, topic, tiled_server):
    """Function that starts a daemon's process, with a spool's folder of this name."""
    processes = []

    def start(spool="spool", seconds=0.002, topic=topic):
        options = {
            "servers": topic.bootstrap_servers, "topic": topic.name, "group": f"group-of-{topic.name}",
            "tiled": tiled_server.uri.partition("?")[0], "spool": str(tmp_path / spool),
            "notes": str(tmp_path / "annotated"), "seconds": seconds, "batch": BATCH,
        }  # fmt: skip
        processes.append(
            module(
                "benchmarks.annotating_daemon", json.dumps(options),
                environment={"TILED_API_KEY": tiled_server.api_key},
                stderr=tmp_path / f"log-{len(processes)}.txt",
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def annotated(tmp_path):
    """Function that returns how often each frame of a run was annotated, in all processes."""

    def count(run):
        path = tmp_path / "annotated"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(int(frame) for uid, frame, _ in map(str.split, lines) if uid == run.uid)

    return count


def killed(process):
    process.kill()
    process.wait(10)


def committed(topic):
    return topic.committed(f"group-of-{topic.name}")


def rows(catalog, run):
    return [(row["frame"], round(row["rings"] * 100_000)) for row in rows_so_far(catalog, run.uid)]


def summary(catalog, run):
    from dvfb_stream.catalog.place import find_place

    (stored,) = [
        each
        for each in find_place(catalog).values()
        if each.metadata["start"]["analysis"]["parent"] == run.uid and each.metadata["stop"]
    ]
    return stored.metadata["stop"]["summary"]


def test_killed_again_and_again_it_annotates_no_frame_but_those_in_its_hands_again(
    launch, annotated, topic, catalog
):
    run = RawRun(range(100, 300))
    *_, last = topic.send(*run.documents)
    before, again = 0, 0
    for share in (60, 150):
        daemon = launch(seconds=0.005)
        eventually(lambda least=share: len(annotated(run)) >= least, timeout=60)
        killed(daemon)
        again = sum(annotated(run).values()) - len(annotated(run))
        assert again - before <= BATCH
        before = again
    launch()
    eventually(lambda: committed(topic) == last + 1, timeout=60)
    assert rows(catalog, run) == frames_of(run)
    assert sum(annotated(run).values()) - 200 <= 2 * BATCH
    assert summary(catalog, run)["frames"] == 200
    assert summary(catalog, run)["rings"]["max"] == pytest.approx(299 / 100_000)


class Counting(BrightnessAnnotator):
    """Remembers the frames that it was given."""

    def __init__(self):
        super().__init__()
        self.frames = []

    def annotate(self, frames):
        self.frames += [(frame.origin.run_uid, frame.origin.index) for frame in frames]
        return super().annotate(frames)


class Kept:
    """A store of rows in memory, which several daemons share, one after another."""

    def __init__(self):
        self.rows, self.stops = {}, {}

    def write(self, start, descriptor, events):
        rows = self.rows.setdefault(start["analysis"]["parent"], {})
        for event in events:
            frame = event["data"]["frame"]
            score = event["data"]["rings"]
            rows.setdefault(frame, None if math.isnan(score) else round(score * 1000))

    def finish(self, start, descriptor, stop):
        self.stops[start["analysis"]["parent"]] = stop

    def close(self):
        pass

    def frames(self, run):
        return sorted(self.rows.get(run.uid, {}).items())


@pytest.fixture
def go_on(start_daemon, tmp_path):
    """Function that runs a daemon until a condition holds; returns which frames it annotated."""

    def run_until(kept, condition, spool="spool", **settings):
        annotator = Counting()
        with Spool(kept, tmp_path / spool, pace=Pace(max_age=0.01)) as sink:
            # What it leads to may be read.
            root_map = {str(tmp_path): str(tmp_path)}
            daemon = start_daemon(sink, annotator=annotator, root_map=root_map, **settings)
            eventually(condition)
            daemon.stop()
            sink.close(1.0)
        return annotator.frames

    return run_until


def test_a_run_goes_on_where_it_was_and_its_summary_counts_all_rows(topic, go_on):
    run, kept = RawRun(range(10, 30)), Kept()
    topic.send(*run.documents[:12])
    first = go_on(kept, lambda: len(kept.frames(run)) == 10)
    assert [frame for _, frame in first] == list(range(10))
    *_, last = topic.send(*run.documents[12:])
    then = go_on(kept, lambda: committed(topic) == last + 1)
    assert [frame for _, frame in then] == list(range(10, 20))
    assert kept.frames(run) == frames_of(run)
    summary = kept.stops[run.uid]["summary"]
    assert (summary["frames"], summary["rings"]["max"]) == (20, pytest.approx(0.029))
    assert summary["rings"]["mean"] == pytest.approx(np.mean(range(10, 30)) / 1000)
    # What is over is over: nothing is read, annotated or held again.
    new = RawRun([5])
    *_, last = topic.send(*new.documents)
    assert go_on(kept, lambda: committed(topic) == last + 1) == [(new.uid, 0)]


def test_a_run_whose_stop_waits_in_the_spool_is_stored_and_committed_by_the_next(topic, go_on):
    run, kept = RawRun([1, 2, 3]), Kept()
    *_, last = topic.send(*run.documents)

    def away(*_):
        raise StoreUnavailableError("away")

    finish, kept.finish = kept.finish, away
    go_on(kept, lambda: len(kept.frames(run)) == 3, limits={"drain_timeout": 0.1})
    assert committed(topic) in (None, 0)
    kept.finish = finish
    assert go_on(kept, lambda: committed(topic) == last + 1) == []
    assert kept.stops[run.uid]["summary"]["frames"] == 3


def test_runs_that_were_over_at_a_kill_are_committed_though_nothing_comes_after(topic, go_on, monkeypatch):
    run, kept = RawRun([1, 2, 3]), Kept()
    *_, last = topic.send(*run.documents)
    with monkeypatch.context() as patched:
        patched.setattr(PartitionOffsets, "committable", lambda self: None)
        go_on(kept, lambda: run.uid in kept.stops)
    assert committed(topic) in (None, 0)
    assert go_on(kept, lambda: committed(topic) == last + 1) == []


@pytest.fixture
def forgetful_topic():
    """A topic, and a function that removes the records before an offset from it, as retention does."""
    if servers := os.environ.get("DVFB_KAFKA_BOOTSTRAP_SERVERS"):
        from kafka import TopicPartition
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
        name = f"tst.bluesky.runengine.documents.{uuid.uuid4().hex[:8]}"
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})
        topic = Topic(servers.split(","), name)
        yield topic, lambda before: admin.delete_records({TopicPartition(name, 0): before})
        topic.producer.close()
        admin.close()
        return
    from benchmarks.beamline.broker import broker

    with broker() as cluster:
        cluster.create_topic("documents", 1)
        topic = Topic(cluster.servers, "documents")
        yield topic, lambda before: cluster.forget("documents", 0, before)
        topic.producer.close()


@pytest.mark.kafka
@pytest.mark.parametrize("events_lost", [0, 2])
def test_a_run_whose_start_the_topic_has_forgotten_goes_on_from_the_journal(
    forgetful_topic, go_on, events_lost
):
    topic, forget = forgetful_topic
    run, kept = RawRun(range(10, 30)), Kept()
    for document in run.documents[:12]:
        topic.send(document)  # one by one: each a batch of its own
    go_on(kept, lambda: len(kept.frames(run)) == 10, topic=topic)
    assert committed(topic) in (None, 0)
    for document in run.documents[12:]:
        *_, last = topic.send(document)
    forget(12 + events_lost)
    then = go_on(kept, lambda: committed(topic) == last + 1, topic=topic)
    assert [frame for _, frame in then] == list(range(10 + events_lost, 20))
    lost = set(range(10, 10 + events_lost))
    assert [each for each in kept.frames(run) if each[0] not in lost] == [
        each for each in frames_of(run) if each[0] not in lost
    ]
    assert [frame for frame, _ in kept.frames(run)] == list(range(20))
    assert kept.stops[run.uid]["summary"]["frames"] == 20
    assert kept.stops[run.uid]["summary"]["failed"] == events_lost


def test_who_does_not_see_the_folder_reads_from_the_start_and_who_comes_back_goes_behind_that(topic, go_on):
    run, kept = RawRun(range(12)), Kept()
    topic.send(*run.documents[:8])
    go_on(kept, lambda: len(kept.frames(run)) == 6)
    other = Kept()
    *_, last = topic.send(*run.documents[8:])
    elsewhere = go_on(other, lambda: committed(topic) == last + 1, spool="another disk")
    assert [frame for _, frame in elsewhere] == list(range(12))
    new = RawRun([1])
    *_, last = topic.send(*new.documents)
    assert go_on(kept, lambda: committed(topic) == last + 1) == [(new.uid, 0)]


def stream_documents(run, path, counts, *, of_another=None):
    """Documents of a run whose frames a few stream datums announce, in a file that is there."""
    run.descriptor[1]["data_keys"]["image"]["external"] = "STREAM:"
    resource = {
        "uid": of_another or f"resource of {run.uid}", "run_start": run.uid, "data_key": "image",
        "mimetype": "application/x-hdf5", "uri": f"file://localhost{path}", "parameters": {"dataset": "d"},
    }  # fmt: skip
    datums, start, first = [], (0 if of_another is None else counts[0]), 1
    for count in counts[(of_another is not None) :]:
        datums.append(("stream_datum", {
            "uid": f"{run.uid}/{start}", "stream_resource": resource["uid"],
            "descriptor": run.descriptor[1]["uid"], "indices": {"start": start, "stop": start + count},
            "seq_nums": {"start": first, "stop": first + count},
        }))  # fmt: skip
        start, first = start + count, first + count
    opening = [run.start, run.descriptor, *([] if of_another else [("stream_resource", resource)])]
    return [*opening, *datums, run.stop]


@pytest.fixture
def frames_in_a_file(tmp_path):
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        file["d"] = np.arange(60)[:, None, None] * np.ones((1, *SHAPE))
    return path


def test_frames_in_files_that_had_no_rows_are_read_without_their_document(topic, go_on, frames_in_a_file):
    run, kept = RawRun(range(60)), Kept()
    start, descriptor, resource, datum, stop = stream_documents(run, frames_in_a_file, [60])
    topic.send(start, descriptor, resource, datum)
    first = go_on(kept, lambda: len(kept.frames(run)) >= 10, limits={"batch_size": 4, "drain_timeout": 0.01})
    *_, last = topic.send(stop)
    then = go_on(kept, lambda: committed(topic) == last + 1)
    assert kept.frames(run) == frames_of(run)
    assert len(first) + len(then) <= 60 + 4


class Noticing(Counting):
    """Notes at each batch how many frames came before it, and how many rows of them the spool has."""

    def __init__(self, spool):
        super().__init__()
        self.spool, self.noticed = spool, []

    def annotate(self, frames):
        self.noticed.append((len(self.frames), self.spool.taken))
        return super().annotate(frames)


class Slow(Spool):
    """A spool that takes longer for a row than an annotator for a batch."""

    taken = 0

    def __call__(self, name, doc):
        if name == "event":
            time.sleep(0.005)
        super().__call__(name, doc)
        self.taken += name == "event"


def test_no_batch_is_annotated_before_the_spool_has_the_rows_of_the_one_before(
    topic, start_daemon, tmp_path, frames_in_a_file
):
    run, kept = RawRun(range(60)), Kept()
    *_, last = topic.send(*stream_documents(run, frames_in_a_file, [60]))
    with Slow(kept, tmp_path / "spool", pace=Pace(max_age=0.01)) as spool:
        annotator = Noticing(spool)
        start_daemon(
            spool, annotator=annotator, root_map={str(tmp_path): str(tmp_path)}, limits={"batch_size": 4}
        )
        eventually(lambda: committed(topic) == last + 1)
    assert len(annotator.noticed) >= 60 / 4
    assert all(rows == frames for frames, rows in annotator.noticed)


def test_a_detector_that_was_staged_once_serves_a_run_after_a_restart(topic, go_on, frames_in_a_file):
    first, second, kept = RawRun(range(4)), RawRun(range(4, 9)), Kept()
    documents = stream_documents(first, frames_in_a_file, [4])
    *_, last = topic.send(*documents)
    go_on(kept, lambda: committed(topic) == last + 1)
    later = stream_documents(second, frames_in_a_file, [4, 5], of_another=documents[2][1]["uid"])
    *_, last = topic.send(*later)
    go_on(kept, lambda: committed(topic) == last + 1)
    assert kept.frames(first) == frames_of(first)
    assert kept.frames(second) == frames_of(second)
    # And once more, when nothing of the first is left in the journal but that.
    third = RawRun(range(9, 12))
    *_, last = topic.send(
        *stream_documents(third, frames_in_a_file, [9, 3], of_another=documents[2][1]["uid"])
    )
    go_on(kept, lambda: committed(topic) == last + 1)
    assert kept.frames(third) == frames_of(third)


HEADER = {"model": "m@1", "arrays": [], "detectors": ["image"], "topic": "id"}


@pytest.mark.parametrize(
    ("changed", "committed", "expected"),
    [
        ({}, 10, 50),
        ({}, 50, 50),
        ({}, None, 50),  # the group's offsets have expired
        ({"model": "m@2"}, 10, None),
        ({"arrays": ["features"]}, 10, None),
        ({"detectors": None}, 10, None),
        ({"topic": "made anew"}, 10, None),
        ({}, 51, None),  # another daemon has stored what is before
        ({}, 8, None),  # somebody has reset the group
    ],
)
def test_a_journal_is_followed_where_it_says_more_than_the_cluster(changed, committed, expected):
    state = JournalState(dict(HEADER), at=50, committed=9)
    position, why = _position(state, HEADER | changed, committed)
    assert position == expected
    assert bool(why) == (expected is None)
