"""One small set of simulated examples for all tests of training."""

from __future__ import annotations

import pytest

from dvfb_stream.training.dataset import SimulatedDataset, build


@pytest.fixture(scope="session")
def examples(frames_folder):
    """The 200 training frames."""
    return build(frames_folder / "train", SimulatedDataset(seed=1, count=200))
