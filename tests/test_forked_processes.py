"""A forked process ends, fails, prints and imports as one that was started by itself, without what that takes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.service_process import ServiceProcess
from tests.forked_processes import ForkedProcess, dvfb


def tell_modules():
    sys.stdout.write(" ".join(sys.modules))


def do(what):
    match what:
        case "exit":
            sys.exit(3)
        case "raise":
            raise RuntimeError("nobody foresaw this")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            signal.pause()


@pytest.mark.parametrize(("what", "status"), [("exit", 3), ("raise", 1), ("kill", -signal.SIGKILL)])
def test_its_status_is_that_of_a_process(what, status, tmp_path):
    assert ForkedProcess(do, what, stderr=tmp_path / "said").wait(60) == status
    assert ("nobody foresaw this" in (tmp_path / "said").read_text()) == (what == "raise")


def test_it_is_waited_for_and_told_to_end():
    process = ForkedProcess(do, "wait")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == process.returncode == -signal.SIGTERM


def test_what_takes_long_is_imported_already(tmp_path):
    ForkedProcess(tell_modules, stdout=tmp_path / "said").wait(60)
    assert {"torch", "tiled.server.app", "dvfb_stream.kafka.daemon"} <= set(
        (tmp_path / "said").read_text().split()
    )


def test_a_service_is_a_process_of_its_own_that_ends_with_its_owner(forked_services):
    memory = FrameMemory()
    settings = {"max_open": 1, "handlers": {}, "file_mask": True, "allowed_roots": None}
    service = ServiceProcess(
        "dvfb_stream.isolation.files_service:FilesService",
        settings,
        memory=memory,
        called="what reads files",
        answer_within=60.0,
        niceness=1,
    )
    service.start()
    pid = service.pid
    assert pid == os.getpgid(pid)  # Ctrl-C does not reach it
    assert "torch" in Path(f"/proc/{pid}/maps").read_text()  # forked from what has imported it
    service.close()
    memory.close()
    assert not Path(f"/proc/{pid}").exists()


def test_the_command_says_what_it_says_in_an_interpreter_of_its_own(tmp_path):
    words = ("annotate", "--model", "no-such-model", "nothing.tif")
    status = dvfb(*words, cwd=tmp_path, stdout=tmp_path / "out", stderr=tmp_path / "said").wait(60)
    code = "from dvfb_stream.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    told = (tmp_path / "out").read_text(), (tmp_path / "said").read_text()
    assert (status, *told) == (done.returncode, done.stdout, done.stderr)
