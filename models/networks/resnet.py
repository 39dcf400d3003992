"""ResNet-50 as image CNN f: the deepest network that the paper's Table 4 compares with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dvfb_stream.models.inputs import VIEW_SIDE, standardised_crop
from dvfb_stream.models.networks.image import normalised_convolution

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width of the 3 x 3 convolutions and number of bottlenecks, stage by stage: the 50-layer column."""

EXPANSION = 4
"""Channels that leave a bottleneck, in widths of its 3 x 3 convolution."""

LEAST_SIDE = 32
"""Stem and stages bring the extent down to a 32nd; smaller crops would reach the last stage as padding."""


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 that learn what to add to their input.

    The stride is in the 3 x 3 convolution, as is usual today ("v1.5"); the publication has it in the first 1 x 1,
    which drops three of four inputs unseen. Parameters are the same in number.

    Parameters
    ----------
    channels_in
        Of the input; the output has `EXPANSION` times `width`.
    width
        Channels of the 3 x 3 convolution.
    stride
        Of the 3 x 3 convolution and of the projection that the input then takes.
    """

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = EXPANSION * width
        self.residual = nn.Sequential(
            normalised_convolution(channels_in, width, 1),
            normalised_convolution(width, width, 3, stride),
            nn.Conv2d(width, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 4 width, H / stride, W / stride) of (B, channels_in, H, W)."""
        return torch.relu(self.residual(maps) + self.shortcut(maps))


class ResNet50(nn.Module):
    """The 50-layer residual network up to its average pooling, on one channel.

    Its fully connected layers are those of the network around it.

    Parameters
    ----------
    side
        Of the square crop of the view that it looks at; the publication's is 224.

    Attributes
    ----------
    features : int
        Length of what `forward` returns: 2,048 at any side.

    References
    ----------
    He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition, Table 1. Weights start as in He
    et al. (2015), Delving deep into rectifiers, equation 10.
    """

    def __init__(self, *, side: int = 224) -> None:
        super().__init__()
        if not LEAST_SIDE <= side <= VIEW_SIDE:
            raise ValueError(f"ResNet-50 needs crops of {LEAST_SIDE} to {VIEW_SIDE} pixels, not {side}")
        self.side = side
        channels = STAGES[0][0]
        self.stem = nn.Sequential(
            normalised_convolution(1, channels, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
        )
        blocks: list[nn.Module] = []
        for stage, (width, count) in enumerate(STAGES):
            for position in range(count):
                blocks.append(Bottleneck(channels, width, stride=2 if stage and not position else 1))
                channels = EXPANSION * width
        self.stages = nn.Sequential(*blocks)
        self.features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # By what goes out, so that gradients keep their size on the way back through the strides.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def prepare(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return standardised crops, (B, 1, side, side): random ones in training, the middle otherwise.

        Parameters
        ----------
        images, masks
            (B, 256, 256) float32 views, 0..255 and 0 where invalid, and boolean, True = valid.
        """
        return standardised_crop(images, masks, self.side, training=self.training)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the maps of the last stage, averaged over the extent, (B, 2048)."""
        maps: Tensor = self.stages(self.stem(prepared))
        return maps.mean((-2, -1))
