"""Frames as of real beamlines, all labels, ring statistics: what the default model learns from, in small."""

import dataclasses

import numpy as np
import pytest
import torch

from dvfb_stream.labels import ALL_LABELS, LABELS
from dvfb_stream.models.networks import build_network, mean_of_rings
from dvfb_stream.training import FittingSettings, preset
from dvfb_stream.training.dataset import SimulatedDataset, StoredFrames, beamline_simulation, build
from dvfb_stream.training.evaluation import predict
from dvfb_stream.training.examples import together
from dvfb_stream.training.fitting import fit
from dvfb_stream.training.recipe import _dataset

FITTING = FittingSettings(
    epochs=3, batch_size=16, optimizer="adamw", learning_rate=3e-3, averaging=0.8, symmetries=False, moved=20
)
ARCHITECTURE = {
    "rings": {"name": "compact", "widths": [8, 8, 8]},
    "hidden": [16],
    "dropout": 0.0,
    "outputs": len(ALL_LABELS),
}


@pytest.fixture(scope="module")
def beamlines(tmp_path_factory):
    dataset = SimulatedDataset(seed=5, count=100, simulation=beamline_simulation(), labels=ALL_LABELS)
    return build(tmp_path_factory.mktemp("beamlines"), dataset)


def test_examples_have_all_labels_and_ring_statistics(beamlines):
    assert beamlines.truth.shape == (len(beamlines), len(ALL_LABELS))
    batch = beamlines.batch(np.arange(3))
    assert batch.rings.shape[0] == 3
    assert torch.isfinite(batch.rings).all()
    assert batch.labels.shape == (3, len(ALL_LABELS))


def test_pictures_are_read_only_where_they_are_wanted(beamlines):
    which = np.array([2, 0])
    with_them, without = beamlines.batch(which), beamlines.batch(which, pictures=False)
    assert with_them.images.shape == (2, 256, 256)
    assert without.images.shape == (0, 256, 256)
    assert torch.equal(with_them.rings, without.rings)
    assert torch.equal(with_them.labels, without.labels)


def test_two_sets_together_are_one_after_the_other(beamlines):
    first, second = beamlines.first(5), beamlines.after(90)
    both = together(first, second)
    assert len(both) == 5 + len(second)
    np.testing.assert_array_equal(both.truth[:5], first.truth)
    np.testing.assert_array_equal(both.truth[5:], second.truth)
    which = np.array([6, 2, 5, 0])  # in any order, as they are drawn
    found, (of_first, of_second) = (
        both.batch(which),
        (part.batch(np.array([0, 1, 2])) for part in (first, second)),
    )
    for name in ("images", "masks", "coefficients", "rings", "labels"):
        whole = [getattr(batch, name) for batch in (of_first, of_second)]
        expected = torch.stack([whole[1][1], whole[0][2], whole[1][0], whole[0][0]])
        assert torch.equal(getattr(found, name), expected)


def test_sets_stay_where_they_are_until_they_are_read_into_memory(beamlines):
    both = together(beamlines.after(90), beamlines.after(50).first(7))
    thrice = together(both, beamlines.first(2))
    places = np.arange(len(thrice))
    in_memory = thrice.in_memory()
    assert isinstance(in_memory.images, np.ndarray)
    for name in ("images", "masks", "coefficients", "rings"):
        assert not isinstance(getattr(both, name), np.ndarray)
        assert torch.equal(getattr(in_memory.batch(places), name), getattr(thrice.batch(places), name))


def test_a_network_of_rings_learns_from_them(beamlines, tmp_path):
    network, history = fit(
        StoredFrames(beamlines.in_memory()),
        beamlines,
        architecture=ARCHITECTURE,
        orders=(0, 2),
        settings=FITTING,
        checkpoint=tmp_path / "checkpoint.safetensors",
    )
    assert network.invariant
    assert history[-1].loss < history[0].loss
    logits, hidden = predict(network, beamlines)
    assert logits["rings"].shape == (len(beamlines), len(ALL_LABELS))
    assert hidden.shape == (len(beamlines), 16)


def test_the_default_learns_from_both_simulations():
    recipe = preset("default")
    assert recipe.labels == ALL_LABELS
    assert _dataset(recipe, "train").count == recipe.frames["train"] - recipe.paper_frames
    assert _dataset(recipe, "test").count == recipe.frames["test"]
    assert _dataset(recipe, "train").simulation == beamline_simulation()
    small = dataclasses.replace(recipe, frames={**recipe.frames, "train": 30})
    assert small.paper_frames == 10


def test_the_default_is_the_mean_of_its_members():
    recipe = preset("default")
    members = [preset(name) for name in recipe.members]
    assert {member.frames["train"] for member in members} == {recipe.frames["train"]}
    members_of_it = [build_network(member.architecture) for member in members]
    _, architecture = mean_of_rings(members_of_it, without=["shift"])
    assert architecture == recipe.architecture


def test_ten_labels_are_given_to_networks_of_ten():
    assert preset("compact").labels == LABELS
    assert preset("compact").paper_frames == 0
