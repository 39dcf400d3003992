"""Image CNNs f: AlexNet as the paper uses it, and a compact one that runs live on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dvfb_stream.models.inputs import (
    IMAGE_CHANNELS,
    IMAGE_SIDE,
    VIEW_SIDE,
    halve,
    image_input,
    standardised_crop,
)


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
