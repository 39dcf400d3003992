"""Benchmarks run; what they measure is not looked at."""

import json
from pathlib import Path

import pytest

from tests import forked_processes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(tmp_path):
    """Function that runs a benchmark with these words; returns what it prints."""

    def run(name, *words):
        stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
        process = forked_processes.module(
            f"benchmarks.{name}", *words, cwd=ROOT, stdout=stdout, stderr=stderr
        )
        assert process.wait(300) == 0, stderr.read_text()
        return stdout.read_text()

    return run


@pytest.mark.parametrize(
    "command",
    [
        ["simulate", "--frames", "8", "--rounds", "1"],
        ["estimate", "stages", "--help"],
        ["encoders", "--help"],
        ["adaptation", "--help"],
        ["view_speed", "--help"],
        ["count_scale", "--help"],
        ["tilt", "--help"],
        ["label_shares", "--help"],
        ["worker", "--help"],
        ["store", "--help"],
        ["similar", "--help"],
    ],
)
def test_a_benchmark_starts(command, benchmark):
    said = benchmark(*command)
    if "--help" not in command:
        assert json.loads(said)["views"]["frames"] == 8


def test_the_time_of_an_annotation_is_measured_by_stage(benchmark):
    measured = json.loads(benchmark("annotate_frames", "--frames", "1", "--rounds", "1"))["batches"]["1"]
    assert measured["frames_per_second"] > 0
    assert {"view", "coefficients", "annotate"} < set(measured["seconds_per_frame"])


def test_two_readers_take_turns_and_read_the_same(benchmark):
    readers = json.loads(benchmark("reading", "--before", ROOT, "--rounds", "1", "--frames", "2"))["readers"]
    assert len(readers) == 7
    for measured in readers.values():
        assert all(found["same_pixels"] and found["times_before"] > 0 for found in measured.values())


def test_the_views_that_estimates_are_measured_on_can_be_made():
    assert forked_processes.ForkedProcess(views, cwd=ROOT).wait(300) == 0


def views():
    from benchmarks.estimate.inputs import CENTERS, simulate

    for name in CENTERS:
        simulate(name, 1)


def test_pages_and_card_say_what_the_files_of_results_say(benchmark):
    """`docs/results.md`, the default model's card, and the marked parts of README, `models.md` and `training.md`."""
    benchmark("results_page", "--check")
