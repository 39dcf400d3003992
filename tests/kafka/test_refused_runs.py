"""A run that a store will not take is a dead letter: it holds up nobody, ends nothing, and the commit passes it."""

import json

import pytest

from dvfb_stream.catalog.spool import Pace, Spool
from dvfb_stream.catalog.spool.inspection import release, runs_in_spools
from dvfb_stream.catalog.store_errors import StoreFaultError, StoreRefusedError
from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.dead_letters.folder import LetterFolder
from dvfb_stream.dead_letters.letter import Content, Kind
from dvfb_stream.errors import RefusedDocumentError
from dvfb_stream.kafka.topic_sink import TopicSink
from tests.kafka.conftest import RawRun, Recorder, eventually, frames_of, quick_group

QUICK = Pace(first_pause=0.01, longest_pause=0.05, most_faults_alone=3)


class Catalog:
    """A store that will not take runs of some samples, or fails over them."""

    def __init__(self, error):
        self.error, self.frames, self.stops = error, {}, []
        self.refuses = {"refused"}

    def write(self, start, descriptor, events):
        sample = start["analysis"]["raw"]["sample_name"]
        if sample in self.refuses:
            raise self.error
        self.frames.setdefault(sample, []).extend(event["data"]["frame"] for event in events)

    def finish(self, start, descriptor, stop):
        self.stops.append(start["analysis"]["raw"]["sample_name"])

    def probe(self):
        pass

    def close(self):
        pass


@pytest.fixture
def folder(tmp_path):
    return LetterFolder(tmp_path / "letters", max_bytes=1 << 20)


@pytest.fixture(params=[
    StoreRefusedError("422: access_tags", everything=False), StoreFaultError("500: NUL"), KeyError("uid"),
], ids=["refused", "fault of the server", "nobody foresaw"])  # fmt: skip
def catalog(request):
    return Catalog(request.param)


def committed(topic):
    return topic.committed(quick_group(topic)["group"])


@pytest.mark.parametrize("at", ["the end", "its beginning"])
def test_a_refused_run_is_kept_and_passed_and_the_runs_around_it_are_stored(
    topic, start_daemon, tmp_path, folder, catalog, at, caplog
):
    before, poison, after = (RawRun([1, 2], sample_name=name) for name in ("before", "refused", "after"))
    topic.send(*before.documents)
    at_start, *_ = topic.send(*poison.documents[:-1])
    with Spool(catalog, tmp_path / "spool", pace=QUICK) as spool:
        daemon = start_daemon(spool, dead_letters={"folder": str(folder.path)})
        if at == "its beginning":
            eventually(lambda: spool.stats().quarantined_runs == 1)
            eventually(lambda: committed(topic) == at_start)  # not before its stop is on the disk
        *_, last = topic.send(poison.stop, *after.documents)
        eventually(lambda: committed(topic) == last + 1)
        assert catalog.stops == ["before", "after"]
        daemon.stop()
        assert daemon.error is None
        (letter,) = folder.letters()
        assert (letter.kind, letter.run, letter.offset) == (Kind.REFUSED, poison.uid, at_start)
        assert str(catalog.error).strip("'") in letter.reason
        kept = folder.get(letter.id)
        assert kept.content is Content.DOCUMENTS
        (_, start), (_, descriptor) = json.loads(kept.value)
        assert letter.about == f"analysis run {start['uid']}"
        assert descriptor["run_start"] == start["uid"]
        assert f"run {poison.uid} is refused for good" in caplog.text

        # The rows are in the spool; mended, they are delivered.
        (left,) = runs_in_spools(tmp_path / "spool")
        assert (left.raw_uid, left.rows, left.stopped) == (poison.uid, 2, True)
        catalog.refuses.clear()
        release(tmp_path / "spool", {left.uid})
        eventually(lambda: catalog.stops == ["before", "after", "refused"])
        assert catalog.frames["refused"] == [0, 1]


def test_a_sink_that_stumbles_over_a_document_costs_its_run_alone(topic, start_daemon, folder):
    good, poison = RawRun([1, 2]), RawRun([3])
    topic.send(*poison.documents)
    *_, last = topic.send(*good.documents)
    beside = Recorder()

    def stumbles(name, doc):
        if name == "event" and doc["data"]["rings"] > 0.0025:
            raise TypeError("no such value")

    daemon = start_daemon(stumbles, beside, dead_letters={"folder": str(folder.path)})
    eventually(lambda: committed(topic) == last + 1)
    assert sorted(beside.frames()) == sorted(frames_of(good) + frames_of(poison))
    daemon.stop()
    assert daemon.stats().stored_runs == 1
    (letter,) = folder.letters()
    assert (letter.kind, letter.run, letter.reason) == (Kind.REFUSED, poison.uid, "TypeError: no such value")


def test_a_topic_takes_what_is_no_text_and_refuses_what_is_too_large(make_topic):
    topic = make_topic()
    sink = TopicSink(KafkaSettings.model_validate(quick_group(topic)), topic.name)
    sink("start", {"uid": "a", "analysis": {"sample": "\ud800"}})
    sink("descriptor", {"uid": "d", "run_start": "a"})
    with pytest.raises(RefusedDocumentError, match="takes no document of"):
        sink("event", {"uid": "e", "descriptor": "d", "data": {"reason": "x" * (2 << 20)}})
    with pytest.raises(RefusedDocumentError, match="not open"):
        sink("event", {"uid": "e", "descriptor": "another", "data": {}})
    sink("stop", {"uid": "s", "run_start": "a"})
    sink.close()
