"""Several daemons as one service: what becomes of one that ends, and of all when they are told to stop."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dvfb_stream.daemon import members as members_module
from dvfb_stream.daemon.members import VARIABLE, Members, Membership
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.errors import SettingsError

PATIENCE = 30.0
KAFKA = {"bootstrap_servers": ["localhost:9092"], "topics": ["documents"]}


def settings(**more):
    return DaemonSettings.model_validate(
        {"kafka": KAFKA, "sinks": {"tiled": {"uri": "http://localhost:8000"}}} | more
    )


def eventually(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Function that runs members which do what a script says; returns them and what `run` is to return."""
    running = []

    def begin(script, processes=2, has_begun=lambda member: True):
        monkeypatch.setattr(members_module, "_COMMAND", textwrap.dedent(script))
        monkeypatch.chdir(tmp_path)
        members = Members(
            tmp_path / "daemon.toml", settings(workers={"processes": processes}), has_begun=has_begun
        )  # fmt: skip
        found = []
        thread = threading.Thread(target=lambda: found.append(members.run()))
        thread.start()
        running.append((members, thread))
        return members, thread, found

    yield begin
    for members, thread in running:
        members.stop()
        for member in members.members:
            if member.process is not None:
                member.process.kill()
        thread.join(PATIENCE)
        assert not thread.is_alive()


WAITS = """
    import os, signal, sys, time
    number = os.environ["DVFB_DAEMON_MEMBER"].split()[0]
    signal.signal(signal.SIGTERM, lambda *_: (open("stopped " + number, "w").close(), sys.exit(0)))
    open("started " + number, "a").write(str(os.getpid()) + "\\n")
    while True:
        time.sleep(0.01)
"""


def test_all_are_stopped_and_waited_for(start, tmp_path):
    members, thread, found = start(WAITS)
    eventually(lambda: (tmp_path / "started 0").exists() and (tmp_path / "started 1").exists())
    members.stop()
    thread.join(PATIENCE)
    assert found == [0]
    assert (tmp_path / "stopped 0").exists()
    assert (tmp_path / "stopped 1").exists()


def test_one_that_is_killed_is_started_again_and_the_others_go_on(start, tmp_path, monkeypatch):
    monkeypatch.setattr(members_module, "_FIRST_PAUSE", 0.02)
    members, _, _ = start(WAITS)
    first, second = members.members
    eventually(lambda: (tmp_path / "started 0").exists() and first.has_run)
    process = first.process
    process.kill()
    eventually(lambda: first.lives and first.process is not process)
    assert [first.starts, second.starts] == [2, 1]


def test_one_that_is_told_to_stop_while_it_starts_is_no_failure(start, tmp_path):
    """A daemon alone ends with 143, as the shell has it, or by the signal where Python had not begun."""
    script = textwrap.dedent(WAITS).replace("sys.exit(0)", "sys.exit(143)")
    members, thread, found = start(
        "import os, signal\nif os.environ['DVFB_DAEMON_MEMBER'].startswith('1 '):\n"
        "    open('started 1', 'w').close()\n    signal.pause()\n" + script,
        has_begun=lambda member: False,
    )
    eventually(lambda: (tmp_path / "started 0").exists() and (tmp_path / "started 1").exists())
    members.stop()
    thread.join(PATIENCE)
    assert [member.process.returncode for member in members.members] == [143, -signal.SIGTERM]
    assert found == [143]


def test_one_whose_end_fails_is_a_failure(start, tmp_path):
    members, thread, found = start(textwrap.dedent(WAITS).replace("sys.exit(0)", "sys.exit(1)"))
    eventually(lambda: (tmp_path / "started 0").exists() and (tmp_path / "started 1").exists())
    members.stop()
    thread.join(PATIENCE)
    assert found == [1]


def test_one_that_is_started_again_has_a_port_that_is_free(start, monkeypatch):
    """While it was away another program may have taken the one that it had."""
    monkeypatch.setattr(members_module, "_FIRST_PAUSE", 0.5)
    members, _, _ = start(
        """
        import os, signal, socket, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        socket.create_server(("127.0.0.1", int(os.environ["DVFB_DAEMON_MEMBER"].split()[1])))
        signal.pause()
        """,
        processes=1,
    )
    (member,) = members.members
    eventually(lambda: member.has_run)
    port = member.port
    member.process.kill()
    member.process.wait()
    with socket.create_server(("127.0.0.1", port)):
        eventually(lambda: member.starts == 2 and member.has_run)
        assert member.port != port


def test_the_supervising_process_loads_no_torch():
    script = "import sys, dvfb_stream.cli.daemon.workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_pause_before_one_is_started_again_grows_and_is_as_at_first_after_a_long_run(
    monkeypatch, tmp_path
):
    now = [0.0]
    members = Members(tmp_path / "x", settings(), has_begun=lambda member: True, clock=lambda: now[0])
    (member,) = members.members
    monkeypatch.setattr(members_module, "_COMMAND", "raise SystemExit(1)")
    pauses = []
    for lasted in (1.0, 1.0, 1.0, 100.0, 1.0):
        now[0] = max(now[0], member.not_before)
        members._attend(member)
        member.has_run = True
        member.process.wait()
        now[0] += lasted
        members._attend(member)
        pauses.append(member.not_before - now[0])
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_one_that_cannot_begin_again_is_said_so_once_and_tried_again(start, tmp_path, monkeypatch, caplog):
    """As when the configuration was made wrong since the service began."""
    monkeypatch.setattr(members_module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(members_module, "_LONGEST_PAUSE", 0.02)
    members, _, _ = start(
        "import os, sys\nif os.path.exists('wrong'): sys.exit(1)\n" + textwrap.dedent(WAITS),
        processes=1,
        has_begun=lambda member: not (tmp_path / "wrong").exists(),
    )
    (member,) = members.members
    eventually(lambda: member.has_run)
    (tmp_path / "wrong").touch()
    member.process.kill()
    eventually(lambda: member.failed_starts >= 4)
    assert "ended with status 1 before it had begun, " in member.absence
    assert "times in a row" in member.absence
    assert caplog.text.count("worker 0 ended with status 1 before it had begun; if that is by the") == 1
    assert caplog.text.count("worker 0 ended ") == 2  # and by SIGKILL
    (tmp_path / "wrong").unlink()
    eventually(lambda: member.is_at_work and not member.failed_starts)


def test_one_that_cannot_begin_ends_all_with_its_status(start, tmp_path, caplog):
    script = WAITS + "\n" * 2
    _, thread, found = start(
        "import os, sys\nif os.environ['DVFB_DAEMON_MEMBER'].startswith('1 '): sys.exit(3)\n"
        + textwrap.dedent(script),
        has_begun=lambda member: False,
    )
    thread.join(PATIENCE)
    assert found == [3]
    assert "worker 1 ended with status 3 before it had begun" in caplog.text


def test_they_are_told_to_stop_when_the_supervising_process_is_killed(tmp_path):
    """By SIGKILL, which it cannot pass on."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from dvfb_stream.daemon import members
        from tests.daemon.test_members import MEMBER, settings
        members._COMMAND = MEMBER
        members.Members(Path("x"), settings(), has_begun=lambda member: True).run()
        """
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    eventually(lambda: (tmp_path / "pid").exists())
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: (tmp_path / "stopped").exists())


MEMBER = """
import os, signal, sys, time
from dvfb_stream.daemon.members import Membership
signal.signal(signal.SIGTERM, lambda *_: (open("stopped", "w").close(), sys.exit(0)))
Membership.of_this_process().end_with_the_supervisor()
open("pid.new", "w").write(str(os.getpid()))
os.rename("pid.new", "pid")
while True:
    time.sleep(0.01)
"""


def test_a_member_has_a_device_in_turns_and_a_port_of_its_own():
    whole = settings(
        device="cpu",
        workers={"processes": 3, "devices": ["cuda:0", "cuda:1"]},
        http={"port": 9100, "address": "0.0.0.0"},
    )
    mine = [Membership.of_this_process({VARIABLE: f"{n} {5000 + n} 7"}).settings(whole) for n in range(3)]
    assert [each.device for each in mine] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [(each.http.address, each.http_port) for each in mine] == [
        ("127.0.0.1", 5000 + n) for n in range(3)
    ]
    assert {each.workers.processes for each in mine} == {1}
    alone = Membership.of_this_process({VARIABLE: "0 5000 7"}).settings(settings(device="cpu"))
    assert alone.device == "cpu"
    assert Membership.of_this_process({}) is None


def test_cores_are_divided_unless_the_environment_says_how_many(tmp_path, monkeypatch):
    seen = []

    class Started:
        def __init__(self, command, *, env, **_):
            seen.append(env)

    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    for given in (None, "3"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        members = Members(tmp_path / "x", settings(workers={"processes": 3}), has_begun=lambda member: True)
        members._start(members.members[0])
    assert [each["OMP_NUM_THREADS"] for each in seen] == ["2", "3"]
    assert not any("NOTIFY_SOCKET" in each for each in seen)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": {"processes": 0}}, "workers.processes"),
        ({"workers": {"processes": 2, "devices": ["cuda:0", "cuda:1", "cpu"]}}, "3 devices for 2 processes"),
        ({"workers": {"processes": 2}, "sinks": {"jsonl": "rows.jsonl"}}, "sinks.jsonl"),
        (
            {
                "workers": {"processes": 2},
                "kafka": None,
                "source": {"tiled": {"uri": "http://localhost:8000"}},
            },
            "nobody divides",
        ),
    ],
)
def test_what_cannot_be_done_by_several_is_refused(wrong, said):
    with pytest.raises((ValueError, SettingsError), match=said):
        settings(**wrong)
