"""One class, any f and any g: the authors' layers by their printed sizes, and both views judged together."""

import pytest
import torch

from dvfb_stream.errors import BundleError
from dvfb_stream.models import build_network
from dvfb_stream.models.network_cost import cost_of

COMPACT = {"image": {"name": "compact"}, "coefficient": {"name": "compact"}, "hidden": [32], "heads": True}


def _frames(count=4):
    torch.manual_seed(0)
    images = torch.rand(count, 256, 256) * 100
    masks = torch.rand(count, 256, 256) > 0.1
    coefficients = torch.randn(count, 40, 11, dtype=torch.complex64) * 50
    return images * masks, masks, coefficients


def _sizes(module, kind):
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, kind)]


def test_alexnet_is_as_the_authors_set_it():
    network = build_network({"image": {"name": "alexnet"}, "coefficient": None, "hidden": [4000, 4000]})
    assert _sizes(network.branches["image"], torch.nn.Conv2d) == [
        (96, 1, 11, 11), (192, 96, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3),
    ]  # fmt: skip
    assert network.branches["image"].convolutions[0].stride == (4, 4)
    # 227 → 55 → 26 → 26 → 12 → 12 → 5 along a side, poolings of 4 x 4 at stride 2.
    assert _sizes(network, torch.nn.Linear) == [(4000, 256 * 5 * 5), (4000, 4000), (10, 4000)]


@pytest.mark.parametrize(
    ("name", "convolutions", "features"),
    [
        ("2conv", [(64, 2, 3, 3), (128, 64, 3, 3)], 128 * 19 * 4),
        (
            "2c-pool-2c",
            [(64, 2, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (256, 256, 3, 3)],
            256 * 19 * 4,
        ),
    ],
)
def test_coefficient_networks_are_as_the_authors_set_them(name, convolutions, features):
    network = build_network({"image": None, "coefficient": {"name": name}, "hidden": [256, 256]})
    assert _sizes(network.branches["coefficient"], torch.nn.Conv2d) == convolutions
    assert network.branches["coefficient"].features == features
    logits, hidden = network.eval()(network.prepare(*_frames(2)))
    assert logits.shape == (2, 10)
    assert hidden.shape == (2, 256)
    assert (hidden >= 0).all()


def test_both_views_are_concatenated_before_the_fully_connected_layers():
    network = build_network(COMPACT).eval()
    inputs = network.prepare(*_frames())
    features = network.features(inputs)
    logits, hidden = network(inputs)
    together = torch.cat([features["image"], features["coefficient"]], dim=1)
    torch.testing.assert_close(hidden, torch.relu(network.first(together)))
    every, _ = network.all_logits(inputs)
    assert set(every) == {"image", "coefficient", "joint"}
    torch.testing.assert_close(every["joint"], logits)
    # A view's own head knows nothing of the other view.
    images, masks, coefficients = _frames()
    other, _ = network.all_logits(network.prepare(images.flip(0), masks.flip(0), coefficients))
    torch.testing.assert_close(other["coefficient"], every["coefficient"])
    assert not torch.allclose(other["image"], every["image"])


def test_cost_counts_the_layers_that_judge_a_frame():
    network = build_network({"image": None, "coefficient": {"name": "2conv"}, "hidden": [256, 256]})
    products = 440 * 9 * (2 * 64 + 64 * 128) + 9728 * 256 + 256 * 256 + 256 * 10
    assert cost_of(network).multiply_adds == products
    heads = build_network(COMPACT)
    without = build_network({**COMPACT, "heads": False})
    assert cost_of(heads) == cost_of(without)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": {"name": "alexnet", "side": 94}}, "crops of 95 to 256 pixels, not 94"),
        ({"image": {"name": "alexnet", "side": 500}}, "crops of 95 to 256 pixels, not 500"),
        ({"coefficient": {"name": "3conv"}}, "no sub-network '3conv'"),
        ({"hidden": 256}, "describe no network"),
    ],
)
def test_impossible_architectures_are_refused(wrong, message):
    with pytest.raises(BundleError, match=message):
        build_network({**COMPACT, **wrong})
