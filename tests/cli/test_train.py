"""`dvfb train`: presets, small bundles from frames simulated or stored, and calls that cannot end well."""

import json

import pytest

import dvfb_stream.reproduction.peer_networks  # noqa: F401 - before the presets are patched
from dvfb_stream import Annotator
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.training import PRESETS, FittingSettings, Recipe
from dvfb_stream.training import presets as presets_module

SMALL = Recipe(
    name="small",
    purpose="for tests",
    architecture={"image": {"name": "compact"}, "coefficient": {"name": "compact"}, "hidden": [8]},
    fitting=FittingSettings(epochs=1, batch_size=32, optimizer="adamw", learning_rate=1e-3, averaging=0.9),
    frames={"train": 200, "validation": 200, "test": 200},
)


@pytest.fixture
def small_preset(monkeypatch):
    monkeypatch.setattr(presets_module, "PRESETS", {**PRESETS, "small": SMALL})


@pytest.fixture(scope="module")
def work(tmp_path_factory, frames_folder):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "frames").symlink_to(frames_folder)
    return folder


def test_without_a_preset_it_lists_them(dvfb):
    listed = dvfb("train").stdout
    for name, recipe in PRESETS.items():
        assert name in listed
        assert recipe.purpose in listed
    assert json.loads(dvfb("train", "--json").stdout) == {
        name: recipe.purpose for name, recipe in PRESETS.items()
    }


def test_a_preset_is_trained_measured_and_written(dvfb, small_preset, work):
    words = ("train", "small", "--work", str(work), "--device", "cpu", "--json")
    done = dvfb(*words)
    assert done.status == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["frames"] == {"train": 200, "validation": 200, "test": 200}
    assert "epoch 1: loss" in done.stderr
    assert Annotator.load(result["bundle"]).identity.name == "small"
    # In the same words again: nothing is left to fit, and the weights are the same.
    again = dvfb(*words)
    assert json.loads(again.stdout)["model"] == result["model"]
    assert "epoch" not in again.stderr


def test_it_learns_from_a_stored_dataset(dvfb, small_preset, work, tmp_path):
    dataset = tmp_path / "frames.h5"
    assert dvfb("simulate", "--count", "100", "--seed", "8", "--out", str(dataset)).status == 0
    bundle = tmp_path / "bundle"
    words = ("train", "small", "--work", str(work), "--bundle", str(bundle), "--name", "stored")
    done = dvfb(*words, "--dataset", str(dataset), "--device", "cpu")
    assert done.status == 0, done.stderr
    facts = Annotator.load(bundle)._bundle.description.training
    assert 0 < facts["frames_taken"]["train"] <= 100
    assert f"dvfb annotate --model {bundle}" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("papr-joint",), 1, "did you mean paper-joint?"),
        (("default", "--loss", "focal"), 2, "loss must be one of bce, asymmetric"),
        (("default", "--dataset", "nowhere.h5"), 1, "no dataset of `dvfb simulate`"),
        (("default", "--device", "toaster"), 1, "toaster"),
        (("default", "--frames", "1" + 20 * "0"), 2, "'--frames'"),
        (("default", "--precision", "float16"), 2, "precision must be one of"),
        (("default", "--model", "other"), 2, "No such option: --model"),
        (("default", "--learning-rate", "0"), 2, "learning_rate must lie from"),
    ],
)
def test_calls_that_cannot_end_well_are_refused_in_one_line(dvfb, tmp_path, words, status, message):
    done = dvfb("train", *words, "--work", str(tmp_path / "runs"))
    assert done.status == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs" / "frames").exists()


def test_presets_share_the_settings_of_the_estimate():
    assert {recipe.fbt for recipe in PRESETS.values()} == {FourierBesselSettings()}
