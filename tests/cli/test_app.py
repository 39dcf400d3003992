"""The command as a whole: help, version, errors and exit statuses."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import fabio
import numpy as np
import pytest

from dvfb_stream import __version__


def test_version(dvfb) -> None:
    outcome = dvfb("--version")
    assert (outcome.status, outcome.stdout) == (0, f"dvfb_stream {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(dvfb, arguments) -> None:
    outcome = dvfb(*arguments)
    assert outcome.status == 0
    for command in ("annotate", "models", "plot", "search", "spool"):
        assert command in outcome.stdout


@pytest.mark.parametrize("command", ["annotate", "models", "plot", "search", "spool"])
def test_every_command_explains_itself(dvfb, command: str) -> None:
    outcome = dvfb(command, "--help")
    assert outcome.status == 0
    assert f"Usage: dvfb {command}" in outcome.stdout


def test_help_says_conventions_and_units(dvfb) -> None:
    text = " ".join(dvfb("annotate", "--help").stdout.replace("│", " ").split())
    for said in (
        "never guessed",
        "centre of the first pixel is 0",
        "0 (False) means valid",
        "file.h5::/path",
    ):
        assert said in text


@pytest.mark.parametrize("arguments", [("anotate",), ("--loud",), ("annotate",), ("search", "uri")])
def test_a_wrong_call_is_one_line_and_status_2(dvfb, arguments) -> None:
    outcome = dvfb(*arguments)
    assert outcome.status == 2
    assert len(outcome.errors) == 1
    assert outcome.stdout == ""


def test_an_interrupt_is_said_in_one_line(tmp_path: Path, tiny_bundle: Path, hears_interrupts) -> None:
    """Ctrl-C while frames are annotated: the rows so far stay, the exit status is the shell's for SIGINT."""
    image = tmp_path / "frame.tif"
    fabio.tifimage.tifimage(np.ones((32, 32), dtype=np.int32)).write(str(image))
    command = [sys.executable, "-c", "from dvfb_stream.cli import main; main()", "annotate"]
    command += [str(image)] * 20_000
    command += ["--center-x=1", "--center-y=2", "--csv", "--batch-size=1", f"--model={tiny_bundle}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=hears_interrupts) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the header
        process.stdout.readline()  # a row: the work has begun
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "dvfb: error: interrupted" in errors
