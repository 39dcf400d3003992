"""The estimate on a GPU, against the same on the CPU."""

import numpy as np
import pytest
import torch

from dvfb_stream.errors import FrameError
from dvfb_stream.fbt import FourierBessel, PenaltyReading, Solver

pytestmark = pytest.mark.gpu


def estimators(**changes):
    """The same geometry on both devices: gaps, beam between pixels and off the middle."""
    mask = np.random.default_rng(0).random((96, 100)) > 0.05
    mask[40:46] = False
    how = {"center_x": 30.3, "center_y": 60.8, "radius": 100.0, "mask": mask, "n_radial": 16, **changes}
    return [FourierBessel((96, 100), **how, device=device) for device in ("cpu", "cuda")]


def images(count, kind):
    """Noise on a ring, 0..255."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:96, :100]
    ring = 150 * np.exp(-(((np.hypot(x - 30.3, y - 60.8) - 25) / 6) ** 2))
    return (ring + rng.normal(size=(count, 96, 100)) + 20).astype(kind)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("reading", PenaltyReading)
@pytest.mark.parametrize("solver", Solver)
def test_coefficients_are_those_of_the_cpu(kind, reading, solver):
    here, there = (
        estimator.solve(images(5, kind), reading=reading, solver=solver, tolerance=1e-9)
        for estimator in estimators()
    )
    assert there.coefficients.is_cuda
    assert (there.gap <= 1e-9 * there.objective).all()
    torch.testing.assert_close(there.objective.cpu(), here.objective, rtol=1e-5, atol=0)
    scale = float(here.coefficients.abs().max())
    torch.testing.assert_close(there.coefficients.cpu(), here.coefficients, atol=2e-3 * scale, rtol=0)


@pytest.mark.parametrize("downsample", [1, 2, 3])
def test_images_on_the_device_and_in_pinned_memory_are_taken(downsample):
    here, there = estimators(downsample=downsample)
    batch = torch.from_numpy(images(3, np.float32))
    expected = here.estimate(batch)
    for given in (batch, batch.pin_memory(), batch.cuda()):
        found = there.estimate(given)
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected, atol=1e-3 * float(expected.abs().max()), rtol=0)
    torch.testing.assert_close(
        there.reconstruct(expected).cpu(), here.reconstruct(expected), atol=1e-2, rtol=0
    )


def test_lost_pixels_and_what_is_not_finite():
    here, there = estimators()
    lost = np.zeros((96, 100), dtype=bool)
    lost[10:14, 20:24] = True
    batch = images(2, np.float32)
    batch[:, lost] = np.nan
    expected = here.without(lost).estimate(batch)
    found = there.without(lost).estimate(batch).cpu()
    torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)
    with pytest.raises(FrameError, match="not finite, the first at row 10"):
        there.estimate(batch)


def test_without_a_penalty_too():
    here, there = estimators()
    batch = images(2, np.float64)
    for how in ({"penalty": 0.0}, {"penalty": 1e-3, "l1_ratio": 0.0}):
        expected, found = (
            estimator.reconstruct(estimator.estimate(batch, **how)).cpu() for estimator in (here, there)
        )
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
