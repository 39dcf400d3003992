"""From a seed to a bundle, in small; interrupted and resumed it ends the same."""

import dataclasses
import json

import pytest
import torch

from dvfb_stream import Annotator
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.training import FittingSettings, dataset, fitting
from dvfb_stream.training.__main__ import main
from dvfb_stream.training.recipe import Recipe, train

RECIPE = Recipe(
    name="small",
    train_frames=200,
    validation_frames=200,
    test_frames=200,
    architecture={"name": "joint-compact-1", "hidden": 16},
    fitting=FittingSettings(epochs=2, batch_size=32),
)


class InterruptedFitError(Exception):
    pass


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def bundle_folder(work):
    """Trained with an interruption after the first epoch."""

    def interrupt(line):
        if line.startswith("epoch 1"):
            raise InterruptedFitError

    with pytest.raises(InterruptedFitError):
        train(RECIPE, work=work, bundle=work / "bundle", say=interrupt)
    train(RECIPE, work=work, bundle=work / "bundle")
    return work / "bundle"


def test_a_trained_bundle_annotates_and_says_what_it_was_trained_on(bundle_folder):
    annotator = Annotator.load(bundle_folder)
    assert annotator.identity.name == "small"
    facts = json.loads((bundle_folder / "model.json").read_text())["training"]
    assert facts["frames"]["train"] == 200
    assert set(facts["test"]["average_precision"]["joint"]) == {*LABELS, "mean"}
    card = (bundle_folder / "CARD.md").read_text()
    for label in LABELS:
        assert label in card
    assert "No real frame was used" in card


def test_an_interrupted_fit_ends_with_the_weights_of_an_uninterrupted_one(bundle_folder, work, tmp_path):
    uninterrupted = train(
        RECIPE,
        work=_with_shards_of(work, tmp_path),
        bundle=tmp_path / "bundle",
    )
    resumed = Annotator.load(bundle_folder).identity
    assert uninterrupted.identity.sha256 == resumed.sha256


def _with_shards_of(work, tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "shards").symlink_to(work / "shards")
    return tmp_path / "again"


def test_a_checkpoint_of_other_settings_is_refused(bundle_folder, work):
    other = dataclasses.replace(RECIPE, fitting=FittingSettings(epochs=2, batch_size=16))
    with pytest.raises(BundleError, match="checkpoint"):
        train(other, work=work, bundle=work / "other")


def test_a_damaged_checkpoint_is_named(bundle_folder, work, tmp_path):
    folder = _with_shards_of(work, tmp_path)
    (folder / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(BundleError, match="damaged"):
        train(RECIPE, work=folder, bundle=tmp_path / "bundle")


def test_shards_of_another_seed_or_damaged_are_refused(bundle_folder, work, tmp_path):
    shards = work / "shards" / "test"
    with pytest.raises(SettingsError, match="was simulated with"):
        dataset.build(shards, seed=4, count=100, settings=FourierBesselSettings())
    with pytest.raises(SettingsError, match="was simulated with"):
        dataset.build(shards, seed=3, count=100, settings=FourierBesselSettings(penalty=1e-3))
    (tmp_path / "00000.safetensors").write_bytes((shards / "00000.safetensors").read_bytes()[:500])
    with pytest.raises(SettingsError, match="damaged"):
        dataset.build(tmp_path, seed=3, count=100, settings=FourierBesselSettings())


def test_an_unknown_device_is_refused_before_anything_is_simulated(tmp_path):
    with pytest.raises(SettingsError, match="toaster"):
        train(RECIPE, work=tmp_path / "work", bundle=tmp_path / "bundle", device="toaster")
    assert not (tmp_path / "work").exists()


def test_the_same_seed_gives_the_same_examples_from_stored_shards_and_afresh(bundle_folder, work, tmp_path):
    settings = FourierBesselSettings()
    stored = dataset.build(work / "shards" / "test", seed=3, count=100, settings=settings)
    fresh = dataset.build(tmp_path, seed=3, count=100, settings=settings)
    assert torch.equal(stored.images, fresh.images)
    assert torch.equal(stored.labels, fresh.labels)
    assert torch.allclose(stored.coefficients, fresh.coefficients, atol=1e-2)


def test_what_cannot_end_well_is_refused_at_the_start(work, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    arguments = ["--bundle", str(tmp_path / "file"), "--work", str(tmp_path / "work")]
    assert main(arguments) == 1
    assert "training: error:" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
    assert (
        main(["--bundle", str(tmp_path / "new"), "--work", str(tmp_path / "work"), "--train-frames", "0"])
        == 1
    )
    assert "at least 1 frame must be simulated, not 0" in capsys.readouterr().err


def test_fewer_frames_than_a_batch_are_refused(bundle_folder, work, tmp_path):
    wide = dataclasses.replace(RECIPE, fitting=FittingSettings(epochs=1, batch_size=201))
    with pytest.raises(SettingsError, match="200 training frames do not fill one batch of 201"):
        train(wide, work=_with_shards_of(work, tmp_path), bundle=tmp_path / "bundle")


def test_the_schedule_rises_and_falls():
    rates = [fitting._one_cycle(p / 100) for p in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.01
