"""Whether another writer lives is never guessed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dvfb_stream.catalog import writers


def identity_of(pid: int) -> dict[str, object]:
    return writers.identity(None) | {"pid": pid, "started": writers._started(pid)}


def test_a_process_that_lives_is_not_dead_and_one_that_ended_is():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        writer = identity_of(process.pid)
        assert not writers.is_dead(writer)
        process.kill()
        process.wait()
        assert writers.is_dead(writer)


def test_a_zombie_is_dead():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        writer = identity_of(process.pid)
        process.kill()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        assert writers.is_dead(writer)


def test_a_process_that_proc_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch):
    """With hidepid, /proc has no entry for the processes of other users, which live nevertheless."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        writer = identity_of(process.pid)
        monkeypatch.setattr(writers, "_started", lambda pid: None)
        assert not writers.is_dead(writer)
        process.kill()
        process.wait()
        assert writers.is_dead(writer)


@pytest.mark.parametrize("pid", [0, -1, 1 << 40, "1", None])
def test_of_what_is_no_process_id_nothing_is_certain(pid):
    assert not writers.is_dead(writers.identity(None) | {"pid": pid, "started": 1})
