"""Each frame is annotated and stored once, whoever is killed: short for ``python -m benchmarks.history kills``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.history.kills import Killing, annotated_twice, compared, write_runs
from dvfb_stream.catalog.place import CATALOG_SPECS

RUNS, FRAMES = 9, 3


def test_workers_and_calls_may_be_killed(root: Any, files_folder: Path, tmp_path: Path):
    raw = root.create_container(key="killed", specs=list(CATALOG_SPECS))
    folder = files_folder / "killed"
    folder.mkdir()
    numbers = write_runs(raw, RUNS, FRAMES, folder)
    killing = Killing(raw, tmp_path, RUNS * FRAMES, workers=2, chance=random.Random(1), kills=2)
    killing.annotate_until_done()
    assert (killing.of_workers, killing.of_calls, killing.calls) == (1, 1, 2)
    stored = compared(raw, numbers, FRAMES)
    assert stored["runs_with_wrong_rows"] == []
    assert stored["raw_runs_annotated"] == stored["finished"] == stored["analysis_runs"] == RUNS
    assert stored["rows"] == RUNS * FRAMES
    twice = annotated_twice(tmp_path / "log", killing.killed)
    assert twice["frames_annotated"] == RUNS * FRAMES
    assert twice["of_them_not_in_hand_when_killed"] == []
