"""Symmetries act on coefficients as they act on images: estimating and turning may be exchanged.

The basis' support is kept inside the disk (8), whose radius max(x, W - x, ...) is that of the turned image plus or
minus a pixel, because W - x is measured to the edge and x to the first pixel's centre.
"""

import numpy as np
import pytest
import torch

from dvfb_stream.fbt import FourierBessel
from dvfb_stream.training.augmentation import SYMMETRIES, transform

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
