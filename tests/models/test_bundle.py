"""Bundles: what is incomplete, altered or of another format is refused, with the reason."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dvfb_stream.errors import BundleError
from dvfb_stream.models import bundle_folders, find_bundle, load_bundle, save_bundle
from dvfb_stream.training.presets import DECISION

COMPACT = {"image": {"name": "compact"}, "coefficient": {"name": "compact"}, "hidden": [32]}


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def change(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_comes_back_as_it_was_written(tiny_bundle):
    first, second = load_bundle(tiny_bundle), load_bundle(tiny_bundle)
    assert first.identity.name == "tiny"
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key])
    np.testing.assert_array_equal(first.novelty.quantiles, second.novelty.quantiles)


def test_another_calibration_or_decision_is_another_bundle(tiny_bundle, tmp_path):
    """Runs are named by the hash of the weights: what judges by them otherwise must not be taken for it."""
    bundle = load_bundle(tiny_bundle)
    described = bundle.description

    def saved(name, **changes):
        calibrations = {**described.calibration, **changes.pop("calibrations", {})}
        return save_bundle(
            tmp_path / name,
            name=described.name,
            version=described.version,
            network=bundle.network,
            architecture=described.architecture,
            calibrations=calibrations,
            novelty=bundle.novelty,
            view=described.view,
            fbt=bundle.fbt_settings,
            training=described.training,
            card="",
            **changes,
        ).identity.sha256

    first = described.labels[0]
    stricter = dataclasses.replace(described.calibration[first], threshold=0.875)
    hashes = [
        saved("same"),
        saved("again"),
        saved("calibrated", calibrations={first: stricter}),
        saved("decided", decision=DECISION),
        saved("decided-otherwise", decision=dataclasses.replace(DECISION, contradiction=0.8)),
    ]
    assert hashes[0] == hashes[1] == bundle.identity.sha256
    assert len(set(hashes)) == 4


def test_one_changed_byte_of_the_weights_is_noticed(copy):
    path = copy / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="altered"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"labels": ["rings"]}, "labels"),
        ({"surprise": 1}, r"unknown keys \['surprise'\]"),
        ({"architecture": {**COMPACT, "image": {"name": "vgg"}}}, "there is no sub-network 'vgg'"),
        ({"architecture": {**COMPACT, "image": {"name": ["compact"]}}}, "there is no sub-network"),
        ({"architecture": {**COMPACT, "image": None, "coefficient": None}}, "needs an image network"),
        ({"architecture": {**COMPACT, "image": "compact"}}, "describe no network"),
        ({"architecture": {**COMPACT, "hidden": [64]}}, "do not fit"),
        ({"architecture": {**COMPACT, "hidden": []}}, "width of at least one layer"),
        ({"architecture": {**COMPACT, "hidden": [-1]}}, "width of at least one layer"),
        ({"architecture": {**COMPACT, "depth": 64}}, "unexpected keyword"),
        ({"architecture": {**COMPACT, "dropout": 5}}, "dropout"),
        ({"heads": {"rings": {"gamma": 1.0}}}, "head of 'rings' needs"),
        ({"heads": {"rings": {"gamma": -1.0, "intercept": 0.0}}}, "gamma above 0"),
        ({"heads": {"ring": {"gamma": 1.0, "intercept": 0.0}}}, "head of 'ring' needs a known label"),
        ({"heads": {"rings": {"gamma": 1.0, "intercept": 0.0}}}, "heads_of_frames"),
        ({"fbt": {"radius": -1}}, "radius"),
        ({"fbt": {"reading": "loud"}}, "reading must be one of"),
        ({"fbt": {"n_radial": 41}}, "takes 40 x 11 coefficients, but fbt in model.json makes 41 x 11"),
        ({"fbt": {"orders": [0, 2]}}, "makes 40 x 2"),
        ({"fbt": {"penalty": 1e-4, "sha256": "0" * 64}}, "altered"),
        ({"fbt": {"lambda": 1}}, "unknown Fourier-Bessel settings: lambda"),
        ({"calibration": {}}, "diffuse_low_q"),
        ({"version": 3}, "version must be"),
        (
            {"architecture": {"rings": {"name": "compact"}, "hidden": [32]}},
            "ring statistics of version 1, but",
        ),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(copy, changes, message):
    change(copy, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


def test_missing_parts_are_named(copy):
    (copy / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        load_bundle(copy)
    (copy / "model.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(copy)
    (copy / "model.json").unlink()
    with pytest.raises(BundleError, match=r"no model\.json"):
        load_bundle(copy)


def test_bundles_are_found_by_folder_and_by_name(tiny_bundle, monkeypatch):
    assert find_bundle(tiny_bundle) == tiny_bundle
    monkeypatch.setenv("DVFB_MODELS", str(tiny_bundle.parent))
    assert find_bundle("tiny") == tiny_bundle
    assert ("tiny", tiny_bundle) in list(bundle_folders())
    with pytest.raises(BundleError, match=r"no model 'tina'.*tiny"):
        find_bundle("tina")


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf"), "1", None, True])
def test_a_calibration_needs_numbers(copy, number):
    calibration = json.loads((copy / "model.json").read_text())["calibration"]
    calibration["rings"]["slope"] = number
    change(copy, calibration=calibration)
    with pytest.raises(BundleError, match="calibration of rings"):
        load_bundle(copy)


@pytest.mark.parametrize("point", ["threshold", "high_precision"])
def test_a_threshold_is_a_probability(copy, point):
    calibration = json.loads((copy / "model.json").read_text())["calibration"]
    calibration["rings"][point] = 1.5
    change(copy, calibration=calibration)
    with pytest.raises(BundleError, match=f"the {point} of rings must be a probability"):
        load_bundle(copy)


def test_tensors_that_belong_to_nothing_are_refused(copy):
    path = copy / "weights.safetensors"
    save_file({**load_file(path), "heads_of_frames.dual": torch.zeros(3, 1)}, path)
    change(copy, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(BundleError, match=r"[Uu]nexpected key.*heads_of_frames\.dual"):
        load_bundle(copy)


def test_a_description_nested_without_end_cannot_be_read(copy):
    (copy / "model.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(copy)


@pytest.fixture(scope="module")
def scratch(tiny_bundle, tmp_path_factory):
    return shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("scratch") / "tiny")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_a_description_says_it_is_loaded_or_refused(scratch, tiny_bundle, data):
    """A value anywhere in it is replaced, or a key added; nothing but BundleError may come of it."""
    values = json.loads((tiny_bundle / "model.json").read_text())
    place = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys) if keys else st.just("new" if isinstance(place, dict) else 0))
        deeper = keys and isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())
        if not deeper:
            break
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        key = data.draw(st.text(max_size=8))
    place[key] = data.draw(ANYTHING)
    (scratch / "model.json").write_text(json.dumps(values))
    refusal, bundle = "", None
    try:
        bundle = load_bundle(scratch)
    except BundleError as error:
        refusal = str(error)
    if bundle is None:
        assert str(scratch) in refusal
    else:
        assert all(np.isfinite([c.slope, c.intercept, c.threshold]).all() for c in bundle.calibrations)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_whatever_a_weights_file_holds_it_is_refused(scratch, tiny_bundle, content):
    """With the right hash too: that says who wrote it, not that it is any good."""
    values = json.loads((tiny_bundle / "model.json").read_text())
    values["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (scratch / "model.json").write_text(json.dumps(values))
    (scratch / "weights.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="do not fit"):
        load_bundle(scratch)
    shutil.copy(tiny_bundle / "weights.safetensors", scratch)


def test_a_name_that_no_file_can_have_is_an_unknown_model():
    with pytest.raises(BundleError, match="no model"):
        find_bundle("x" * 5000)


def test_a_novelty_score_of_another_network_is_refused(copy):
    path = copy / "weights.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "novelty_score.weights": tensors["novelty_score.weights"][:-1].clone()}, path)
    change(copy, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(BundleError, match="novelty score has 38 weights, but the network needs 39"):
        load_bundle(copy)
