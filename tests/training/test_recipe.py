"""From a recipe to a bundle, in small; interrupted and resumed it ends the same."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dvfb_stream import Annotator
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.fbt.device import find_precision
from dvfb_stream.labels import LABELS
from dvfb_stream.models import build_network, load_bundle
from dvfb_stream.training import PRESETS, FittingSettings, Recipe, Reports, preset, train
from dvfb_stream.training import recipe as recipe_module
from dvfb_stream.training.__main__ import main
from dvfb_stream.training.dataset import StoredFrames
from dvfb_stream.training.fitting import fit, resolved

FITTING = FittingSettings(epochs=2, batch_size=32, optimizer="adamw", learning_rate=1e-3, averaging=0.9)
COMPACT = {"image": {"name": "compact"}, "coefficient": {"name": "compact"}, "hidden": [16], "heads": True}
COEFFICIENT = {"image": None, "coefficient": {"name": "compact"}, "hidden": [8]}
ORDERS = FourierBesselSettings().orders
FRAMES = {"train": 200, "validation": 200, "test": 200}
RECIPE = Recipe(name="small", architecture=COMPACT, fitting=FITTING, frames=FRAMES)


class InterruptedFitError(Exception):
    pass


def interrupt(epoch):
    raise InterruptedFitError


@pytest.fixture(scope="module")
def work(tmp_path_factory, frames_folder):
    folder = tmp_path_factory.mktemp("work")
    (folder / "frames").symlink_to(frames_folder)
    return folder


@pytest.fixture(scope="module")
def bundle_folder(work):
    """Trained with an interruption after the first epoch."""
    with pytest.raises(InterruptedFitError):
        train(RECIPE, work=work, reports=Reports(on_epoch=interrupt))
    train(RECIPE, work=work)
    return work / "small" / "bundle"


def test_a_trained_bundle_annotates_and_says_what_it_was_trained_on(bundle_folder):
    annotator = Annotator.load(bundle_folder)
    assert annotator.identity.name == "small"
    facts = json.loads((bundle_folder / "model.json").read_text())["training"]
    assert facts["frames"]["train"] == 200
    assert facts["cost"]["multiply_adds"] > 1e6
    assert set(facts["test"]["average_precision"]) == {"image", "coefficient", "joint"}
    assert set(facts["test"]["average_precision"]["joint"]) == {*LABELS, "mean"}
    card = (bundle_folder / "CARD.md").read_text()
    for label in LABELS:
        assert label in card
    assert "No real frame was trained on" in card
    assert "What real frames decided: nothing." in card
    assert "It was not measured on labelled real frames" in card


def test_an_interrupted_fit_ends_with_the_weights_of_an_uninterrupted_one(
    bundle_folder, frames_folder, tmp_path
):
    (tmp_path / "frames").symlink_to(frames_folder)
    uninterrupted = train(RECIPE, work=tmp_path)
    assert uninterrupted.identity.sha256 == Annotator.load(bundle_folder).identity.sha256


def test_a_resumed_fit_keeps_the_precision_it_began_with(examples, tmp_path, monkeypatch):
    """Though another device would choose another."""
    native = "dvfb_stream.fbt.device._processor_has_bfloat16"
    for began_with, other in (("float32", "bfloat16"), ("bfloat16", "float32")):
        checkpoint = tmp_path / began_with
        fitting = FittingSettings(epochs=1, batch_size=8)

        def fitted(fitting, checkpoint=checkpoint):
            some = examples.first(8)
            architecture = {**COEFFICIENT, "hidden": [4]}
            fit(
                StoredFrames(some),
                some,
                architecture=architecture,
                orders=ORDERS,
                settings=fitting,
                checkpoint=checkpoint,
            )

        monkeypatch.setattr(native, lambda has=began_with == "bfloat16": has)
        fitted(fitting)
        monkeypatch.setattr(native, lambda has=began_with != "bfloat16": has)
        assert resolved(fitting, checkpoint, "cpu").precision == began_with
        assert resolved(fitting, tmp_path / "anew", "cpu").precision == other
        fitted(fitting)
        with pytest.raises(BundleError, match="checkpoint"):
            fitted(dataclasses.replace(fitting, precision=other))


def test_a_bundle_says_in_which_precision_it_was_fitted(bundle_folder):
    facts = json.loads((bundle_folder / "model.json").read_text())["training"]
    assert facts["fitting"]["precision"] == find_precision("auto", "cpu")


def test_a_checkpoint_of_other_settings_or_damaged_is_refused(bundle_folder, work):
    other = dataclasses.replace(RECIPE, fitting=dataclasses.replace(FITTING, batch_size=16))
    with pytest.raises(BundleError, match="checkpoint"):
        train(other, work=work, bundle=work / "other")
    broken = dataclasses.replace(RECIPE, name="broken")
    (work / "broken").mkdir()
    (work / "broken" / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(BundleError, match="damaged"):
        train(broken, work=work)


@pytest.fixture
def small_stages(monkeypatch):
    """Presets of the paper's two stages, small enough for a test: AlexNet on its smallest crop, a pass each."""
    image, coefficient = {"name": "alexnet", "side": 95}, {"name": "compact"}
    once = dataclasses.replace(FITTING, epochs=1)
    recipes = {
        name: Recipe(
            name=name,
            architecture={"image": None, "coefficient": None, "hidden": [8], **views},
            fitting=once,
        )
        for name, views in (("f", {"image": image}), ("g", {"coefficient": coefficient}))
    }
    monkeypatch.setattr(recipe_module, "preset", recipes.__getitem__)
    return Recipe(
        name="both",
        architecture={"image": image, "coefficient": coefficient, "hidden": [8, 8]},
        stages={"image": "f", "coefficient": "g"},
        fitting=once,
        frames=FRAMES,
    )


def test_the_second_stage_keeps_the_sub_networks_of_the_first(work, small_stages):
    said = []
    joint = train(small_stages, work=work, reports=Reports(say=said.append))
    for view, stage in (("image", "f"), ("coefficient", "g")):
        alone = load_bundle(work / stage / "bundle")
        for key, value in alone.network.branches[view].state_dict().items():
            assert torch.equal(joint.network.branches[view].state_dict()[key], value), key
    fresh = build_network(small_stages.architecture)
    assert not torch.equal(joint.network.first.weight, fresh.first.weight)
    assert sum("first stage" in line for line in said) == 2
    facts = joint.description.training
    assert facts["stages"]["image"]["sha256"] == load_bundle(work / "f" / "bundle").identity.sha256
    # What is finished is not fitted again: nothing but the second stage is.
    said.clear()
    again = Reports(say=said.append, on_epoch=interrupt)
    with pytest.raises(InterruptedFitError):
        train(dataclasses.replace(small_stages, name="again"), work=work, reports=again)
    assert not any("first stage" in line for line in said)


def test_a_fit_without_progress_ends_early(work):
    stubborn = dataclasses.replace(
        RECIPE,
        name="stubborn",
        architecture=COEFFICIENT,
        fitting=dataclasses.replace(FITTING, epochs=20, learning_rate=1e-8, averaging=0.0, patience=2),
    )
    history = train(stubborn, work=work).description.training["history"]
    assert len(history) < 20


def test_an_unknown_device_is_refused_before_anything_is_simulated(tmp_path):
    with pytest.raises(SettingsError, match="toaster"):
        train(RECIPE, work=tmp_path / "work", bundle=tmp_path / "bundle", device="toaster")
    assert not (tmp_path / "work").exists()


def test_fewer_frames_than_a_batch_are_refused(work):
    wide = dataclasses.replace(RECIPE, name="wide", fitting=FittingSettings(epochs=1, batch_size=201))
    with pytest.raises(SettingsError, match="training frames do not fill one batch of 201"):
        train(wide, work=work)


def test_what_cannot_end_well_is_refused_at_the_start(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    work = ["--work", str(tmp_path / "work")]
    assert main(["default", "--bundle", str(tmp_path / "file"), *work]) == 1
    assert "training: error:" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
    assert main(["default", *work, "--train-frames", "0"]) == 1
    assert "at least 1 frame must be simulated, not 0" in capsys.readouterr().err
    assert main(["defualt", *work]) == 1
    assert "did you mean default?" in capsys.readouterr().err
    assert main(["default", *work, "--epochs", "0"]) == 1
    assert "at least 1 epoch" in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_describes_a_network(name):
    recipe = preset(name)
    with torch.device("meta"):
        network = build_network(recipe.architecture)
    assert set(recipe.stages) <= set(network.branches)
    for view, stage in recipe.stages.items():
        assert preset(stage).architecture[view] == recipe.architecture[view]
    assert recipe.purpose


def test_several_processes_fit_one_network(work, frames_folder, tmp_path):
    """Started by torch's own launcher, two processes end with one bundle; each saw half of every batch."""
    (tmp_path / "frames").symlink_to(frames_folder)
    script = tmp_path / "fit.py"
    script.write_text(
        "import dataclasses, sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from dvfb_stream.training import FittingSettings, Recipe, train\n"
        "torch.set_num_threads(1)\n"
        f"recipe = Recipe(name='team', architecture={COEFFICIENT!r}, frames={FRAMES!r},\n"
        "    fitting=FittingSettings(epochs=2, batch_size=32, optimizer='adamw', learning_rate=1e-3))\n"
        "if __name__ == '__main__':\n"
        "    train(recipe, work=Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(tmp_path / "team" / "bundle")
    assert len(bundle.description.training["history"]) == 2
    assert np.isfinite(bundle.description.training["test"]["average_precision"]["coefficient"]["mean"])
