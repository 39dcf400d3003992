"""On a terminal there is a progress bar, and it is gone in the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect

from .conftest import CENTRE


def test_many_frames_show_a_progress_bar_and_end_with_the_tables(files, tiny_bundle: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        [
            "-c", "from dvfb_stream.cli import main; main()",
            "annotate", f"{files['stack.h5']}::/data", str(files["a.tif"]), *CENTRE, "--model", "tiny",
            "--batch-size", "2",
        ],
        env={**os.environ, "DVFB_MODELS": str(tiny_bundle.parent), "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        dimensions=(50, 140),
        encoding="utf-8",
        timeout=100,
    )  # fmt: skip
    child.expect(r"annotating.*/6")
    child.expect("5 frames")
    child.expect("6-fold symmetry")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1  # frame 2 of the stack holds a NaN
