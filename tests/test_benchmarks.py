"""Benchmarks run; what they measure is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["benchmarks.simulate", "--frames", "8", "--rounds", "1"],
        ["benchmarks.estimate", "stages", "--help"],
        ["benchmarks.encoders", "--help"],
        ["benchmarks.adaptation", "--help"],
        ["benchmarks.view_speed", "--help"],
        ["benchmarks.count_scale", "--help"],
        ["benchmarks.tilt", "--help"],
        ["benchmarks.label_shares", "--help"],
        ["benchmarks.worker", "--help"],
        ["benchmarks.store", "--help"],
        ["benchmarks.similar", "--help"],
    ],
)
def test_a_benchmark_starts(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "--help" not in command:
        assert json.loads(done.stdout)["views"]["frames"] == 8


def test_the_time_of_an_annotation_is_measured_by_stage():
    command = [sys.executable, "-m", "benchmarks.annotate_frames", "--frames", "1", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)["batches"]["1"]
    assert measured["frames_per_second"] > 0
    assert {"view", "coefficients", "annotate"} < set(measured["seconds_per_frame"])


def test_two_readers_take_turns_and_read_the_same():
    command = [sys.executable, "-m", "benchmarks.reading", "--before", ROOT, "--rounds", "1", "--frames", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    readers = json.loads(done.stdout)["readers"]
    assert len(readers) == 7
    for measured in readers.values():
        assert all(found["same_pixels"] and found["times_before"] > 0 for found in measured.values())


def test_the_views_that_estimates_are_measured_on_can_be_made():
    source = (
        "from benchmarks.estimate.inputs import CENTERS, simulate\nfor name in CENTERS: simulate(name, 1)"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pages_and_card_say_what_the_files_of_results_say():
    """`docs/results.md`, the default model's card, and the marked parts of README, `models.md` and `training.md`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results_page", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
