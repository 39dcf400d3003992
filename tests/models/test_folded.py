"""A folded network says what the network says that was trained."""

import pytest
import torch

from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS
from dvfb_stream.models import find_bundle, load_bundle
from dvfb_stream.models.folded import folded
from dvfb_stream.models.networks import AnnotationNetwork

WIDTHS = ((24, 48, 64), (32, 64, 96), (8, 16, 24), (24, 48, 64))


def rings(count=3):
    generator = torch.Generator().manual_seed(1)
    values = torch.rand((count, len(CHANNELS), BINS), generator=generator)
    values[:, :, 250:] = 0
    return values


def trained(architecture):
    """As after some training: no normalisation is the identity, no output is 0."""
    torch.manual_seed(0)
    network = AnnotationNetwork(rings=architecture, hidden=(32,))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 5.0)
            torch.nn.init.uniform_(module.weight, 0.3, 2.0)
            torch.nn.init.normal_(module.bias)
    torch.nn.init.normal_(network.later[-1].weight)
    return network.eval()


def said(network, values):
    blank = torch.zeros(len(values), 4, 4)
    with torch.inference_mode():
        return network(network.prepare(blank, blank > 0, torch.zeros(len(values), 40, 11), values))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_it_says_the_same_with_any_number_of_members(count):
    name = {"name": "several", "widths": WIDTHS[:count]} if count else {"name": "compact"}
    network = trained(name)
    for expected, found in zip(said(network, rings()), said(folded(network), rings()), strict=True):
        assert expected.std() > 0.01
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_default_says_the_same():
    network = load_bundle(find_bundle("default")).network
    expected, found = (torch.sigmoid(said(one, rings())[0]) for one in (network, folded(network)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_network_stays_as_it_is_and_so_does_its_input():
    network = trained({"name": "compact"})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = rings()
    kept = values.clone()
    made = folded(network)
    said(made, values)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(values, kept)
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_networks_without_rings_are_copied():
    network = AnnotationNetwork(coefficient={"name": "compact"}, hidden=(16,)).eval()
    made = folded(network)
    assert made is not network
    assert set(made.state_dict()) == set(network.state_dict())
