"""One small set of simulated examples for all tests of training."""

from __future__ import annotations

import pytest
import torch

from dvfb_stream.training.dataset import SimulatedDataset, build

FRAMES = 200


@pytest.fixture(scope="session")
def frames_folder(tmp_path_factory):
    """Folder of 200 training, validation and test frames each, as `train` keeps them in ``work/frames``."""
    folder = tmp_path_factory.mktemp("frames")
    for which, seed in (("train", 1), ("validation", 2), ("test", 3)):
        build(folder / which, SimulatedDataset(seed=seed, count=FRAMES), processes=2)
    return folder


@pytest.fixture(scope="session")
def examples(frames_folder):
    """The 200 training frames."""
    return build(frames_folder / "train", SimulatedDataset(seed=1, count=FRAMES))


@pytest.fixture
def one_thread():
    """Floating-point sums in one order, whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
