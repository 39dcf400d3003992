"""What a process had in hand outlives it, and is held against the guilty alone."""

import os
import subprocess
import sys

import pytest

from dvfb_stream.dead_letters.deaths import Cause, Deaths, frame_item, message_item
from dvfb_stream.dead_letters.in_hand import InHand

MESSAGE, OTHER = message_item("topic", 0, 7), message_item("topic", 1, 8)
FRAME = frame_item("raw", "primary", "image", 3)

DIES = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from dvfb_stream.dead_letters import in_hand as notes
from dvfb_stream.dead_letters.deaths import frame_item, message_item
how = sys.argv[2]
if how == "memory":
    notes.share_of_memory_left = lambda: 0.01
held = notes.InHand(Path(sys.argv[1]))
held.record_faults()
held.start()
held.beat()
inside = threading.Event()
def beside():
    with held.holding([frame_item("raw", "primary", "image", 3)]):
        inside.set()
        threading.Event().wait()
threading.Thread(target=beside, daemon=True).start()
inside.wait()
with held.holding([message_item("topic", 0, 7)]):
    if how == "stuck":
        held.end_as_stuck("the loop has not turned")
        os._exit(1)
    if how == "crash":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("how", "guilty"),
    [("crash", {MESSAGE}), ("memory", {MESSAGE, FRAME}), ("stuck", {MESSAGE}), ("kill", set())],
)
def test_a_death_counts_against_what_its_cause_points_at(tmp_path, how, guilty):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", DIES, str(tmp_path), how], check=False, timeout=60)
    notes = InHand(tmp_path)
    notes.start()
    assert {item for item in notes.suspects if notes.suspicion(item).convicts} == guilty
    for item in guilty:
        assert notes.suspicion(item).explained == 2
    notes.close()
    assert list((tmp_path / "in-hand").iterdir()) == []


def test_a_process_that_lives_or_ended_by_itself_is_held_against_nobody(tmp_path):
    living, ended, looking = (InHand(tmp_path) for _ in range(3))
    for notes in (living, ended, looking):
        notes.start()
    with living.holding([MESSAGE]), ended.holding([OTHER]):
        ended.close()
        looking.look()
        assert looking.suspects == []
    for notes in (living, looking):
        notes.close()


def test_an_exception_that_ends_the_process_counts_and_others_do_not(tmp_path):
    notes = InHand(tmp_path)
    notes.start()
    with pytest.raises(KeyError), notes.holding([MESSAGE], blamed=True):
        raise KeyError("x")
    with pytest.raises(KeyError), notes.holding([OTHER]):
        raise KeyError("x")
    notes.look()
    assert notes.suspects == [MESSAGE]
    assert "KeyError" in str(notes.suspicion(MESSAGE))
    with notes.holding([MESSAGE]):
        pass
    assert notes.suspects == [MESSAGE]  # an explained death is not forgotten for one good passage
    notes.clear(MESSAGE)
    notes.look()
    assert notes.suspects == []
    notes.close()


def test_unexplained_deaths_count_in_a_row_alone_and_convict_at_the_tenth(tmp_path):
    deaths, notes = Deaths(tmp_path / "deaths"), InHand(tmp_path)
    notes.start()
    for number in range(10):
        assert not (notes.suspicion(MESSAGE) and notes.suspicion(MESSAGE).convicts), number
        deaths.note(MESSAGE, Cause.UNEXPLAINED)
        notes.look()
    assert notes.suspicion(MESSAGE).convicts
    with notes.holding([MESSAGE]):
        pass
    notes.look()
    assert notes.suspicion(MESSAGE) is None
    notes.close()


def test_a_death_of_long_ago_is_forgotten(tmp_path):
    Deaths(tmp_path, clock=lambda: 1000.0).note(MESSAGE, Cause.CRASH)
    assert Deaths(tmp_path, clock=lambda: 2000.0).read()
    assert Deaths(tmp_path, clock=lambda: 1e7).read() == {}
    assert list(tmp_path.iterdir()) == []


def test_damaged_notes_cost_nothing_but_themselves(tmp_path):
    (tmp_path / "in-hand").mkdir()
    (tmp_path / "in-hand" / "1-a.notes").write_bytes(os.urandom(70_000))
    (tmp_path / "in-hand" / "2-b.notes").write_bytes(b"")
    (tmp_path / "deaths").mkdir()
    (tmp_path / "deaths" / "a-b.json").write_text('{"item": [[]], "cause": "x"}')
    notes = InHand(tmp_path)
    notes.start()
    assert notes.suspects == []
    notes.close()


def test_without_a_place_for_notes_work_goes_on(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    notes = InHand(tmp_path / "file")
    notes.start()
    with notes.holding([MESSAGE]):
        notes.beat()
    notes.close()
    assert "keeps no notes" in caplog.text


def test_a_batch_larger_than_a_note_is_noted_in_part(tmp_path):
    notes = InHand(tmp_path)
    notes.start()
    with notes.holding([frame_item("r" * 100, "primary", "image", n) for n in range(5_000)]):
        pass
    notes.close()
