"""The double-view network: an image CNN f, a coefficient CNN g, and layers that judge both together (section 4.2).

The paper's f is AlexNet, its g the four layers "2c-pool-2c"; both are exchangeable. These are compact forms that
keep the paper's shape and run live on a processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dvfb_stream.errors import BundleError
from dvfb_stream.models.inputs import COEFFICIENT_CHANNELS, IMAGE_CHANNELS


def _convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class ImageNetwork(nn.Module):
    """f: five convolutions and three poolings, AlexNet's shape at a hundredth of its size.

    Parameters
    ----------
    widths
        Channels of the five convolutions.
    """

    def __init__(self, widths: tuple[int, int, int, int, int] = (16, 32, 32, 64, 96)) -> None:
        super().__init__()
        first, second, third, fourth, fifth = widths
        self.convolutions = nn.Sequential(
            _convolution(IMAGE_CHANNELS, first, 5, stride=2),
            nn.MaxPool2d(2),
            _convolution(first, second, 3),
            _convolution(second, third, 3),
            nn.MaxPool2d(2),
            _convolution(third, fourth, 3),
            nn.MaxPool2d(2),
            _convolution(fourth, fifth, 3),
        )
        self.where = nn.Conv2d(fifth, 16, 1)
        self.features = 16 * 8 * 8 + 2 * fifth

    def forward(self, images: Tensor) -> Tensor:
        """Return features, (B, `features`), of (B, 3, 128, 128): where things are, and what there is at all."""
        maps = self.convolutions(images)
        return torch.cat([self.where(maps).flatten(1), maps.mean((-2, -1)), maps.amax((-2, -1))], dim=1)


class CoefficientNetwork(nn.Module):
    """g: the paper's "2c-pool-2c", with batch normalisation.

    Parameters
    ----------
    n_radial, n_orders
        Extent of the coefficients.
    widths
        Channels of the four convolutions; the paper's are 64, 128, 256, 256.
    """

    def __init__(
        self, n_radial: int = 40, n_orders: int = 11, widths: tuple[int, int, int, int] = (24, 48, 96, 96)
    ) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.shape = (n_radial, n_orders)
        self.convolutions = nn.Sequential(
            _convolution(COEFFICIENT_CHANNELS, first, 3),
            _convolution(first, second, 3),
            nn.MaxPool2d(4, stride=2),
            _convolution(second, third, 3),
            _convolution(third, fourth, 3),
        )
        self.where = nn.Conv2d(fourth, 32, 1)
        self.features = 32 * ((n_radial - 4) // 2 + 1) * ((n_orders - 4) // 2 + 1)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return features, (B, `features`), of (B, 3, n_radial, n_orders)."""
        features: Tensor = self.where(self.convolutions(coefficients)).flatten(1)
        return features


class JointNetwork(nn.Module):
    """Both sub-networks, their features concatenated, and fully connected layers; one head each beside them.

    The heads of the sub-networks train them as if alone, in the same pass, and say what each view knows by
    itself; only the joint head is used on frames.

    Parameters
    ----------
    n_labels
        Number of labels.
    hidden
        Width of the first joint fully connected layer, whose activations are the features for novelty.
    dropout
        Share of hidden activations dropped in training.
    """

    def __init__(self, n_labels: int = 10, *, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.hidden = hidden
        self.image_network = ImageNetwork()
        self.coefficient_network = CoefficientNetwork()
        self.image_head = _head(self.image_network.features, hidden, n_labels, dropout)
        self.coefficient_head = _head(self.coefficient_network.features, hidden, n_labels, dropout)
        self.fully_connected = nn.Sequential(
            nn.Linear(self.image_network.features + self.coefficient_network.features, hidden), nn.ReLU()
        )
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_labels))

    def heads(self, images: Tensor, coefficients: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits of every head and the activations of the first joint layer.

        Returns
        -------
        logits
            (B, n_labels) each, of each view alone and of both: ``image``, ``coefficient``, ``joint``.
        hidden
            (B, hidden).
        """
        f, g = self.image_network(images), self.coefficient_network(coefficients)
        hidden = self.fully_connected(torch.cat([f, g], dim=1))
        logits = {
            "image": self.image_head(f),
            "coefficient": self.coefficient_head(g),
            "joint": self.output(hidden),
        }
        return logits, hidden

    def forward(self, images: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return joint logits, (B, n_labels), and the activations of the first joint layer, (B, hidden)."""
        f, g = self.image_network(images), self.coefficient_network(coefficients)
        hidden = self.fully_connected(torch.cat([f, g], dim=1))
        return self.output(hidden), hidden


def _head(features: int, hidden: int, n_labels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden // 2, n_labels)
    )


ARCHITECTURES = {"joint-compact-1": JointNetwork}
"""Every architecture that a bundle may name; a changed network gets a new name."""


def build_network(architecture: Mapping[str, Any]) -> JointNetwork:
    """Return the network, with fresh weights, that `model.json` describes.

    Parameters
    ----------
    architecture
        ``{"name": ..., **parameters}``.

    Raises
    ------
    BundleError
        When the name is unknown or the parameters do not fit.
    """
    parameters = dict(architecture)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise BundleError(
            f"unknown network architecture {name!r}; this version of dvfb_stream knows {', '.join(ARCHITECTURES)}"
        )
    try:
        return ARCHITECTURES[name](**parameters)
    except (TypeError, ValueError) as error:
        raise BundleError(f"parameters {parameters} do not fit the architecture {name}: {error}") from error
