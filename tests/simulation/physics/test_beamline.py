"""Shapes of beamstops, and a detector's point spread against SciPy's filter."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dvfb_stream.simulation.physics import beamline


def test_beamstops_cover_the_beam_and_leave_the_opposite_side_free():
    y, x = torch.meshgrid(torch.arange(-50.0, 51.0), torch.arange(-50.0, 51.0), indexing="ij")
    for shape in (
        beamline.bar(x, y, direction=0.0, half_width=4.0),
        beamline.disk_on_arm(x, y, direction=0.0, radius=6.0, arm=1.0),
        beamline.wedge(x, y, direction=0.0, half_angle=math.radians(15.0), overlap=6.0),
    ):
        hidden = shape < 0
        assert hidden[50, 50]
        assert hidden[50, 100]  # the holder comes from the right
        assert not hidden[50, :40].any()
        assert not hidden[:20, 50].any()


def test_zingers_only_add():
    counts = torch.ones(64, 64)
    beamline.add_zingers(counts, count=20, brightness=100.0, seed=0)
    assert counts.min() == 1.0
    assert 3 <= int((counts > 1).sum()) <= 20 * 8


def grid():
    return torch.meshgrid(torch.arange(-20.0, 21.0), torch.arange(-20.0, 21.0), indexing="ij")


def test_one_call_draws_several_beamstops_and_streaks():
    y, x = grid()
    directions, sizes = torch.tensor([0.3, 2.0, 4.0]), torch.tensor([2.0, 4.0, 6.0])
    for draw, fixed, name in (
        (beamline.bar, {}, "half_width"),
        (beamline.disk_on_arm, {"arm": 1.0}, "radius"),
        (beamline.wedge, {"half_angle": 0.25}, "overlap"),
        (beamline.slit_streak, {"length": 10.0}, "width"),
    ):
        several = draw(x, y, direction=directions[:, None, None], **fixed, **{name: sizes[:, None, None]})
        assert several.shape == (3, 41, 41)
        for row in range(3):
            alone = draw(x, y, direction=float(directions[row]), **fixed, **{name: float(sizes[row])})
            torch.testing.assert_close(several[row], alone)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.0])
def test_a_point_spread_is_a_gaussian_filter(sigma):
    images = torch.from_numpy(np.random.default_rng(2).gamma(1.0, 50.0, (2, 40, 60)))
    reach = math.ceil(4.0 * sigma)
    expected = gaussian_filter(images.numpy(), (0, sigma, sigma), mode="nearest", radius=(0, reach, reach))
    np.testing.assert_allclose(beamline.point_spread(images, sigma).numpy(), expected, rtol=1e-12)


def test_a_point_spread_keeps_the_counts():
    images = torch.zeros(2, 60, 60)
    images[:, 20:40, 20:40] = torch.from_numpy(
        np.random.default_rng(2).gamma(1.0, 50.0, (2, 20, 20)).astype("f4")
    )
    for sigma in (0.0, 1.5, torch.tensor([0.5, 3.0])):
        blurred = beamline.point_spread(images, sigma)
        # The rounding of 2 x 25 additions in float32.
        torch.testing.assert_close(blurred.sum(dim=(1, 2)), images.sum(dim=(1, 2)), rtol=3e-6, atol=0.0)


def test_every_image_has_its_own_point_spread():
    images = torch.from_numpy(np.random.default_rng(2).gamma(1.0, 50.0, (3, 40, 40)))
    several = beamline.point_spread(images, torch.tensor([0.0, 0.7, 1.5], dtype=torch.float64))
    torch.testing.assert_close(several[0], images[0])
    for row, sigma in ((1, 0.7), (2, 1.5)):
        # A narrower one goes on to the reach of the widest, beyond its own 4 σ: 6e-5 of the counts.
        alone = beamline.point_spread(images[row : row + 1], sigma)[0]
        torch.testing.assert_close(several[row], alone, rtol=2e-3, atol=0.0)


def test_a_point_spread_leaves_even_light_even_up_to_the_border():
    torch.testing.assert_close(
        beamline.point_spread(torch.full((1, 9, 9), 7.0), 3.0), torch.full((1, 9, 9), 7.0)
    )
