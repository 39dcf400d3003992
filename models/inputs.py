"""From views and coefficients to the tensors that the networks take, the same in training and in use."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.fbt.coefficients import log_scale, normalise
from dvfb_stream.fbt.projection import block_sum

VIEW_SIDE = 256
"""Side of a view."""

IMAGE_SIDE = 128
"""Side of the image network's input: views are averaged over 2 x 2 valid pixels, like the estimate's."""

IMAGE_CHANNELS = 3
COEFFICIENT_CHANNELS = 3

VIEW_MAXIMUM = 255.0
LEAST_DEVIATION = 1e-3
"""Of a log Fourier-Bessel image. A blank frame's stays blank; of any other it is above 0.01."""

COEFFICIENT_MAXIMUM = 1e4
"""Magnitude of the largest coefficient that a bright 16-bit frame shows, to bring the third channel near 0..1."""


def halve(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Average views over blocks of 2 x 2 valid pixels.

    Parameters
    ----------
    images, masks
        (B, 256, 256) float32 and boolean, True = valid.

    Returns
    -------
    images, masks
        (B, 128, 128); zero and False where a block has no valid pixel.
    """
    counts = block_sum(masks.to(images.dtype), 2)
    sums = block_sum(images * masks, 2)
    return sums / counts.clamp_min(1.0), counts > 0


def image_input(halved: Tensor, masks: Tensor) -> Tensor:
    """Return the image network's input from what `halve` gives.

    Returns
    -------
    Tensor
        (B, 3, 128, 128): intensity standardised over the frame's valid pixels, intensity on the fixed scale of
        the view, and the mask. Invalid pixels are zero.
    """
    valid = masks.to(halved.dtype)
    return torch.stack([standardise(halved, valid), halved * valid / VIEW_MAXIMUM, valid], dim=1)


def standardised_crop(images: Tensor, masks: Tensor, side: int, *, training: bool) -> Tensor:
    """Return a square crop of each view, standardised over its valid pixels: the authors' preprocessing.

    Parameters
    ----------
    images, masks
        (B, 256, 256) float32 and boolean, True = valid.
    side
        Of the crop; up to 128 pixels it is one of the view averaged over 2 x 2 valid pixels.
    training
        Whether to crop at random, each batch at one place; otherwise the middle is taken.

    Returns
    -------
    Tensor
        (B, 1, side, side); invalid pixels are zero, the mean.
    """
    if side <= IMAGE_SIDE:
        images, masks = halve(images, masks)
    margin = images.shape[-1] - side
    if margin < 0:
        raise ValueError(f"views of {images.shape[-1]} pixels have no crop of {side}")
    if training:
        top, left = torch.randint(margin + 1, (2,)).tolist()
    else:
        top = left = margin // 2
    region = (..., slice(top, top + side), slice(left, left + side))
    return standardise(images[region], masks[region].to(images.dtype))[:, None]


def standardise(images: Tensor, valid: Tensor) -> Tensor:
    """Give each image mean 0 and deviation 1 over its valid pixels; invalid ones become 0.

    Parameters
    ----------
    images, valid
        (B, H, W); 1 = valid, 0 = invalid.
    """
    counts = valid.sum((-2, -1), keepdim=True).clamp_min(1.0)
    mean = (images * valid).sum((-2, -1), keepdim=True) / counts
    centred = (images - mean) * valid
    deviation = (centred.square().sum((-2, -1), keepdim=True) / counts).sqrt()
    # A blank frame has no contrast to standardise: the floor, one part in 255, leaves it blank.
    return (centred / deviation.clamp_min(1.0)).clamp(-8.0, 8.0)


def log_coefficients(coefficients: Tensor) -> Tensor:
    """Return the authors' input of g: the log Fourier-Bessel image (10), standardised.

    Parameters
    ----------
    coefficients
        (B, n_radial, n_orders) complex.

    Returns
    -------
    Tensor
        (B, 2, n_radial, n_orders): real and imaginary parts, each frame of mean 0 and deviation 1 over both.
    """
    scaled = torch.view_as_real(log_scale(normalise(coefficients))).permute(0, 3, 1, 2)
    deviation, mean = torch.std_mean(scaled, dim=(1, 2, 3), keepdim=True)
    return (scaled - mean) / deviation.clamp_min(LEAST_DEVIATION)


def coefficient_input(coefficients: Tensor) -> Tensor:
    """Return the coefficient network's input.

    Parameters
    ----------
    coefficients
        (B, n_radial, n_orders) complex, as `FourierBessel.estimate` returns them for views.

    Returns
    -------
    Tensor
        (B, 3, n_radial, n_orders): real and imaginary part of (10) after normalisation, and the logarithm of
        the magnitude on a fixed scale, which no rotation of the sample changes.
    """
    scaled = torch.view_as_real(log_scale(normalise(coefficients)))
    magnitude = torch.log1p(coefficients.abs()) / math.log1p(COEFFICIENT_MAXIMUM)
    return torch.cat([scaled, magnitude[..., None]], dim=-1).permute(0, 3, 1, 2).contiguous()
