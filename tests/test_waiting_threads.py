"""Whatever computes has threads sleep where they wait: said before torch and numpy are loaded, which read it then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.waiting_threads import sleep_while_waiting

LOADED = """
import os
from pathlib import Path
Path("said").write_text(os.environ.get("{variable}", "none"))
os._exit(0)
"""
"""Stands where a library is found first."""
DVFB = ("-c", "from dvfb_stream.cli import main; main()")
DAEMON = """
model = "default"
[kafka]
bootstrap_servers = ["localhost:1"]
topics = ["raw"]
group = "dvfb"
bootstrap_timeout = 1
[sinks]
jsonl = "annotations.jsonl"
[detectors.image]
shape = [96, 80]
center_x = 39.5
center_y = 47.5
"""
CENTRE = ("--center-x", "1", "--center-y", "1")


@pytest.fixture
def environment() -> dict[str, str]:
    """Of somebody who has set nothing about threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}


@pytest.mark.parametrize(
    ("library", "variable", "value"),
    [("torch", "OMP_WAIT_POLICY", "PASSIVE"), ("numpy", "OPENBLAS_THREAD_TIMEOUT", "4")],
    ids=["torch", "numpy"],
)
@pytest.mark.parametrize(
    "words",
    [
        (*DVFB, "annotate", "a.tif", *CENTRE),
        (*DVFB, "train", "default", "--work", "work", "--device", "cpu"),
        (*DVFB, "evaluate", "--frames", "100"),
        (*DVFB, "simulate", "--out", "frames.h5"),
        (*DVFB, "demo"),
        (*DVFB, "daemon", "--check", "--config", "daemon.toml"),  # without it, Kafka is waited for first
        ("-m", "dvfb_stream.training", "default", "--work", "work"),
        ("-m", "dvfb_stream.reproduction", "default", "--work", "work"),
        ("-m", "dvfb_stream.reproduction.encoder_training", "--weights", "w.safetensors", "--work", "work"),
    ],
    ids=" ".join,
)
def test_it_is_said_before_a_library_is_loaded(
    tmp_path: Path, environment: dict[str, str], words, library, variable, value
) -> None:
    (tmp_path / f"{library}.py").write_text(LOADED.format(variable=variable))
    (tmp_path / "daemon.toml").write_text(DAEMON)
    (tmp_path / "a.tif").write_bytes(b"II*")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (tmp_path / "said").is_file(), done.stderr
    assert (tmp_path / "said").read_text() == value


def test_a_process_that_serves_this_one_has_it_in_its_environment(monkeypatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    reader = FilesProcess()
    try:
        reader.start()
        variables = Path(f"/proc/{reader.pid}/environ").read_bytes().split(b"\0")
    finally:
        reader.close()
    assert b"OMP_WAIT_POLICY=PASSIVE" in variables


def test_what_a_user_has_set_stays() -> None:
    said = {"OMP_WAIT_POLICY": "ACTIVE", "OPENBLAS_THREAD_TIMEOUT": "26"}
    environment = dict(said)
    sleep_while_waiting(environment)
    assert environment == said
