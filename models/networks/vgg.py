"""VGG-16 as image CNN f: the deeper network of plain convolutions that the paper's Table 4 compares with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dvfb_stream.models.inputs import VIEW_SIDE, standardised_crop

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3 x 3 convolutions between the poolings: configuration D."""

LEAST_SIDE = 2 ** len(CHANNELS)
"""Five poolings halve the extent; below this nothing is left of it."""


class Vgg16(nn.Module):
    """The thirteen convolutions and five poolings of VGG-16, on one channel.

    Its fully connected layers are those of the network around it.

    Parameters
    ----------
    side
        Of the square crop of the view that it looks at; the publication's is 224.
    batch_norm
        Whether batch normalisation follows each convolution, in place of its bias. The publication has none: its
        authors found that a bad start stalls learning at this depth, and began with layers of a shallower network
        that they had trained before. Trained from scratch, as here, it needs the normalisation.

    Attributes
    ----------
    features : int
        Length of what `forward` returns: 25,088 at side 224, 4,608 at side 112.

    References
    ----------
    Simonyan and Zisserman (2015), Very deep convolutional networks for large-scale image recognition, Table 1, D;
    section 3.1 on the start. Weights start as in He et al. (2015), Delving deep into rectifiers, equation 10.
    """

    def __init__(self, *, side: int = 224, batch_norm: bool = True) -> None:
        super().__init__()
        if not LEAST_SIDE <= side <= VIEW_SIDE:
            raise ValueError(f"VGG-16 needs crops of {LEAST_SIDE} to {VIEW_SIDE} pixels, not {side}")
        self.side = side
        layers: list[nn.Module] = []
        channels_in = 1
        for group in CHANNELS:
            for channels_out in group:
                layers.append(nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(channels_out))
                layers.append(nn.ReLU())
                channels_in = channels_out
            layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        self.features = channels_in * (side // LEAST_SIDE) ** 2
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def prepare(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return standardised crops, (B, 1, side, side): random ones in training, the middle otherwise.

        Parameters
        ----------
        images, masks
            (B, 256, 256) float32 views, 0..255 and 0 where invalid, and boolean, True = valid.
        """
        return standardised_crop(images, masks, self.side, training=self.training)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the last pooling, flattened, (B, `features`)."""
        return torch.flatten(self.convolutions(prepared), 1)
