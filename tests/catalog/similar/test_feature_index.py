"""An index of features holds what was put into it, whatever happens to its processes and files."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvfb_stream.catalog.similar_frames import feature_index, index_files
from dvfb_stream.catalog.similar_frames.feature_index import FeatureIndex, RunFeatures

from .building import FRAMES, RUNS, WIDTH, build, features_of, run_features

BUILDING = [sys.executable, "-m", "tests.catalog.similar.building"]
ROOT = Path(__file__).parents[3]


def cosines(
    query: np.ndarray, runs: list[int], versions: dict[int, int] | None = None
) -> dict[tuple[str, int], float]:
    """Return the cosine of each frame by the uid of its analysis run, and index: computed in double precision."""
    unit = query.astype(np.float64) / np.linalg.norm(query)
    found = {}
    for run in runs:
        features = features_of(run, (versions or {}).get(run, 0)).astype(np.float64)
        values = features @ unit / np.linalg.norm(features, axis=1)
        found |= {(f"analysis-{run}", 2 * k): float(value) for k, value in enumerate(values)}
    return found


def check(index: FeatureIndex, runs: list[int], versions: dict[int, int] | None = None) -> None:
    """See that searches find what a comparison with all features of these runs finds."""
    assert len(index) == FRAMES * len(runs)
    for query in (features_of(3)[7], features_of(RUNS + 1)[0], -features_of(0)[0]):
        exact = cosines(query, runs, versions)
        found = index.nearest(query, 12)
        values = [exact[one.part.analysis_uid, one.frame] for one in found]
        assert [one.cosine for one in found] == pytest.approx(values, abs=2e-3)
        assert values == pytest.approx(sorted(exact.values(), reverse=True)[:12], abs=2e-3)


@pytest.fixture
def index(tmp_path) -> FeatureIndex:
    return FeatureIndex(tmp_path / "index", WIDTH)


def put(index: FeatureIndex, *runs: RunFeatures, in_place_of: tuple[str, ...] = ()) -> None:
    with index.writing():
        index.put(runs, in_place_of=in_place_of)


def test_what_was_put_is_found_and_files_are_written_anew_as_it_grows(index, tmp_path):
    assert len(index) == 0
    assert index.nearest(features_of(0)[0], 3) == []
    generations = set()
    for run in range(20):
        put(index, run_features(run))
        generations |= {path.stem for path in (tmp_path / "index").glob("*.points")}
        check(index, list(range(run + 1)))
    assert len(generations) == 2, "axes fit 50 points, then 400, and would fit 3,200"
    check(FeatureIndex(tmp_path / "index", WIDTH), list(range(20)))


def test_features_of_any_length_are_compared_by_their_direction(index):
    put(index, run_features(0))
    query = features_of(0)[4]
    for factor in (1e-3, 1.0, 1e6):
        (first,) = index.nearest(query * factor, 1)
        assert (first.frame, first.cosine) == (8, pytest.approx(1.0, abs=1e-6))
    assert len(index.nearest(np.zeros(WIDTH), 5)) == 5


def test_frames_and_runs_can_be_left_out(index):
    put(index, run_features(0), run_features(1))
    query = features_of(0)[4]
    found = index.nearest(query, 2 * FRAMES, without_frame=("analysis-0", 8))
    assert len(found) == 2 * FRAMES - 1
    assert ("analysis-0", 8) not in {(one.part.analysis_uid, one.frame) for one in found}
    others = index.nearest(query, 2 * FRAMES, without=lambda part: part.raw_uid == "raw-0")
    assert {one.part.raw_uid for one in others} == {"raw-1"}
    assert len(others) == FRAMES


def test_features_that_are_replaced_are_not_found_and_take_no_space_for_ever(index, tmp_path):
    put(index, *(run_features(run) for run in range(4)))
    for version in range(1, 8):
        put(index, run_features(1, version), in_place_of=("analysis-1", "analysis-3"))
        check(index, [0, 1, 2], {1: version})
        (points,) = (tmp_path / "index").glob("*.points")
        assert points.stat().st_size <= 2 * 2 * FRAMES * 4 * WIDTH
    put(index, in_place_of=("analysis-0", "analysis-1", "analysis-2"))
    assert len(index) == 0
    assert index.nearest(features_of(0)[0], 3) == []
    put(index, run_features(5))
    check(index, [5])


def test_a_run_without_features_is_remembered(index):
    nothing = run_features(0)
    put(index, RunFeatures(nothing.part, nothing.frames[:0], nothing.features[:0]))
    put(index, run_features(1))
    put(index, RunFeatures(run_features(2).part, nothing.frames[:0], nothing.features[:0]))
    assert [part.analysis_uid for part in index.parts()] == ["analysis-0", "analysis-1", "analysis-2"]
    check(index, [1])


def test_killed_ten_times_while_it_is_built_it_is_what_it_is_otherwise(index, tmp_path):
    rng = np.random.default_rng()
    known: list[str] = []
    for _ in range(10):
        with subprocess.Popen(
            [*BUILDING, str(tmp_path / "index")], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(len(known) + int(rng.integers(1, 5))):
                process.stdout.readline()
            process.kill()
        before, known = known, [part.analysis_uid for part in index.parts()]
        assert known[: len(before)] == before, "what was kept stays"
        assert known == [f"analysis-{run}" for run in range(len(known))]
        check(index, list(range(len(known))))
    assert len(known) >= 10
    build(index)
    check(index, list(range(RUNS)))
    assert len(list((tmp_path / "index").glob("*.points"))) == 1


def test_processes_that_build_at_once_add_each_run_once_while_others_search(index, tmp_path):
    build_at_once = [subprocess.Popen([*BUILDING, str(tmp_path / "index")], cwd=ROOT, stdout=subprocess.DEVNULL)
                     for _ in range(2)]  # fmt: skip
    while any(process.poll() is None for process in build_at_once):
        found = index.nearest(features_of(0)[0], 3)
        assert not found or found[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert [process.returncode for process in build_at_once] == [0, 0]
    assert len(index.parts()) == RUNS
    check(index, list(range(RUNS)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["axes", "points", "outlines", "frames", "json"])
@pytest.mark.parametrize("damage", [flip, halve, empty, Path.unlink])
def test_a_damaged_index_is_noticed_and_empty(index, tmp_path, caplog, name, damage):
    put(index, run_features(0), run_features(1))
    (path,) = (tmp_path / "index").glob(f"*.{name}")
    damage(path)
    for again in (index, FeatureIndex(tmp_path / "index", WIDTH)):
        with caplog.at_level(logging.WARNING):
            assert again.parts() == ()
        assert again.nearest(features_of(0)[0], 3) == []
    if not (name == "json" and damage is Path.unlink):
        assert "is damaged" in caplog.text
    put(index, run_features(0), run_features(2))
    check(index, [0, 2])
    assert len(list((tmp_path / "index").glob("*.points"))) == 1


def test_an_index_of_another_version_or_width_is_made_anew(index, tmp_path, monkeypatch):
    put(index, run_features(0))
    assert FeatureIndex(tmp_path / "index", WIDTH + 1).parts() == ()
    put(index, run_features(0))
    monkeypatch.setattr(index_files, "_VERSION", 99)
    assert FeatureIndex(tmp_path / "index", WIDTH).parts() == ()


def test_files_that_were_only_copied_are_compared_and_kept(index, tmp_path, caplog):
    put(index, run_features(0), run_features(1))
    for path in (tmp_path / "index").iterdir():
        path.write_bytes(path.read_bytes())
    check(FeatureIndex(tmp_path / "index", WIDTH), [0, 1])
    assert not caplog.records


@pytest.mark.parametrize("step", range(9))
def test_a_full_disk_leaves_what_was_there(index, tmp_path, monkeypatch, step):
    put(index, run_features(0))
    steps = iter(range(100))

    def full(call):
        def tried(*given, **named):
            if next(steps) == step:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*given, **named)

        return tried

    with monkeypatch.context() as patch:
        patch.setattr(index_files.os, "fsync", full(index_files.os.fsync))
        patch.setattr(index_files.os, "replace", full(index_files.os.replace))
        patch.setattr(feature_index.IndexFiles, "add", full(feature_index.IndexFiles.add))
        patch.setattr(feature_index.IndexFiles, "begin", full(feature_index.IndexFiles.begin))
        with pytest.raises(OSError, match="No space left"):
            put(index, *(run_features(run) for run in range(1, 4)), in_place_of=("analysis-0",))
    check(FeatureIndex(tmp_path / "index", WIDTH), [0])
    put(index, *(run_features(run) for run in range(1, 4)))
    check(index, [0, 1, 2, 3])
