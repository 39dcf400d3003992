"""A network as it annotates: the same function as the one that was trained, in fewer and faster steps.

In use batch normalisation is a factor and an offset of each channel, which the convolution before it can have in its
own weights. Convolutions run on channels laid side by side, which on a processor takes two thirds of the time.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dvfb_stream.models.invariant_branches import RingBlock, RingNetwork
from dvfb_stream.models.networks import AnnotationNetwork


class FoldedBlock(nn.Module):
    """What a `RingBlock` does in use.

    Parameters
    ----------
    block
        In evaluation mode.
    """

    def __init__(self, block: RingBlock) -> None:
        super().__init__()
        normal = block.normal
        mean, variance = normal.running_mean, normal.running_var
        assert mean is not None
        assert variance is not None
        factor = normal.weight.double() / torch.sqrt(variance.double() + normal.eps)
        self.along = _two_dimensional(
            block.along,
            block.along.weight.double() * factor[:, None, None],
            normal.bias.double() - mean.double() * factor,
        )
        self.across = _two_dimensional(block.across, block.across.weight, block.across.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, channels, 1, bins), in the memory of what is given."""
        changed: Tensor = self.across(self.along(values).relu_())
        return values.add_(changed)


class FoldedConvolutions(nn.Module):
    """What the convolutions of a `RingNetwork` do in use.

    Parameters
    ----------
    convolutions
        In evaluation mode; a convolution comes first. They stay as they are.
    """

    def __init__(self, convolutions: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.Sequential(*map(_folded_layer, convolutions))

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, channels, bins) of the last layer."""
        beside = values[:, :, None].contiguous(memory_format=torch.channels_last)
        last: Tensor = self.layers(beside)
        return last[:, :, 0]


@torch.no_grad()
def folded(network: AnnotationNetwork) -> AnnotationNetwork:
    """Return a copy of a network in evaluation mode whose ring networks, any number of them, are folded.

    It says the same but for rounding, and cannot be trained.

    Parameters
    ----------
    network
        Stays as it is.
    """
    copied = copy.deepcopy(network).eval()
    for branch in list(copied.modules()):
        if isinstance(branch, RingNetwork):
            branch.register_module("convolutions", FoldedConvolutions(branch.convolutions))
    return copied.requires_grad_(requires_grad=False)


def _folded_layer(layer: nn.Module) -> nn.Module:
    if isinstance(layer, RingBlock):
        return FoldedBlock(layer)
    assert isinstance(layer, nn.Conv1d), f"a ring network has no {type(layer).__name__}"
    return _two_dimensional(layer, layer.weight, layer.bias)


def _two_dimensional(convolution: nn.Conv1d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return a convolution along the second of two axes, with these weights."""
    assert bias is not None
    made = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        (1, convolution.kernel_size[0]),
        stride=(1, convolution.stride[0]),
        padding=(0, int(convolution.padding[0])),
        dilation=(1, convolution.dilation[0]),
    )
    beside = weight[:, :, None].float().contiguous(memory_format=torch.channels_last)
    made.weight = nn.Parameter(beside)
    made.bias.copy_(bias)  # type: ignore[union-attr]
    return made
