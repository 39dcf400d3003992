"""A command that is ended leaves nothing behind, whatever ends it and whatever it is doing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dvfb_stream.cli.process import SECONDS_TO_END, run_to_the_end

COMMAND = (sys.executable, "-c", "from dvfb_stream.cli import main; main()")
SECONDS = 5.0
"""Within which all must be gone."""
BEGUN_WITHIN = 200.0
"""For the work to begin, torch imported in three processes, on a machine that does much else."""


def children_of(pid: int) -> set[int]:
    """Processes that a process has started and that run, with theirs."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            child = int(status.parent.name)
            found |= {child} | children_of(child)
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(met: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; whether it came to be."""
    ends = time.monotonic() + seconds
    pause = threading.Event()
    while not met():
        if time.monotonic() > ends:
            return False
        pause.wait(0.02)  # those that are waited for want the processor
    return True


@pytest.fixture
def started(
    hears_interrupts: Callable[[], object], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: object, **environment: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(
                [*COMMAND, *map(str, words)],
                stderr=errors,
                stdout=subprocess.DEVNULL,
                preexec_fn=hears_interrupts,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        left = children_of(process.pid)
        process.kill()
        for child in left:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_simulating_processes_end_with_the_command(
    started, tiny_bundle: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    words = (
        ("default", "--work", tmp_path) if command == "train" else ("--model", tiny_bundle, "--frames", 2000)
    )
    process = started(command, *words, "--processes", 2, "--device", "cpu")
    assert until(lambda: process.poll() is not None or len(children_of(process.pid)) >= 2, BEGUN_WITHIN)
    children = children_of(process.pid)
    assert len(children) >= 2
    process.send_signal(number)
    # One clock for both, from the signal on.
    assert until(lambda: process.poll() is not None and not any(map(is_there, children)), SECONDS)
    errors = (tmp_path / "errors").read_text()
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert errors.splitlines()[-1] == "dvfb: error: interrupted"
        assert "Traceback" not in errors


def test_a_simulation_is_ended_by_sigterm(started, tmp_path: Path) -> None:
    process = started("simulate", "--count", 100_000, "--out", tmp_path / "frames.h5", "--device", "cpu")
    assert until(
        lambda: process.poll() is not None or any(tmp_path.glob("frames.h5.parts/*.h5")), BEGUN_WITHIN
    )
    process.terminate()
    process.wait(timeout=SECONDS)
    errors = (tmp_path / "errors").read_text()
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "dvfb: error: interrupted"


def test_an_interrupt_among_the_imports_is_one_line(started, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, time\nos.open(os.environ['BEGUN'], os.O_CREAT)\nwhile True: time.sleep(0.01)\n"
    )
    begun = tmp_path / "begun"
    (tmp_path / "a.tif").write_bytes(b"II*")
    words = ("annotate", tmp_path / "a.tif", "--center-x", 1, "--center-y", 1, "--model", tiny_bundle)
    process = started(*words, PYTHONPATH=str(tmp_path), BEGUN=str(begun))
    assert until(begun.exists, BEGUN_WITHIN)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=SECONDS)
    errors = (tmp_path / "errors").read_text()
    assert (process.returncode, errors) == (130, "dvfb: error: interrupted\n")


DEAF = """
import signal, sys, threading
from dvfb_stream.cli.process import run_to_the_end

def command():
    deaf = threading.Event()
    threading.Thread(
        target=lambda: deaf.wait() and signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    ).start()
    while True:
        try:
            deaf.set()
            while True:
                signal.pause()
        except KeyboardInterrupt:
            pass

raise SystemExit(run_to_the_end(command))
"""


def test_a_command_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "dvfb: error: interrupted\n")
    assert time.monotonic() - began >= SECONDS_TO_END
    assert SECONDS_TO_END < SECONDS


def test_a_command_looks_for_garbage_seldom_and_afterwards_it_is_as_before() -> None:
    before, meanwhile = gc.get_threshold(), []
    run_to_the_end(lambda: meanwhile.append(gc.get_threshold()) or 0)
    # At a hundred bytes each, garbage among them is 5 MB at most.
    assert [threshold[0] for threshold in meanwhile] == [50_000]
    assert gc.get_threshold() == before


def test_afterwards_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run_to_the_end(lambda: 7) == 7
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
