"""The networks that the paper's Table 4 compares with, VGG-16 and ResNet-50: importing this makes them known by name.

After it `build_network` makes the networks of their bundles, and `dvfb_stream.training.preset` has their recipes.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from dvfb_stream.models.branches import VIEW_SIDE, normalised_convolution, standardised_crop
from dvfb_stream.models.networks import IMAGE_NETWORKS
from dvfb_stream.training.presets import PAPER_FITTING, PAPER_FRAMES, PRESETS, Recipe

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3 x 3 convolutions between the poolings: configuration D."""

VGG_LEAST_SIDE = 2 ** len(CHANNELS)
"""Five poolings halve the extent; below this nothing is left of it."""


class _ImageCnn(nn.Module):
    """f on crops of the view; its fully connected layers are those of the network around it."""

    side: int

    def prepare(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return standardised crops, (B, 1, side, side): random ones in training, the middle otherwise.

        Parameters
        ----------
        images, masks
            (B, 256, 256) float32 views, 0..255 and 0 where invalid, and boolean, True = valid.
        """
        return standardised_crop(images, masks, self.side, training=self.training)


class Vgg16(_ImageCnn):
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
        if not VGG_LEAST_SIDE <= side <= VIEW_SIDE:
            raise ValueError(f"VGG-16 needs crops of {VGG_LEAST_SIDE} to {VIEW_SIDE} pixels, not {side}")
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
        self.features = channels_in * (side // VGG_LEAST_SIDE) ** 2
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the last pooling, flattened, (B, `features`)."""
        return torch.flatten(self.convolutions(prepared), 1)


STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width of the 3 x 3 convolutions and number of bottlenecks, stage by stage: the 50-layer column."""

EXPANSION = 4
"""Channels that leave a bottleneck, in widths of its 3 x 3 convolution."""

RESNET_LEAST_SIDE = 32
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


class ResNet50(_ImageCnn):
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
        if not RESNET_LEAST_SIDE <= side <= VIEW_SIDE:
            raise ValueError(
                f"ResNet-50 needs crops of {RESNET_LEAST_SIDE} to {VIEW_SIDE} pixels, not {side}"
            )
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

    def forward(self, prepared: Tensor) -> Tensor:
        """Return the maps of the last stage, averaged over the extent, (B, 2048)."""
        maps: Tensor = self.stages(self.stem(prepared))
        return maps.mean((-2, -1))


PEER_FRAMES = {**PAPER_FRAMES, "train": 10_000}
"""What two processor cores can take through networks of thousands of millions of multiply-adds in an hour."""

_FITTING = dataclasses.replace(PAPER_FITTING, epochs=2)

RECIPES = (
    Recipe(
        name="vgg16",
        purpose="peer: VGG-16 with batch normalisation on the image alone (Table 4)",
        architecture={"image": {"name": "vgg16", "side": 112}, "coefficient": None, "hidden": [4096, 4096]},
        frames=PEER_FRAMES,
        fitting=_FITTING,
    ),
    Recipe(
        name="resnet50",
        purpose="peer: ResNet-50 on the image alone (Table 4)",
        architecture={"image": {"name": "resnet50", "side": 112}, "coefficient": None, "hidden": [1000]},
        frames=PEER_FRAMES,
        fitting=_FITTING,
    ),
)

IMAGE_NETWORKS.update(vgg16=Vgg16, resnet50=ResNet50)
PRESETS.update({recipe.name: recipe for recipe in RECIPES})
