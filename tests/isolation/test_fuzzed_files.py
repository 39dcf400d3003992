"""HDF5 files with bits flipped, as many as DVFB_FUZZ says: frames have pixels or a reason, and reading goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FILES = int(os.environ.get("DVFB_FUZZ", "40"))


def test_no_damaged_file_stops_the_reader_and_each_of_its_frames_has_an_end():
    command = [sys.executable, "-m", "benchmarks.fuzzed_files", "--files", str(FILES), "--seed", "0"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60 + FILES
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["good_files_read_rightly"] == FILES
    assert sum(found["outcomes"].values()) == found["frames"] == 4 * FILES
    assert found["outcomes"]["signal SIGSEGV"] > 0  # else nothing is shown here
    assert found["slowest_read_s"] < 60.0
