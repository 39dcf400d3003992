"""What the default network is shown does not depend on how a frame is turned."""

import numpy as np
import pytest
import torch

from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS
from dvfb_stream.errors import BundleError
from dvfb_stream.fbt import FourierBessel, rotate
from dvfb_stream.models.invariant_branches import RingNetwork, invariant_input
from dvfb_stream.models.networks import AnnotationNetwork, build_network, mean_of_rings
from dvfb_stream.training.augmentation import moved, transform

ORDERS = tuple(range(0, 21, 2))
SEEN, LEVEL = CHANNELS.index("seen"), CHANNELS.index("level")


def coefficients(seed=0, count=3):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 40, 11)) + 1j * rng.normal(size=(count, 40, 11))
    values *= np.exp(rng.normal(size=values.shape) * 2) * 50
    values[:, :, 0] = values[:, :, 0].real
    return torch.from_numpy(values.astype(np.complex64))


def rings(seed=0, count=3):
    rng = np.random.default_rng(seed)
    values = rng.random((count, len(CHANNELS), BINS)).astype(np.float32)
    values[:, SEEN, 250:] = 0
    values[:, :, 250:] = 0
    return torch.from_numpy(values)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.9])
def test_a_turn_by_any_angle_leaves_the_coefficients_input(angle):
    whole = coefficients()
    turned = rotate(whole, angle, orders=ORDERS)
    torch.testing.assert_close(invariant_input(turned), invariant_input(whole), atol=2e-4, rtol=0)


@pytest.mark.parametrize("symmetry", range(8))
def test_the_eight_symmetries_leave_the_coefficients_input(symmetry):
    whole = coefficients(1)
    blank = torch.zeros(3, 4, 4)
    _, _, turned = transform(symmetry, blank, blank > 0, whole, orders=ORDERS)
    torch.testing.assert_close(invariant_input(turned), invariant_input(whole), atol=2e-4, rtol=0)


def test_phases_of_one_order_are_relative_to_its_strongest():
    """By hand: two radial indices of order 4, the second a quarter of a period ahead and much weaker."""
    values = torch.zeros(1, 40, 11, dtype=torch.complex64)
    values[0, 3, 2], values[0, 7, 2] = 100 * np.exp(0.7j), 1e-3 * np.exp(1j * (0.7 + np.pi / 2))
    seen = invariant_input(values)
    assert seen[0, 0, 3, 2] == pytest.approx(1.0, abs=1e-6)
    assert seen[0, 1, 3, 2] == pytest.approx(0.0, abs=1e-5)
    assert seen[0, 0, 7, 2] == pytest.approx(0.0, abs=1e-5)
    assert seen[0, 1, 7, 2] == pytest.approx(np.log1p(255e-5) / np.log(256), rel=1e-4)


def test_coefficients_of_a_frame_without_any_are_none():
    assert not invariant_input(torch.zeros(1, 40, 11, dtype=torch.complex64)).any()


def test_a_fold_turns_no_other_order_into_it():
    """Estimated from pixels: a twofold pattern and the same turned have one input, a fourfold one another."""
    y, x = np.mgrid[:256, :256] - 127.5
    radius, azimuth = np.hypot(x, y), np.arctan2(y, x)
    ring = np.exp(-(((radius - 60) / 6) ** 2))
    frames = [100 * ring * (1 + 0.8 * np.cos(k * azimuth - shift)) for k, shift in ((2, 0), (2, 1.2), (4, 0))]
    estimator = FourierBessel(shape=(256, 256), center_x=127.5, center_y=127.5, radius=256.0)
    seen = invariant_input(estimator.estimate(torch.from_numpy(np.stack(frames).astype(np.float32))))
    same, other = (float((seen[0] - seen[k]).abs().max()) for k in (1, 2))
    assert same < 0.12
    assert other > 0.6


def test_the_level_of_a_frame_is_taken_out_and_nothing_else():
    network = RingNetwork()
    dim = rings()
    bright = dim.clone()
    bright[:, LEVEL] += 3.0 * (dim[:, SEEN] > 0)
    torch.testing.assert_close(network.prepare(bright), network.prepare(dim), atol=1e-5, rtol=0)
    others = [k for k in range(len(CHANNELS)) if k != LEVEL]
    assert torch.equal(network.prepare(dim)[:, others], dim[:, others])
    level = network.prepare(dim)[0, LEVEL].numpy()
    seen = dim[0, SEEN].numpy()
    expected = (dim[0, LEVEL].numpy() - np.average(dim[0, LEVEL].numpy(), weights=seen)) / 2 * (seen > 0)
    np.testing.assert_allclose(level, expected, atol=1e-5)


def test_channels_that_networks_shall_not_see_change_nothing_they_say():
    torch.manual_seed(0)
    single = [
        AnnotationNetwork(rings={"name": "compact", "widths": (8, 8, 8)}, hidden=(8,)) for _ in range(2)
    ]
    mean, architecture = mean_of_rings([one.eval() for one in single], without=["shift"])
    assert architecture["rings"]["without"] == ["shift"]
    again = build_network(architecture).eval()
    again.load_state_dict(mean.state_dict())
    seen = rings(2, 8)
    moved_away = seen.clone()
    moved_away[:, CHANNELS.index("shift")] += 1.0
    for network in (mean, again):
        assert torch.equal(
            network(network.prepare(None, None, None, moved_away))[0],
            network(network.prepare(None, None, None, seen))[0],
        )
    assert not torch.equal(
        single[0](single[0].prepare(None, None, None, moved_away))[0],
        single[0](single[0].prepare(None, None, None, seen))[0],
    )


def test_a_channel_that_is_none_is_named():
    with pytest.raises(BundleError, match="no channels sideways; there are seen"):
        build_network({"rings": {"name": "several", "widths": [[8, 8, 8]], "without": ["sideways"]}})


def test_what_is_not_seen_does_not_count():
    network = RingNetwork().eval()
    nothing = torch.zeros(1, len(CHANNELS), BINS)
    assert torch.isfinite(network(network.prepare(nothing))).all()


def test_moved_rings_are_the_same_rings_elsewhere():
    torch.manual_seed(0)
    whole = rings(2, 8)
    shifts = set()
    for _ in range(6):
        for part, original in zip(moved(whole, 20), whole, strict=True):
            [by] = [
                k
                for k in range(-20, 21)
                if torch.equal(
                    part[:, max(k, 0) : BINS + min(k, 0)], original[:, max(-k, 0) : BINS - max(k, 0)]
                )
            ]
            shifts.add(by)
            assert not part[:, :by].any() if by > 0 else True
            assert not part[:, BINS + by :].any() if by < 0 else True
    assert len(shifts) > 5
    assert max(map(abs, shifts)) <= 20


def test_a_network_is_invariant_if_all_its_branches_are():
    ours = {"rings": {"name": "compact"}, "coefficient": {"name": "invariant"}, "hidden": [16], "outputs": 18}
    network = build_network(ours)
    assert network.invariant
    assert network.outputs == 18
    assert network.output == "joint"
    inputs = network.prepare(
        torch.zeros(2, 8, 8), torch.ones(2, 8, 8) > 0, coefficients(count=2), rings(count=2)
    )
    logits, hidden = network.eval()(inputs)
    assert (logits.shape, hidden.shape) == ((2, 18), (2, 16))
    assert not AnnotationNetwork(image={"name": "compact"}, rings={"name": "compact"}, hidden=(16,)).invariant


def test_the_mean_of_ring_networks_states_the_mean_of_their_logits():
    torch.manual_seed(1)
    networks = [
        build_network({"rings": {"name": "compact", "widths": widths}, "hidden": [hidden], "outputs": 18})
        for widths, hidden in (([8, 12, 16], 10), ([4, 8, 8], 6))
    ]
    for (
        network
    ) in networks:  # trained ones have other statistics than fresh ones, and outputs that differ from 0
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        torch.nn.init.normal_(network.later[-1].weight)
        torch.nn.init.normal_(network.later[-1].bias)
        network.eval()
    mean, architecture = mean_of_rings(networks)
    seen = rings(3, 5)
    nothing = torch.zeros(5, 1, 1)
    found = []
    for network in (*networks, mean, build_network(architecture).eval()):
        if len(found) == 3:
            network.load_state_dict(mean.state_dict())
        with torch.inference_mode():
            found.append(network(network.prepare(nothing, nothing > 0, coefficients(), seen))[0])
    torch.testing.assert_close(found[2], (found[0] + found[1]) / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[3], found[2])
    assert mean.invariant


def test_networks_that_look_at_other_things_have_no_mean():
    other = build_network({"coefficient": {"name": "invariant"}, "hidden": [4], "outputs": 18})
    with pytest.raises(BundleError, match="only networks of ring statistics"):
        mean_of_rings([other])


def test_a_network_of_rings_says_what_it_misses():
    network = build_network({"rings": {"name": "compact", "widths": [4, 4, 4]}, "hidden": [4]})
    with pytest.raises(ValueError, match="takes ring statistics"):
        network.prepare(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1) > 0, coefficients(count=1))
