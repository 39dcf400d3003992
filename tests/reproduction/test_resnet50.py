"""ResNet-50 is the published network: its size, its cost, its shapes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dvfb_stream.reproduction.peer_networks import Bottleneck, ResNet50

TWO_CHANNELS = 2 * 7**2 * 64
"""Weights of the stem that look at the two colours an X-ray image does not have."""
PUBLISHED_PARAMETERS = 25_557_032 - (2048 + 1) * 1000
"""Of the network on three channels without its fully connected layer."""
PUBLISHED_MULTIPLICATIONS = 4_089_184_256 - 2048 * 1000
"""Multiply-adds of the same at side 224, the stride in the 3 x 3 convolutions."""
STRIDE_IN_FIRST = 3_800_000_000
"""What the publication states for the stride in the first 1 x 1 convolutions, to two digits."""


def multiplications(network, side):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, side, side))
    return counter.get_total_flops() // 2


def test_trunk_has_the_published_number_of_parameters():
    assert PUBLISHED_PARAMETERS == 23_508_032
    found = sum(parameter.numel() for parameter in ResNet50().parameters())
    assert found == PUBLISHED_PARAMETERS - TWO_CHANNELS


def test_trunk_costs_what_it_costs_with_the_stride_in_the_3x3_convolutions():
    found = multiplications(ResNet50(), 224)
    assert found == PUBLISHED_MULTIPLICATIONS - TWO_CHANNELS * 112**2
    # With the stride there, the 1 x 1 convolutions that open the last three stages would cost a quarter.
    saved = (
        3
        / 4
        * sum(2 * width * width * (224 // 4 // 2**stage) ** 2 for stage, width in enumerate((128, 256, 512)))
    )
    assert abs(found + TWO_CHANNELS * 112**2 - saved - STRIDE_IN_FIRST) < 0.07e9


def test_there_are_fifty_layers_with_the_fully_connected_one():
    on_the_way = [name for name, module in ResNet50().named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len([name for name in on_the_way if "shortcut" not in name]) + 1 == 50


@pytest.mark.parametrize("side", [224, 112, 32])
def test_features_are_2048_at_any_side(side):
    network = ResNet50(side=side).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, side, side)).shape == (2, 2048)
    assert network.features == 2048


def test_a_bottleneck_that_learned_nothing_passes_its_input_on():
    block = Bottleneck(256, 64, stride=1).eval()
    torch.nn.init.zeros_(block.residual[-1].weight)
    maps = torch.rand(2, 256, 5, 5)
    with torch.no_grad():
        assert torch.equal(block(maps), maps)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = ResNet50(side=64)
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_order_of_memory_changes_nothing():
    torch.manual_seed(0)
    network, images = ResNet50(side=64), torch.randn(4, 1, 64, 64)
    # Statistics of a first pass keep fifty layers in evaluation from blowing the signal up.
    network(images)
    network.eval()
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [112, 224])
def test_crops_are_the_middle_in_use_and_move_in_training(side):
    torch.manual_seed(0)
    images, masks = torch.rand(2, 256, 256) * 255, torch.ones(2, 256, 256, dtype=torch.bool)
    network = ResNet50(side=side).eval()
    middle = network.prepare(images, masks)
    assert middle.shape == (2, 1, side, side)
    torch.testing.assert_close(network.prepare(images.flip(-1), masks), middle.flip(-1))
    network.train()
    crops = [network.prepare(images, masks) for _ in range(8)]
    assert any(not torch.equal(crop, crops[0]) for crop in crops)


def test_crops_that_the_strides_would_use_up_are_refused():
    with pytest.raises(ValueError, match="crops of 32 to 256 pixels, not 16"):
        ResNet50(side=16)
