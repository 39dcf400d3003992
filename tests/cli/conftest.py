"""Running the command in this process or in one of its own, and files for it to work on."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import unittest.mock
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabio.cbfimage
import fabio.edfimage
import fabio.tifimage
import h5py
import numpy as np
import pytest

from dvfb_stream import Annotator
from dvfb_stream.cli import main

SHAPE = (90, 80)
CENTRE = ("--center-x", "40.5", "--center-y", "44")


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def errors(self) -> list[str]:
        """Lines of stderr without their common beginning; anything else on stderr fails."""
        lines = self.stderr.splitlines()
        assert all(line.startswith("dvfb: error: ") for line in lines), self.stderr
        return [line.removeprefix("dvfb: error: ") for line in lines]


@pytest.fixture(scope="session")
def hears_interrupts() -> Callable[[], object]:
    """What a child process has to call to hear Ctrl-C, where these tests run in a shell's background."""
    return functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def load_once() -> Callable[..., Annotator]:
    """Load each model once for the tests of a file: the plan of a geometry takes half a second to build, and an
    annotator keeps it. Those of all files together fill gigabytes.
    """
    return functools.cache(Annotator.load)


@pytest.fixture
def dvfb(
    capfd: pytest.CaptureFixture[str],
    tiny_bundle: Path,
    load_once: Callable[..., Annotator],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Outcome]:
    """Run the command here, with the tiny model known by its name."""
    monkeypatch.setenv("DVFB_MODELS", str(tiny_bundle.parent))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Annotator, "load", load_once)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        # Commands set variables for what they import; the tests after this one must not see them.
        with pytest.raises(SystemExit) as left, unittest.mock.patch.dict(os.environ):
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def dvfb_process(tiny_bundle: Path) -> Callable[..., Outcome]:
    """Run the command in a process of its own."""

    def run(*arguments: object, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-c", "from dvfb_stream.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "DVFB_MODELS": str(tiny_bundle.parent), "OMP_NUM_THREADS": "1", **environment},
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def imported_by(tmp_path: Path) -> Callable[..., set[str]]:
    """Run the command in a fresh interpreter; return the top-level packages that it has imported."""

    def run(*arguments: object, **environment: str) -> set[str]:
        listed = tmp_path / "modules"
        code = (
            "import pathlib, sys\nfrom dvfb_stream.cli import main\n"
            f"try: main()\nfinally: pathlib.Path({str(listed)!r}).write_text('\\n'.join(sys.modules))"
        )
        subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            timeout=120,
        )
        return {module.partition(".")[0] for module in listed.read_text().split()}

    return run


def pattern(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A ring about the centre of CENTRE, with counting noise and a dead row."""
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - 44, columns - 40.5)
    counts = np.random.default_rng(seed).poisson(5 + 200 * np.exp(-((radius - 20) ** 2) / 8))
    counts[47] = -1
    return counts.astype(np.int32)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Frames in every format, and things that are none."""
    names = {
        name: tmp_path / name
        for name in ("a.tif", "b.cbf", "c.edf", "stack.h5", "other.tif", "notes.txt", "missing.tif")
    }
    fabio.tifimage.TifImage(data=pattern(0)).write(str(names["a.tif"]))
    fabio.cbfimage.CbfImage(data=pattern(1)).write(str(names["b.cbf"]))
    fabio.edfimage.EdfImage(data=pattern(2)).write(str(names["c.edf"]))
    fabio.tifimage.TifImage(data=pattern(3, (50, 60))).write(str(names["other.tif"]))
    stack = np.stack([pattern(seed) for seed in range(5)]).astype(np.float32)
    stack[stack < 0] = 0
    stack[2] = np.nan
    with h5py.File(names["stack.h5"], "w") as file:
        file["data"] = stack
    names["notes.txt"].write_text("The beam was lost at noon.\n")
    return names
