"""Bundles: what is incomplete, altered or of another format is refused, with the reason."""

import json
import shutil

import numpy as np
import pytest
import torch

from dvfb_stream.errors import BundleError
from dvfb_stream.models import bundle_folders, find_bundle, load_bundle


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
    np.testing.assert_array_equal(first.density.quantiles, second.density.quantiles)


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
        ({"architecture": {"name": "vgg"}}, "unknown network architecture 'vgg'"),
        ({"architecture": {"name": "joint-compact-1", "hidden": 64}}, "do not fit"),
        ({"architecture": {"name": "joint-compact-1", "depth": 64}}, "do not fit"),
        ({"fbt": {"radius": -1}}, "radius"),
        ({"fbt": {"lambda": 1}}, "unknown Fourier-Bessel settings: lambda"),
        ({"calibration": {}}, "diffuse_low_q"),
        ({"version": 3}, "version must be"),
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
