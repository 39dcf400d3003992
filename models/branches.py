"""The two branches of a network: what each takes of a frame, the same in training and in use, and its layers.

f looks at the view: AlexNet as the paper uses it, or a compact one that runs live on a processor. g looks at the
Fourier-Bessel image (10).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

POOLING = 4
"""Extent of g's pooling, at stride 2 and without margin: the authors'."""


def normalised_convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1
) -> nn.Sequential:
    """Return convolution, batch normalisation and rectifier; a stride of 1 keeps the extent."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def start_output(layer: nn.Linear) -> None:
    """Let a network begin without an opinion, so that its first steps are small ones."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


class AlexNet(nn.Module):
    """f of the paper: five convolutions (11x11x96 stride 4, 5x5x192, 3x3x384, 3x3x256, 3x3x256).

    Poolings of 4 x 4 pixels, stride 2, without margin follow convolutions 1, 2 and 5, as the authors set them.

    Parameters
    ----------
    side
        Of the square crop of the view that it looks at.

    References
    ----------
    Krizhevsky, Sutskever and Hinton (2012); section 4.2 of the paper.
    """

    def __init__(self, side: int = 227) -> None:
        super().__init__()
        self.side = side
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 96, 11, stride=4),
            nn.ReLU(),
            nn.MaxPool2d(4, stride=2),
            nn.Conv2d(96, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(4, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(4, stride=2),
        )
        extent = (side - 11) // 4 + 1
        for _ in range(3):
            extent = (extent - 4) // 2 + 1
        if extent < 1 or side > VIEW_SIDE:
            raise ValueError(f"AlexNet needs crops of 95 to {VIEW_SIDE} pixels, not {side}")
        self.features = 256 * extent**2

    def prepare(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return standardised crops, (B, 1, side, side): random ones in training, the middle otherwise."""
        return standardised_crop(images, masks, self.side, training=self.training)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the last pooling, flattened, (B, `features`)."""
        return torch.flatten(self.convolutions(prepared), 1)


class CompactImageNetwork(nn.Module):
    """f of the default model: AlexNet's shape at a hundredth of its cost, on views averaged over 2 x 2 pixels.

    Parameters
    ----------
    widths
        Channels of the five convolutions.
    """

    def __init__(self, widths: tuple[int, int, int, int, int] = (16, 32, 32, 64, 96)) -> None:
        super().__init__()
        first, second, third, fourth, fifth = widths
        self.convolutions = nn.Sequential(
            normalised_convolution(IMAGE_CHANNELS, first, 5, stride=2),
            nn.MaxPool2d(2),
            normalised_convolution(first, second, 3),
            normalised_convolution(second, third, 3),
            nn.MaxPool2d(2),
            normalised_convolution(third, fourth, 3),
            nn.MaxPool2d(2),
            normalised_convolution(fourth, fifth, 3),
        )
        self.where = nn.Conv2d(fifth, 16, 1)
        self.features = 16 * (IMAGE_SIDE // 16) ** 2 + 2 * fifth

    def prepare(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the three channels of `image_input`, (B, 3, 128, 128)."""
        return image_input(*halve(images, masks))

    def forward(self, prepared: Tensor) -> Tensor:
        """Return features, (B, `features`): where things are, and what there is at all."""
        maps = self.convolutions(prepared)
        return torch.cat([self.where(maps).flatten(1), maps.mean((-2, -1)), maps.amax((-2, -1))], dim=1)


def _pooled(extent: int) -> int:
    return (extent - POOLING) // 2 + 1


class CoefficientCnn(nn.Module):
    """g of the paper: "2conv" or "2c-pool-2c", 3 x 3 convolutions on the log-scaled coefficients.

    Parameters
    ----------
    depth
        4: convolutions of 64 and 128 channels, a pooling, two of 256 channels ("2c-pool-2c"). 2: its first half,
        the pooling included ("2conv").
    n_radial, n_orders
        Extent of the coefficients.
    """

    def __init__(self, depth: int = 4, *, n_radial: int = 40, n_orders: int = 11) -> None:
        super().__init__()
        if depth not in (2, 4):
            raise ValueError(f"a coefficient CNN has 2 or 4 convolutions, not {depth}")
        self.shape = (n_radial, n_orders)
        layers: list[nn.Module] = [
            nn.Conv2d(2, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(POOLING, stride=2),
        ]
        if depth == 4:
            layers += [
                nn.Conv2d(128, 256, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.ReLU(),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.features = 64 * depth * _pooled(n_radial) * _pooled(n_orders)

    def prepare(self, coefficients: Tensor) -> Tensor:
        """Return the standardised Fourier-Bessel image, (B, 2, n_radial, n_orders)."""
        return log_coefficients(coefficients)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the last maps, flattened, (B, `features`)."""
        return torch.flatten(self.convolutions(prepared), 1)


class CompactCoefficientNetwork(nn.Module):
    """g of the default model: "2c-pool-2c" with batch normalisation and a third channel.

    Parameters
    ----------
    n_radial, n_orders
        Extent of the coefficients.
    widths
        Channels of the four convolutions; the paper's are 64, 128, 256, 256.
    """

    def __init__(
        self, *, n_radial: int = 40, n_orders: int = 11, widths: tuple[int, int, int, int] = (24, 48, 96, 96)
    ) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.shape = (n_radial, n_orders)
        self.convolutions = nn.Sequential(
            normalised_convolution(COEFFICIENT_CHANNELS, first, 3),
            normalised_convolution(first, second, 3),
            nn.MaxPool2d(POOLING, stride=2),
            normalised_convolution(second, third, 3),
            normalised_convolution(third, fourth, 3),
        )
        self.where = nn.Conv2d(fourth, 32, 1)
        self.features = 32 * _pooled(n_radial) * _pooled(n_orders)

    def prepare(self, coefficients: Tensor) -> Tensor:
        """Return the three channels of `coefficient_input`, (B, 3, n_radial, n_orders)."""
        return coefficient_input(coefficients)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return features, (B, `features`)."""
        features: Tensor = self.where(self.convolutions(prepared)).flatten(1)
        return features


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
