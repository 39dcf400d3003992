"""What the networks are shown, against the same by numpy."""

import numpy as np
import pytest
import torch

from dvfb_stream.models.branches import halve, image_input, log_coefficients, standardised_crop


def _views(count=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.random((count, 256, 256)).astype(np.float32) * 200
    masks = rng.random((count, 256, 256)) > 0.2
    images[~masks] = 0
    return torch.from_numpy(images), torch.from_numpy(masks)


def test_the_middle_crop_is_standardised_over_its_valid_pixels():
    images, masks = _views()
    crop = standardised_crop(images, masks, 227, training=False)
    assert crop.shape == (3, 1, 227, 227)
    region = (slice(None), slice(14, 241), slice(14, 241))
    for seen, image, mask in zip(
        crop[:, 0].numpy(), images[region].numpy(), masks[region].numpy(), strict=True
    ):
        expected = np.where(mask, (image - image[mask].mean()) / image[mask].std(), 0)
        np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_crops_of_training_lie_anywhere():
    images, masks = _views(1)
    torch.manual_seed(0)
    crops = {float(standardised_crop(images, masks, 250, training=True)[0, 0, 100, 100]) for _ in range(12)}
    assert len(crops) > 6


def test_small_crops_are_of_the_halved_view():
    images, masks = _views(1)
    crop = standardised_crop(images, masks, 128, training=False)
    standardised = image_input(*halve(images, masks))[:, :1]
    torch.testing.assert_close(crop, standardised)


def test_a_crop_larger_than_the_view_is_refused():
    with pytest.raises(ValueError, match="views of 256 pixels have no crop of 300"):
        standardised_crop(*_views(1), 300, training=False)


def test_log_coefficients_are_equation_10_standardised():
    rng = np.random.default_rng(1)
    coefficients = (rng.normal(size=(2, 40, 11)) + 1j * rng.normal(size=(2, 40, 11))) * 300
    seen = log_coefficients(torch.from_numpy(coefficients)).numpy()
    for frame, ours in zip(coefficients, seen, strict=True):
        scaled = 255 * frame / np.abs(frame).max()
        parts = np.stack([scaled.real, scaled.imag])
        logs = np.sign(parts) * np.log(1 + np.abs(parts)) / np.log(256)
        np.testing.assert_allclose(ours, (logs - logs.mean()) / logs.std(ddof=1), atol=1e-6)


def test_a_blank_frame_stays_blank():
    none = torch.zeros(1, 40, 11, dtype=torch.complex64)
    assert not log_coefficients(none).any()
    blank = torch.full((1, 256, 256), 7.0)
    assert float(standardised_crop(blank, blank > 0, 227, training=False).abs().max()) < 1e-3


@pytest.mark.parametrize(("level", "odd", "expected"), [(10.0, 255.0, 8.0), (200.0, 1.0, -8.0)])
def test_one_odd_pixel_is_cut_at_eight_deviations(level, odd, expected):
    """Alone among 227 x 227 it lies 227 deviations off, and would outshout the pattern."""
    view = torch.full((1, 256, 256), level)
    view[0, 128, 128] = odd
    crop = standardised_crop(view, view > 0, 227, training=False)
    assert float(crop[0, 0, 128 - 14, 128 - 14]) == expected
    assert float(crop.abs().max()) == 8.0
