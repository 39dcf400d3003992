"""Coefficient CNNs g, on the Fourier-Bessel image (10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dvfb_stream.models.inputs import COEFFICIENT_CHANNELS, coefficient_input, log_coefficients
from dvfb_stream.models.networks.image import normalised_convolution

POOLING = 4
"""Extent of the pooling, at stride 2 and without margin: the authors'."""


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
