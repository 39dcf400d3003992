"""Symmetries act on coefficients as they act on images: estimating and turning may be exchanged.

The basis' support is kept inside the disk (8), whose radius max(x, W - x, ...) is that of the turned image plus or
minus a pixel, because W - x is measured to the edge and x to the first pixel's centre.
"""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.fbt import FourierBessel
from dvfb_stream.training.augmentation import SYMMETRIES, transform, turn

ORDERS = (0, 1, 2, 4)
X, Y = 40.2, 21.7
SIDE = 64


def centre_after(symmetry):
    """Where the beam centre goes, worked out by hand."""
    x, y = X, Y
    if symmetry >= 4:
        x = SIDE - 1 - x
    for _ in range(symmetry % 4):
        x, y = SIDE - 1 - y, x
    return x, y


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_coefficients_of_the_turned_image_are_the_turned_coefficients(symmetry):
    rng = np.random.default_rng(0)
    image = rng.random((1, SIDE, SIDE)) * 100
    mask = rng.random((SIDE, SIDE)) > 0.1

    def plan(x, y, valid):
        return FourierBessel(
            (SIDE, SIDE), x, y, radius=35.0, mask=valid, n_radial=6, orders=ORDERS, downsample=1
        )

    coefficients = plan(X, Y, mask).estimate(image, tolerance=1e-13)
    images, masks, turned = transform(
        symmetry, torch.from_numpy(image), torch.from_numpy(mask)[None], coefficients, orders=ORDERS
    )
    expected = plan(*centre_after(symmetry), masks[0].numpy().copy()).estimate(images, tolerance=1e-13)
    np.testing.assert_allclose(turned.numpy(), expected.numpy(), atol=1e-5 * float(coefficients.abs().max()))


@pytest.mark.parametrize("degrees", [-20.0, 7.0])
def test_pixels_and_coefficients_turn_the_same_way(degrees):
    """About the beam in the middle of the view, so that both turn about the same point."""
    angle = math.radians(degrees)
    plan = FourierBessel(
        (SIDE, SIDE), 31.5, 31.5, radius=31.0, mask=None, n_radial=6, orders=ORDERS, downsample=1
    )
    rng = np.random.default_rng(1)
    shape = (1, 6, len(ORDERS))
    made = torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape)).to(torch.complex64)
    made[:, :, 0] = made[:, :, 0].real + 0j
    image = plan.reconstruct(made).float()
    masks = torch.ones_like(image, dtype=torch.bool)
    images, masks, coefficients = turn(angle, image, masks, made, orders=ORDERS)
    expected = plan.reconstruct(coefficients)
    y, x = np.indices((SIDE, SIDE)) - 31.5
    inside = torch.from_numpy(np.hypot(x, y) < 28)
    assert masks[0][inside].all()
    difference = (images[0] - expected[0])[inside].square().mean().sqrt()
    assert float(difference / expected[0][inside].square().mean().sqrt()) < 0.03


def test_turned_corners_are_invalid_and_invalid_pixels_stay_dark():
    image = torch.full((1, SIDE, SIDE), 50.0)
    masks = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 20:24] = False
    none = torch.zeros(1, 6, len(ORDERS), dtype=torch.complex64)
    images, turned, _ = turn(math.radians(30), image, masks, none, orders=ORDERS)
    assert not turned[0, 0, 0]
    assert not images[~turned].any()
    # No pixel is a mixture of valid and invalid.
    torch.testing.assert_close(images[turned], torch.full_like(images[turned], 50.0))
