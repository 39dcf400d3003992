"""The peers' networks and recipes are known by name once they are imported, and not before."""

import json
import subprocess
import sys

import pytest

from dvfb_stream.models import build_network
from dvfb_stream.reproduction.peer_networks import PEER_FRAMES, RECIPES
from dvfb_stream.training import PRESETS, preset
from dvfb_stream.training.presets import PAPER_FRAMES

ASK = """
from dvfb_stream.errors import BundleError
from dvfb_stream.models import build_network
from dvfb_stream.training import PRESETS
assert not {"vgg16", "resnet50"} & set(PRESETS)
try:
    build_network({"image": {"name": "vgg16", "side": 32}, "coefficient": None, "hidden": [8]})
except BundleError as error:
    print(error)
"""


def test_whoever_builds_one_before_is_told_what_to_import():
    told = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
    assert "there is no sub-network 'vgg16'" in told
    assert "after `import dvfb_stream.reproduction.peer_networks`" in told


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_are_found_and_their_networks_built(recipe):
    assert preset(recipe.name) is PRESETS[recipe.name] is recipe
    assert recipe.frames == PEER_FRAMES == {**PAPER_FRAMES, "train": 10_000}
    name = recipe.architecture["image"]["name"]
    network = build_network({"image": {"name": name, "side": 32}, "coefficient": None, "hidden": [8]})
    assert network.output == "image"


def test_dvfb_train_knows_them():
    command = [sys.executable, "-c", "from dvfb_stream.cli import main; main()", "train", "--json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {recipe.name: recipe.purpose for recipe in RECIPES}.items() <= listed.items()
