"""What cannot be processed is kept with its origin, the reason and its bytes, and the good runs go on."""

import threading

import msgpack
import pytest

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.dead_letters.folder import LetterFolder
from dvfb_stream.dead_letters.letter import Content, Kind
from dvfb_stream.kafka.consumer import BrokerError
from dvfb_stream.kafka.dead_letter_topic import letters_in_topic
from tests.kafka.conftest import RawRun, Recorder, eventually, frames_of, quick_group


def committed(topic):
    return topic.committed(quick_group(topic)["group"])


def in_topic(topic):
    settings = KafkaSettings.model_validate(quick_group(topic))
    return list(letters_in_topic(settings, topic.name))


@pytest.fixture
def folder(tmp_path):
    return LetterFolder(tmp_path / "letters", max_bytes=1 << 20)


def origins(letters):
    return sorted((letter.offset, letter.kind.value) for letter in letters)


def test_undecodable_messages_go_into_the_folder_as_they_were(topic, start_daemon, folder):
    run, poison = RawRun([1, 2]), [b"", b"\xc1", b"\x80\x04.", msgpack.packb(["evil", {}])]
    start, *rest = run.documents
    first, *_, last = topic.send(start, *poison, *rest)
    sink = Recorder()
    start_daemon(sink, dead_letters={"folder": str(folder.path)})
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)
    letters = list(folder.letters())
    assert origins(letters) == [(first + 1 + n, "undecodable") for n in range(4)]
    for letter in letters:
        assert (letter.topic, letter.partition, letter.content) == (topic.name, 0, Content.MESSAGE)
        assert folder.get(letter.id).value == poison[letter.offset - first - 1]
        assert letter.reason
        assert letter.time > 1.6e9


def test_documents_that_no_run_could_take_are_kept_with_the_reason(topic, start_daemon, folder):
    run, unknown = RawRun([1, 2]), RawRun([3])
    malformed = ("event", {"uid": "x", "descriptor": run.descriptor[1]["uid"], "data": "none", "seq_num": 9})
    late = ("event", {**run.events[0][1], "uid": "late"})
    *_, last = topic.send(unknown.events[0], *run.documents[:-1], malformed, run.stop, late, unknown.stop)
    sink = Recorder()
    daemon = start_daemon(sink, dead_letters={"folder": str(folder.path)})
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)
    letters = {letter.offset: folder.get(letter.id) for letter in folder.letters()}
    assert sorted(letters) == [last - 3, last - 1, last]
    assert {letter.kind for letter in letters.values()} == {Kind.UNTAKEN}
    assert "must be a mapping" in letters[last - 3].reason
    assert "has ended here" in letters[last - 1].reason
    assert letters[last].run == unknown.uid
    assert msgpack.unpackb(letters[last].value)[0] == "stop"
    daemon.stop()
    assert daemon.stats().dead_letters == 3  # the event of no known run waited for its descriptor to the end


def test_a_topic_gets_letters_with_value_and_key_as_they_were(make_topic, topic, start_daemon, folder):
    dead, poison = make_topic(), b"\xc1" * 2_000_000  # more than a producer's default takes
    run = RawRun([1])
    topic.producer.config["max_request_size"] = 8 << 20
    (offset,) = topic.send(poison)
    *_, last = topic.send(*run.documents)
    start_daemon(Recorder(), dead_letters={"topic": dead.name, "folder": str(folder.path)})
    eventually(lambda: committed(topic) == last + 1)
    (letter,) = in_topic(dead)
    assert (letter.topic, letter.offset, letter.kind) == (topic.name, offset, Kind.UNDECODABLE)
    assert letter.value == poison
    assert not list(folder.letters())


def test_where_the_topic_is_not_there_letters_go_into_the_folder(topic, start_daemon, folder, monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.dead_letter_topic._REQUEST_SECONDS", 0.5)
    run = RawRun([1])
    (offset,) = topic.send(b"\xc1")
    *_, last = topic.send(*run.documents)
    sink = Recorder()
    start_daemon(sink, dead_letters={"topic": "no topic\0", "folder": str(folder.path)})
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)
    assert origins(folder.letters()) == [(offset, "undecodable")]
    with pytest.raises(BrokerError, match="there is no topic"):
        list(letters_in_topic(KafkaSettings.model_validate(quick_group(topic)), "not-there"))


def test_good_runs_pass_a_letter_that_is_on_its_way_and_the_commit_does_not(topic, start_daemon, folder):
    before, after = RawRun([1]), RawRun([2])
    topic.send(*before.documents)
    (poison,) = topic.send(b"\xc1")
    *_, last = topic.send(*after.documents)
    gate, sink = threading.Event(), Recorder()
    daemon = start_daemon(sink, dead_letters={"folder": str(folder.path)}, start=False)
    put = LetterFolder.put

    def slow(self, letter):
        assert gate.wait(60)
        put(self, letter)

    daemon.daemon.dead_letters.folder.put = slow.__get__(daemon.daemon.dead_letters.folder)
    daemon.start()
    try:
        eventually(lambda: len(sink.of("stop")) == 2)
        eventually(lambda: committed(topic) == poison)
        messages = daemon.stats().messages
        topic.send(b"\xc1")
        eventually(lambda: daemon.stats().messages > messages)
        assert committed(topic) == poison
    finally:
        gate.set()
    eventually(lambda: committed(topic) == last + 2)
    assert len(list(folder.letters())) == 2


def test_a_folder_without_room_costs_letters_and_nothing_else(topic, start_daemon, tmp_path, caplog):
    run = RawRun([1])
    topic.send(*[b"\xc1" + bytes(30_000)] * 4)
    *_, last = topic.send(*run.documents)
    sink = Recorder()
    daemon = start_daemon(sink, dead_letters={"folder": str(tmp_path), "max_bytes": 1 << 16})
    eventually(lambda: committed(topic) == last + 1)
    assert sink.frames() == frames_of(run)
    daemon.stop()
    assert (daemon.stats().dead_letters, daemon.stats().failed_dead_letters) == (1, 3)
    assert f"the dead letter of {topic.name}[0] offset 1 is lost" in caplog.text
