"""VGG-16 is the published network: its size, its cost, its shapes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dvfb_stream.reproduction.peer_networks import Vgg16

FULLY_CONNECTED = (25_088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
PUBLISHED_PARAMETERS = 138_357_544
"""Of the whole network on three channels: "138 million" in the publication's Table 2."""
TWO_CHANNELS = 2 * 9 * 64
"""Weights of the first convolution that look at the two colours an X-ray image does not have."""
PUBLISHED_CONVOLUTIONS = 15_346_630_656
"""Multiply-adds of the convolutions at side 224, on three channels."""


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_convolutions_have_the_published_number_of_parameters():
    assert PUBLISHED_PARAMETERS - FULLY_CONNECTED == 14_714_688
    assert parameters(Vgg16(batch_norm=False)) == 14_714_688 - TWO_CHANNELS


def test_batch_normalisation_has_two_parameters_a_channel_in_place_of_the_bias():
    channels = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
    assert parameters(Vgg16()) == parameters(Vgg16(batch_norm=False)) + channels


def test_convolutions_cost_what_they_cost_in_the_publication():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Vgg16().eval()(torch.zeros(1, 1, 224, 224))
    assert counter.get_total_flops() == 2 * (PUBLISHED_CONVOLUTIONS - TWO_CHANNELS * 224**2)


@pytest.mark.parametrize(("side", "features"), [(224, 25_088), (112, 4_608), (32, 512)])
def test_features_are_the_last_pooling_flattened(side, features):
    network = Vgg16(side=side).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, side, side)).shape == (2, features)
    assert network.features == features


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_reach_every_parameter(batch_norm):
    torch.manual_seed(0)
    network = Vgg16(side=64, batch_norm=batch_norm)
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_start_keeps_the_size_of_signals_without_normalisation():
    torch.manual_seed(0)
    network = Vgg16(side=64, batch_norm=False)
    signal, sizes = torch.randn(4, 1, 64, 64), []
    with torch.no_grad():
        for layer in network.convolutions:
            signal = layer(signal)
            if isinstance(layer, nn.Conv2d):
                sizes.append(float(signal.square().mean()))
    assert all(0.2 < size < 50 for size in sizes)


def test_the_order_of_memory_changes_nothing():
    torch.manual_seed(0)
    network, images = Vgg16(side=64).eval(), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [112, 224])
def test_crops_are_the_middle_in_use_and_move_in_training(side):
    torch.manual_seed(0)
    images, masks = torch.rand(2, 256, 256) * 255, torch.ones(2, 256, 256, dtype=torch.bool)
    network = Vgg16(side=side)
    network.eval()
    middle = network.prepare(images, masks)
    assert middle.shape == (2, 1, side, side)
    assert torch.equal(network.prepare(images, masks), middle)
    mirrored = network.prepare(images.flip(-1), masks)
    torch.testing.assert_close(mirrored, middle.flip(-1))
    network.train()
    crops = [network.prepare(images, masks) for _ in range(8)]
    assert any(not torch.equal(crop, crops[0]) for crop in crops)


def test_crops_that_five_poolings_would_use_up_are_refused():
    with pytest.raises(ValueError, match="crops of 32 to 256 pixels, not 31"):
        Vgg16(side=31)
