"""The command as a whole: help, version, errors and exit statuses."""

from __future__ import annotations

import time
from importlib.metadata import version

import pytest


def test_version(dvfb) -> None:
    outcome = dvfb("--version")
    assert (outcome.status, outcome.stdout) == (0, f"dvfb_stream {version('dvfb-stream')}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(dvfb, arguments) -> None:
    outcome = dvfb(*arguments)
    assert outcome.status == 0
    for command in ("annotate", "models", "search"):
        assert command in outcome.stdout


@pytest.mark.parametrize("command", ["annotate", "models", "search"])
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


def test_help_comes_at_once(dvfb_process) -> None:
    assert dvfb_process("--help").status == 0
    started = time.monotonic()
    outcome = dvfb_process("annotate", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert outcome.status == 0
    # Generous for a busy machine; the imports that would make it slow are named.
    assert time.monotonic() - started < 5
    for package in ("torch", "scipy", "matplotlib", "fabio", "pyFAI", "h5py", "tiled", "bluesky"):
        assert f" {package}\n" not in outcome.stderr
