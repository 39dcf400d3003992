"""Builds an index of made-up features, run by run; as a script, in a process that can be killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dvfb_stream.catalog.similar_frames.feature_index import FeatureIndex, RunFeatures
from dvfb_stream.catalog.similar_frames.index_files import Part

RUNS, FRAMES, WIDTH = 60, 50, 48


def features_of(run: int, version: int = 0) -> np.ndarray:
    return np.random.default_rng((run, version)).normal(size=(FRAMES, WIDTH)).astype(np.float32)


def run_features(run: int, version: int = 0, state: str | None = "done") -> RunFeatures:
    part = Part(f"analysis-{run}", f"raw-{run}", "primary", "image", 0, 0, state)
    return RunFeatures(part, np.arange(FRAMES) * 2, features_of(run, version))


def build(index: FeatureIndex) -> None:
    """Add what is not there; say so after each run."""
    for run in range(RUNS):
        with index.writing():
            if f"analysis-{run}" not in {part.analysis_uid for part in index.parts()}:
                index.put([run_features(run)])
        sys.stdout.write(f"{run}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    build(FeatureIndex(Path(sys.argv[1]), WIDTH))
