"""One small set of simulated examples for all tests of training."""

from __future__ import annotations

import pytest
import torch

from dvfb_stream.training.dataset import SimulatedDataset, build


@pytest.fixture(scope="session")
def examples(frames_folder):
    """The 200 training frames."""
    return build(frames_folder / "train", SimulatedDataset(seed=1, count=200))


@pytest.fixture
def one_thread():
    """Floating-point sums in one order, whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
