"""What killed the process twice is not touched a third time: it is a dead letter, and the good runs go on."""

import io
import json
import signal

import numpy as np
import pytest

from dvfb_stream.dead_letters.folder import LetterFolder
from dvfb_stream.dead_letters.letter import Content, Kind
from tests.forked_processes import module
from tests.kafka.conftest import RawRun, eventually, frames_of, quick_group
from tests.kafka.dying_daemon import KILLER


@pytest.fixture
def folder(tmp_path):
    return LetterFolder(tmp_path / "letters", max_bytes=1 << 24)


@pytest.fixture
def launch(topic, tmp_path, folder):
    """Function that starts a daemon's process that dies as it is told to."""
    processes = []
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({
        "kafka": quick_group(topic),
        "sinks": {"jsonl": str(tmp_path / "rows.jsonl")},
        "limits": {"max_wait": 0.02},
        "dead_letters": {"folder": str(folder.path)},
    }))  # fmt: skip

    def start(how):
        log = tmp_path / f"log-{len(processes)}.txt"
        processes.append(module("tests.kafka.dying_daemon", path, how, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def rows(tmp_path, run):
    """(frame, brightness) of a raw run's rows, -1 where there are no probabilities; each as often as it was given."""
    path = tmp_path / "rows.jsonl"
    documents = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    uids = {doc["uid"] for name, doc in documents if name == "start" and doc["analysis"]["parent"] == run.uid}
    descriptors = {doc["uid"] for name, doc in documents if name == "descriptor" and doc["run_start"] in uids}
    data = [doc["data"] for name, doc in documents if name == "event" and doc["descriptor"] in descriptors]
    return [(row["frame"], round(row["rings"] * 1000) if row["status"] == "ok" else -1) for row in data]


def committed(topic):
    return topic.committed(quick_group(topic)["group"])


@pytest.mark.parametrize("how", ["crash", "abort", "raise"])
def test_a_message_that_kills_twice_is_a_dead_letter_on_the_third_start(topic, launch, tmp_path, folder, how):
    good, poison, behind = RawRun([1, 2]), RawRun([3], sample_name="kills"), RawRun([4, 5])
    topic.send(*good.documents)
    offset, *_ = topic.send(*poison.documents)
    *_, last = topic.send(*behind.documents)
    for _ in range(2):
        assert launch(how).wait(60) != 0
    third = launch(how)
    eventually(lambda: committed(topic) == last + 1, timeout=60)
    third.send_signal(signal.SIGTERM)
    assert third.wait(60) == 0
    assert sorted(set(rows(tmp_path, behind))) == frames_of(behind)
    killers = [letter for letter in folder.letters() if letter.kind is Kind.KILLER]
    (letter,) = killers
    assert (letter.topic, letter.offset) == (topic.name, offset)
    assert "2 deaths" in letter.reason
    assert b"kills" in folder.get(letter.id).value
    log = (tmp_path / "log-2.txt").read_text()
    assert f"skipping the message of {topic.name}[0] at offset {offset}" in log
    assert not list((folder.path / "deaths").iterdir())  # committed: it is done with
    assert not list((folder.path / "in-hand").iterdir())


def test_of_a_batch_the_one_frame_that_kills_costs_its_own_row(topic, launch, tmp_path, folder):
    poison = RawRun([1, 2, KILLER, 4, 5])
    *_, last = topic.send(*poison.documents)
    for _ in range(2):
        assert launch("crash").wait(60) == -signal.SIGSEGV
    launch("crash")
    eventually(lambda: committed(topic) == last + 1, timeout=60)
    assert sorted(set(rows(tmp_path, poison))) == [(0, 1), (1, 2), (2, -1), (3, 4), (4, 5)]
    (letter,) = folder.letters()
    assert (letter.kind, letter.run, letter.content) == (Kind.KILLER, poison.uid, Content.PIXELS)
    assert letter.about == "frame 2 of 'image' in stream 'primary'"
    pixels = np.load(io.BytesIO(folder.get(letter.id).value), allow_pickle=False)
    assert (pixels == KILLER).all()


def test_of_three_daemons_two_die_and_the_third_goes_on(topic, launch, tmp_path, folder):
    poison, behind = RawRun([3], sample_name="kills"), RawRun([4, 5])
    topic.send(*poison.documents)
    daemons = [launch("crash") for _ in range(3)]
    *_, last = topic.send(*behind.documents)
    eventually(lambda: committed(topic) == last + 1, timeout=90)
    assert sorted(process.poll() is None for process in daemons) == [False, False, True]
    assert sorted(set(rows(tmp_path, behind))) == frames_of(behind)


def test_whoever_kills_a_daemon_makes_no_good_run_suspicious(topic, launch, tmp_path, folder):
    run = RawRun([1, KILLER, 3])
    *_, last = topic.send(*run.documents)
    for _ in range(3):
        assert launch("kill").wait(60) == -signal.SIGKILL
    launch("nothing")
    eventually(lambda: committed(topic) == last + 1, timeout=60)
    assert sorted(set(rows(tmp_path, run))) == frames_of(run)
    assert not list(folder.letters())
    eventually(lambda: not list((folder.path / "deaths").iterdir()))
