"""An operator sees what daemons could not process, and puts it back."""

import json

import msgpack
import pytest
from typer.testing import CliRunner

from dvfb_stream.cli.app import app
from dvfb_stream.dead_letters.folder import LetterFolder
from dvfb_stream.dead_letters.letter import Content, Kind
from tests.dead_letters.test_letters import letter
from tests.kafka.conftest import RawRun, Recorder, eventually, frames_of, quick_group


@pytest.fixture
def folder(tmp_path):
    return LetterFolder(tmp_path / "letters", max_bytes=1 << 20)


def run(*arguments, status=0):
    done = CliRunner().invoke(app, ["daemon", "dead-letters", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done.output


def test_letters_are_listed_and_shown_without_running_what_they_hold(folder, tmp_path):
    bomb = letter(1, value=b"\x80\x04\x95cos\nsystem\n\x1b[2J")
    event = letter(2, kind=Kind.UNTAKEN, time=2.0, value=msgpack.packb(["stop", {"run_start": "\x1b[31m"}]))
    folder.put(bomb)
    folder.put(event)
    listed = [json.loads(line) for line in run("list", "--folder", folder.path, "--json").splitlines()]
    assert [each["id"] for each in listed] == [bomb.id, event.id]
    assert bomb.id in run("list", "--folder", folder.path)
    shown = run("show", bomb.id, "--folder", folder.path, "--out", tmp_path / "bytes")
    assert "cannot be decoded" in shown
    assert "\x1b" not in shown
    assert (tmp_path / "bytes").read_bytes() == bomb.value
    assert "run_start" in json.loads(run("show", event.id, "--folder", folder.path, "--json"))["shown"]
    run("remove", bomb.id, "--folder", folder.path, "--yes")
    assert [each.id for each in folder.letters()] == [event.id]


def test_a_message_is_put_back_where_it_came_from_and_leaves_the_folder(
    topic, start_daemon, folder, tmp_path
):
    raw = RawRun([1, 2])
    config = tmp_path / "daemon.toml"
    config.write_text(
        f"[kafka]\nbootstrap_servers = {json.dumps(topic.bootstrap_servers)}\ntopics = ['{topic.name}']\n"
        f"[sinks]\njsonl = 'rows.jsonl'\n[files]\nallowed_roots = []\n[dead_letters]\nfolder = '{folder.path}'\n"
    )
    for number, document in enumerate(raw.documents):
        folder.put(letter(number, topic=topic.name, partition=0, value=_packed(document)))
    foreign = letter(99, topic="another")
    folder.put(foreign)
    ids = [
        each.id for each in sorted(folder.letters(), key=lambda each: each.offset) if each.id != foreign.id
    ]
    said = run("retry", *ids, "--config", config)
    assert said.count(f"published again to {topic.name}[0]") == len(raw.documents)
    assert "kafka.topics does not name" in run("retry", foreign.id, "--config", config, status=1)
    assert [each.id for each in folder.letters()] == [foreign.id]
    sink = Recorder()
    start_daemon(sink)
    eventually(lambda: topic.committed(quick_group(topic)["group"]) == len(raw.documents))
    assert sink.frames() == frames_of(raw)


def test_a_letter_in_a_topic_is_listed_shown_and_put_back_and_stays_there(
    topic, make_topic, start_daemon, tmp_path
):
    dead, late = make_topic(), RawRun([3])
    config = tmp_path / "daemon.toml"
    config.write_text(
        f"[kafka]\nbootstrap_servers = {json.dumps(topic.bootstrap_servers)}\ntopics = ['{topic.name}']\n"
        "[sinks]\njsonl = 'rows.jsonl'\n[files]\nallowed_roots = []\n"
        f"[dead_letters]\ntopic = '{dead.name}'\nfolder = '{tmp_path / 'letters'}'\n"
    )
    assert run("list", "--config", config).strip() == "there are no dead letters"
    # A run whose start comes last: nothing of it can be taken, until it is put back.
    *_, last = topic.send(late.descriptor, *late.events, late.stop, late.start)
    sink = Recorder()
    daemon = start_daemon(sink, dead_letters={"topic": dead.name, "folder": str(tmp_path / "letters")})
    eventually(lambda: daemon.daemon.dead_letters.sent == 3)
    listed = [json.loads(line) for line in run("list", "--config", config, "--json").splitlines()]
    ids = [each["id"] for each in sorted(listed, key=lambda each: each["offset"])]
    assert len(ids) == 3
    assert all(each in run("list", "--config", config) for each in ids)
    assert late.descriptor[1]["uid"] in run("show", ids[0], "--config", config)
    said = run("retry", *ids, "--config", config)
    assert said.count(f"published again to {topic.name}[0]") == 3
    eventually(lambda: topic.committed(quick_group(topic)["group"]) == last + 4)
    assert sink.frames() == frames_of(late)
    assert len(run("list", "--config", config, "--json").splitlines()) == 3
    assert "is in a topic, and stays there" in run("remove", ids[0], "--config", config, "--yes")
    assert "no dead letter has the id" in run("retry", "0" * 12, "--config", config, status=1)


def test_what_is_not_there_or_no_message_is_said_so(folder, tmp_path):
    pixels = letter(topic="", content=Content.PIXELS, kind=Kind.KILLER)
    folder.put(pixels)
    config = tmp_path / "daemon.toml"
    config.write_text(
        "[kafka]\nbootstrap_servers = ['localhost:1']\ntopics = ['t']\n[sinks]\njsonl = 'rows.jsonl'\n"
        f"[files]\nallowed_roots = []\n[dead_letters]\nfolder = '{folder.path}'\n"
    )
    assert "dvfb annotate" in run("retry", pixels.id, "--config", config, status=1)
    assert "no dead letter has the id" in run("retry", "0" * 12, "--config", config, status=1)


def _packed(document):
    import msgpack_numpy

    return msgpack_numpy.packb(document)
